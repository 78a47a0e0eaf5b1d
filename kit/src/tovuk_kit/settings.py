"""What every service's settings share, and how a service reads them: whole, once, at start."""

import re
import sys
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_HOST_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/]+):\d{1,5}")
_URL_PASSWORD = re.compile(r"(?<=://)([^/@\s:]*):[^/@\s]*@")

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


def _listen_address(text: str) -> str:
    if not (_HOST_PORT.fullmatch(text) or (text.startswith("unix:/") and len(text) > len("unix:/"))):
        raise ValueError("must be unix:/path or host:port")
    return text


def _optional_host_port(text: str) -> str:
    if text and not _HOST_PORT.fullmatch(text):
        raise ValueError("must be host:port, or empty for none")
    return text


def _split_commas(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


#: A gRPC address to listen on or to call: `unix:/path` or `host:port`.
Address = Annotated[str, AfterValidator(_listen_address)]
#: Several addresses in one variable, separated by commas; at least one.
Addresses = Annotated[tuple[Address, ...], NoDecode, BeforeValidator(_split_commas), Field(min_length=1)]


class ServiceSettings(BaseSettings):
    """The settings every service has. A service adds its own and names its `env_prefix`."""

    # Decoding is left to validators: pydantic-settings stops at the first value it cannot decode, and an operator is to
    # see every problem at once. An empty variable is an absent one, as compose files write them.
    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", populate_by_name=True, enable_decoding=False, env_ignore_empty=True
    )

    #: The shared secret of the platform's own processes; at least 16 characters.
    internal_key: SecretStr = Field(validation_alias="TOVUK_INTERNAL_KEY", min_length=16)
    #: Where NATS listens; empty for none, and notices then hurry nothing.
    nats_url: str = Field(default="", validation_alias="TOVUK_NATS_URL")
    #: The public origin, without a slash at its end.
    public_url: str = Field(
        default="http://127.0.0.1:8080", validation_alias="TOVUK_PUBLIC_URL", pattern=r"^https?://.+[^/]$"
    )
    #: An OTLP/gRPC collector; tracing is off without one.
    otel_endpoint: str | None = Field(default=None, validation_alias="TOVUK_OTEL_ENDPOINT")
    #: The least severe log record that is written.
    log_level: LogLevel = Field(default="INFO", validation_alias="TOVUK_LOG_LEVEL")
    #: The gRPC address to listen on.
    listen: Address
    #: host:port of /healthz, /readyz and /metrics; empty for none.
    ops_listen: Annotated[str, AfterValidator(_optional_host_port)] = ""

    def describe(self) -> str:
        """Every setting on one line, for the log at start; secrets and passwords within URLs are starred."""
        return " ".join(f"{name}={_redact(getattr(self, name))}" for name in type(self).model_fields)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.describe()})"

    __str__ = __repr__


SettingsType = TypeVar("SettingsType", bound=BaseSettings)


def load(cls: type[SettingsType]) -> SettingsType:
    """The settings from the environment. Prints every problem to stderr, never a value, and exits with 2."""
    try:
        return cls()
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False, include_context=False):
            sys.stderr.write(f"{_variable(cls, str(problem['loc'][0]))}: {problem['msg']}\n")
        sys.exit(2)


def _variable(cls: type[BaseSettings], place: str) -> str:
    field = cls.model_fields.get(place)
    if field is None:
        return place
    alias = field.validation_alias
    return alias if isinstance(alias, str) else f"{cls.model_config.get('env_prefix', '')}{place}".upper()


def _redact(value: object) -> str:
    return "***" if isinstance(value, SecretStr) else _URL_PASSWORD.sub(r"\1:***@", str(value))
