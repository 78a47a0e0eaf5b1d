"""Every variable this service reads, all under TOVUK_SQLITE_ but those the launcher gives to several services."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_settings import SettingsConfigDict

from tovuk_kit.settings import Address, ServiceSettings


class Settings(ServiceSettings):
    """The sqlite service's settings."""

    model_config = SettingsConfigDict(env_prefix="TOVUK_SQLITE_")

    #: The folder of the catalog and of the databases' files.
    data_dir: Path
    #: The name of the shard that lies in this folder; each folder has a name of its own.
    shard: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")] = "shard-1"
    #: Where the gateway reaches this process; where it listens, unless that is every address of a host.
    address: Address | None = None
    #: How long the shard stays this process's while control cannot be reached, in seconds; another machine's waits.
    ownership_seconds: float = Field(default=30.0, ge=1.0, le=3600.0)
    #: What opens the databases: native where it is built, else stock; or one of them by name.
    engine: Literal["auto", "native", "stock"] = "auto"
    #: Where backups and the history are kept: `file:///path`, or `s3+https://key:secret@host:port/bucket/prefix`, also
    #: with `s3+http` and `?region=`; empty for `archive` in the data folder.
    archive_url: str = Field(default="", pattern=r"^$|^file:///.+|^s3\+https?://[^/@]+:[^/@]+@[^/@]+/.+")
    #: Queries that run at once, of all databases.
    threads: int = Field(default=8, ge=2)
    #: Control's gRPC address.
    control_target: Address = Field(validation_alias="TOVUK_CONTROL_TARGET")
    #: Metering's gRPC address.
    metering_target: Address = Field(validation_alias="TOVUK_METERING_TARGET")

    @property
    def reached_at(self) -> str:
        """Where others reach this process."""
        return self.address or self.listen

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.address is None and self.listen.startswith(("0.0.0.0:", "[::]:")):
            raise ValueError("TOVUK_SQLITE_ADDRESS must say where this process is reached")
        return self
