"""Every variable KV reads, all under TOVUK_KV_ but those the launcher gives to several services."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
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


_ENGINE_OF = {"data_dir": "sqlite", "redis_url": "redis"}


class Settings(ServiceSettings):
    """KV's settings."""

    model_config = SettingsConfigDict(env_prefix="TOVUK_KV_")

    #: Where keys live: `sqlite` (with `data_dir`; one process) or `redis` (with `redis_url`; any number of processes).
    engine: Literal["sqlite", "redis"]
    #: The folder of the SQLite file and the large values beside it.
    data_dir: Path | None = Field(default=None, validate_default=True)
    #: `redis://`, `rediss://` or `unix://`, with user, password and database where needed.
    redis_url: str = Field(default="", validate_default=True, pattern=r"^$|^(rediss?|unix)://.+")
    #: Control's gRPC address.
    control_target: Address = Field(validation_alias="TOVUK_CONTROL_TARGET")
    #: Metering's gRPC address.
    metering_target: Address = Field(validation_alias="TOVUK_METERING_TARGET")

    @field_validator("data_dir", "redis_url")
    @classmethod
    def _engine_is_whole(cls, value: Path | str | None, info: ValidationInfo) -> Path | str | None:
        if not value and info.data.get("engine") == _ENGINE_OF[info.field_name or ""]:
            raise ValueError(f"is needed by the {info.data['engine']} engine")
        return value

    @property
    def store(self) -> SqliteEngine | RedisEngine:
        """The engine with what it needs."""
        if self.engine == "sqlite":
            assert self.data_dir is not None
            return SqliteEngine(self.data_dir)
        return RedisEngine(self.redis_url)
