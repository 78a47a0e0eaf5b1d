"""Every variable metering reads, all under TOVUK_METERING_ but those the launcher gives to several services."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from tovuk_kit.settings import Address, ServiceSettings


class Settings(ServiceSettings):
    """Metering's settings."""

    model_config = SettingsConfigDict(env_prefix="TOVUK_METERING_")

    #: `sqlite:///<path>`, with four slashes for an absolute one, or `postgresql://…`; one process serves it at a time.
    database_url: str = Field(pattern=r"^(sqlite:///|postgres(ql)?://).+")
    #: Control's gRPC address, where notices go.
    control_target: Address = Field(validation_alias="TOVUK_CONTROL_TARGET")
    #: Where `/varz` shows NATS' settings, `http://host:port`; without it they cannot be checked.
    nats_monitor_url: str = Field(default="", validation_alias="TOVUK_NATS_MONITOR_URL")
