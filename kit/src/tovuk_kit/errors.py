"""The error family, the catalogue, and the one table between gRPC and HTTP.

Every error a user can meet has a code in `catalogue.toml`. A service raises a fact, a subclass of `TovukError` that
names its code; the interceptors of `server` and `client` carry code and parameters over gRPC; the gateway turns them
into the envelope. Nothing else in the house maps statuses.

    TovukError                  code, params, outcome, retry_after_ms
    └── one class per fact      in the errors.py of the service that finds it
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import cache
from importlib.resources import files
from typing import ClassVar

import grpc


class Family(Enum):
    """A kind of failure: its name in the catalogue, its gRPC status, its HTTP status, whether a repeat may succeed."""

    INVALID = ("invalid", grpc.StatusCode.INVALID_ARGUMENT, 400, False)
    UNAUTHENTICATED = ("unauthenticated", grpc.StatusCode.UNAUTHENTICATED, 401, False)
    PAYMENT = ("payment", grpc.StatusCode.RESOURCE_EXHAUSTED, 402, False)
    FORBIDDEN = ("forbidden", grpc.StatusCode.PERMISSION_DENIED, 403, False)
    ABSENT = ("absent", grpc.StatusCode.NOT_FOUND, 404, False)
    METHOD = ("method", grpc.StatusCode.UNIMPLEMENTED, 405, False)
    TIMEOUT = ("timeout", grpc.StatusCode.DEADLINE_EXCEEDED, 408, True)
    CONFLICT = ("conflict", grpc.StatusCode.ALREADY_EXISTS, 409, False)
    PRECONDITION = ("precondition", grpc.StatusCode.FAILED_PRECONDITION, 412, False)
    TOO_LARGE = ("too_large", grpc.StatusCode.OUT_OF_RANGE, 413, False)
    MEDIA_TYPE = ("media_type", grpc.StatusCode.INVALID_ARGUMENT, 415, False)
    HEADERS_TOO_LARGE = ("headers_too_large", grpc.StatusCode.OUT_OF_RANGE, 431, False)
    THROTTLED = ("throttled", grpc.StatusCode.RESOURCE_EXHAUSTED, 429, True)
    INTERNAL = ("internal", grpc.StatusCode.INTERNAL, 500, False)
    UNAVAILABLE = ("unavailable", grpc.StatusCode.UNAVAILABLE, 503, True)
    STORAGE_FULL = ("storage_full", grpc.StatusCode.RESOURCE_EXHAUSTED, 507, True)

    def __init__(self, label: str, status: grpc.StatusCode, http: int, retryable: bool) -> None:
        self.label = label
        self.status = status
        self.http = http
        self.retryable = retryable


class Outcome(StrEnum):
    """What became of a failed call's effect."""

    NOT_DONE = "not_done"
    DONE = "done"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Entry:
    """One code of the catalogue: constant texts, so that no tenant byte ever reaches `agent_instruction`."""

    code: str
    family: Family
    #: A `str.format` template; its fields are the error's params.
    message: str
    #: The next step, for a program.
    agent_instruction: str
    #: What the docs page says beyond message and instruction; plain paragraphs.
    explanation: str


@cache
def catalogue() -> Mapping[str, Entry]:
    """Every code with its entry, from `catalogue.toml`."""
    families = {family.label: family for family in Family}
    raw = tomllib.loads(files("tovuk_kit").joinpath("catalogue.toml").read_text())
    return {
        code: Entry(code, families[e["family"]], e["message"], e["agent_instruction"], e.get("explanation", ""))
        for code, e in raw.items()
    }


class TovukError(Exception):
    """A failure with a code of the catalogue.

    `params` fill the message template. `outcome` says what became of the effect; `retry_after_ms` when a repeat may
    succeed, None where time alone changes nothing.
    """

    code: ClassVar[str] = "internal_error"

    def __init__(
        self, *, outcome: Outcome = Outcome.NOT_DONE, retry_after_ms: int | None = None, **params: str | int
    ) -> None:
        super().__init__(self.code)
        self.outcome = outcome
        self.retry_after_ms = retry_after_ms
        self.params = {name: str(value) for name, value in params.items()}

    @property
    def entry(self) -> Entry:
        """The catalogue's entry of this error's code."""
        return catalogue()[self.code]

    @property
    def message(self) -> str:
        """The public message, its template filled in."""
        return self.entry.message.format_map(self.params)

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class RemoteError(TovukError):
    """An error another process found, with the code that came over the wire."""

    def __init__(self, code: str, params: Mapping[str, str], outcome: Outcome, retry_after_ms: int | None) -> None:
        super().__init__(outcome=outcome, retry_after_ms=retry_after_ms, **params)
        self.code = code if code in catalogue() else "internal_error"  # type: ignore[misc]


class InternalError(TovukError):
    """A fault of ours. Its cause is in the log, under the request id."""

    code = "internal_error"


class ServiceUnavailable(TovukError):
    """A service this call needs cannot be reached; nothing was done."""

    code = "service_unavailable"


class OutcomeUnknown(TovukError):
    """The service was lost after the call may have reached it; it is never sent again by us."""

    code = "outcome_unknown"


class StorageFull(TovukError):
    """No room left on the store's disk, or in its memory; reads, deletes and usage go on."""

    code = "storage_full"


class StoreUnavailable(TovukError):
    """The store under a service cannot be reached or refuses to work."""

    code = "store_unavailable"


class NotInternal(TovukError):
    """A call without the internal credential."""

    code = "internal_credential_required"
