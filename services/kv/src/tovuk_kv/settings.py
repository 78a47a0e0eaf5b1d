"""Every variable KV reads, all under TOVUK_KV_ but those the launcher gives to several services."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from tovuk_kit.settings import Address, ServiceSettings


@dataclass(frozen=True, slots=True)
class SqliteEngine:
    """Keys in a SQLite file of this process."""

    data_dir: Path


@dataclass(frozen=True, slots=True)
class RedisEngine:
    """Keys in a Redis that processes share."""

    url: str


class Settings(ServiceSettings):
    """KV's settings."""

    model_config = SettingsConfigDict(env_prefix="TOVUK_KV_")

    #: Where keys live: `sqlite` (with `data_dir`; one process) or `redis` (with `redis_url`; any number of processes).
    engine: Literal["sqlite", "redis"]
    #: The folder of the SQLite file and the large values beside it.
    data_dir: Path | None = None
    #: `redis://`, `rediss://` or `unix://`, with user, password and database where needed.
    redis_url: str = Field(default="", pattern=r"^$|^(rediss?|unix)://.+")
    #: Control's gRPC address.
    control_target: Address = Field(validation_alias="TOVUK_CONTROL_TARGET")
    #: Metering's gRPC address.
    metering_target: Address = Field(validation_alias="TOVUK_METERING_TARGET")

    @model_validator(mode="after")
    def _engine_is_whole(self) -> "Settings":
        if self.engine == "sqlite" and self.data_dir is None:
            raise ValueError("TOVUK_KV_DATA_DIR is needed by the sqlite engine")
        if self.engine == "redis" and not self.redis_url:
            raise ValueError("TOVUK_KV_REDIS_URL is needed by the redis engine")
        return self

    @property
    def store(self) -> SqliteEngine | RedisEngine:
        """The engine with what it needs."""
        if self.engine == "sqlite":
            assert self.data_dir is not None
            return SqliteEngine(self.data_dir)
        return RedisEngine(self.redis_url)
