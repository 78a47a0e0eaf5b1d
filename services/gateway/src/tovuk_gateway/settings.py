"""Every variable the gateway reads, all under TOVUK_GATEWAY_ but those the launcher gives to several services."""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from tovuk_kit.settings import Address, Addresses, ServiceSettings


def _host_port(text: str) -> str:
    if text.startswith("unix:"):
        raise ValueError("must be host:port")
    return text


class Settings(ServiceSettings):
    """The gateway's settings."""

    model_config = SettingsConfigDict(env_prefix="TOVUK_GATEWAY_")

    #: host:port of the public API.
    listen: Annotated[Address, AfterValidator(_host_port)] = "127.0.0.1:8080"
    #: Control's gRPC address.
    control_target: Address = Field(validation_alias="TOVUK_CONTROL_TARGET")
    #: Metering's gRPC address.
    metering_target: Address = Field(validation_alias="TOVUK_METERING_TARGET")
    #: The KV replicas' gRPC addresses, separated by commas. The order is part of how keys are spread.
    kv_targets: Addresses = Field(validation_alias="TOVUK_KV_TARGETS")
    #: Whom people write to about plans, as shown on /plans pages; an address or a sentence.
    operator_contact: str = "the operator of this Tovuk installation"
    #: Memory for the bodies of large requests that are in flight at once in this process, in bytes.
    bodies_bytes_max: int = Field(default=64 * 1024 * 1024, ge=1024 * 1024)
    #: How long to wait for the other services at start before listening all the same, in seconds.
    start_wait_seconds: float = Field(default=20.0, ge=0)
    #: How long requests in flight may take after SIGTERM, in seconds.
    drain_seconds: int = Field(default=25, ge=1)
