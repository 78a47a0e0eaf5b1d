"""Every variable this service reads, all under TOVUK_SQLITE_ but those the launcher gives to several services."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from tovuk_kit.settings import Address, ServiceSettings


class Settings(ServiceSettings):
    """The sqlite service's settings."""

    model_config = SettingsConfigDict(env_prefix="TOVUK_SQLITE_")

    #: The folder of the catalog and of the databases' files.
    data_dir: Path
    #: What opens the databases: native where it is built, else stock; or one of them by name.
    engine: Literal["auto", "native", "stock"] = "auto"
    #: Queries that run at once, of all databases.
    threads: int = Field(default=8, ge=2)
    #: Control's gRPC address.
    control_target: Address = Field(validation_alias="TOVUK_CONTROL_TARGET")
    #: Metering's gRPC address.
    metering_target: Address = Field(validation_alias="TOVUK_METERING_TARGET")
