"""Every variable the launcher reads; all others starting with TOVUK_ pass through to the services."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

#: A third and further gateway process pay only where the services have cores of their own.
_GATEWAYS_MAX = 4


def _gateways_by_cores() -> int:
    """One process on up to three cores; beyond, half the cores: the services and the engine need the other half."""
    return max(1, min(_GATEWAYS_MAX, len(_usable_cores()) // 2))


def _usable_cores() -> range | set[int]:
    affinity = getattr(os, "sched_getaffinity", None)
    return affinity(0) if affinity is not None else range(os.cpu_count() or 1)


class Settings(BaseSettings):
    """How one machine runs the whole product."""

    model_config = SettingsConfigDict(env_prefix="TOVUK_", frozen=True, extra="ignore", env_ignore_empty=True)

    #: Where everything durable lies: databases, the internal key, NATS' store.
    data_dir: Path = Path(".data")
    #: The address the public port listens on.
    host: str = "127.0.0.1"
    #: The public port.
    port: int = Field(default=8080, ge=1, le=65535)
    #: The base URL that clients use; empty for http://127.0.0.1:<port>.
    public_url: str = ""
    #: Gateway processes on the public port.
    gateways: int = Field(default_factory=_gateways_by_cores, ge=1, le=64)
    #: A NATS of the operator's own; empty starts one.
    nats_url: SecretStr = SecretStr("")
    #: Base URL of that NATS' monitoring port, needed to check that it syncs every message to disk.
    nats_monitor_url: str = ""
    #: The first account's token; empty lets the first start choose one.
    bootstrap_token: SecretStr = SecretStr("")

    @model_validator(mode="after")
    def _own_nats_can_be_checked(self) -> Self:
        if self.nats_url.get_secret_value() and not self.nats_monitor_url:
            raise ValueError(
                "TOVUK_NATS_URL also needs TOVUK_NATS_MONITOR_URL (for example http://nats-host:8222): "
                "usage may only travel on a NATS that syncs every message to disk, and its /varz shows that"
            )
        return self


def environment() -> Mapping[str, str]:
    """The environment the services inherit: the launcher's own, TOVUK_KV_… and the like included."""
    return dict(os.environ)
