"""Every variable control reads, all under TOVUK_CONTROL_ but those the launcher gives to several services."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from tovuk_kit.settings import Address, ServiceSettings
from tovuk_kit.tokens import may_be_genuine


class Settings(ServiceSettings):
    """Control's settings."""

    model_config = SettingsConfigDict(env_prefix="TOVUK_CONTROL_")

    #: `sqlite:///<path>`, with four slashes for an absolute one, serves one instance; `postgresql://…` any number.
    database_url: str = Field(pattern=r"^(sqlite:///|postgres(ql)?://).+")
    #: Metering's gRPC address.
    metering_target: Address = Field(validation_alias="TOVUK_METERING_TARGET")
    #: The owner's token, of the operator's choosing or of our format; empty to have one made at the first start.
    bootstrap_token: SecretStr = Field(default=SecretStr(""), validation_alias="TOVUK_BOOTSTRAP_TOKEN")
    #: Where the first start writes the owner's token, readable by this user alone; empty for nowhere.
    bootstrap_file: Path | None = None

    @field_validator("bootstrap_token")
    @classmethod
    def _token_may_be_sent(cls, token: SecretStr) -> SecretStr:
        text = token.get_secret_value()
        if text and not may_be_genuine(text):
            raise ValueError("must be 16 to 256 visible ASCII characters, and of our format where it has our prefix")
        return token
