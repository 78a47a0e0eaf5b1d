"""Answers as bytes: the error envelope and JSON successes, the same for every way a request can take."""

from typing import Any

import msgspec
import orjson

from tovuk_kit.errors import Family, TovukError

JSON = b"application/json"
HTML = b"text/html; charset=utf-8"

#: Seconds after which a refusal without a time of its own may be repeated, where its family says that a repeat helps.
_RETRY_SECONDS_DEFAULT = 1
_WAITING_FAMILIES = (Family.UNAVAILABLE, Family.THROTTLED)


class Answer(msgspec.Struct, frozen=True, gc=False):
    """One complete answer. The request id, the date and the length are added where it is written."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_type: bytes = JSON

    def all_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers in the order they are written; an answer without a body has neither type nor length."""
        if self.status == 304:
            return list(self.headers)
        return [
            (b"content-type", self.content_type),
            (b"content-length", b"%d" % len(self.body)),
            *self.headers,
        ]

    def head(self) -> bytes:
        """The same headers as they are written."""
        if self.status == 304:
            lines = b""
        else:
            lines = b"content-type: %b\r\ncontent-length: %d\r\n" % (self.content_type, len(self.body))
        for header in self.headers:
            lines += b"%b: %b\r\n" % header
        return lines


class _Lenient(dict[str, str]):
    """Params of a message; one that the other side forgot must not turn its error into another."""

    def __missing__(self, name: str) -> str:
        return name


class Envelope:
    """Builds every error answer. `public_url` is the origin of docs and checkout pages."""

    def __init__(self, public_url: str) -> None:
        self.public_url = public_url

    def docs_url(self, code: str) -> str:
        """The page of a code."""
        return f"{self.public_url}/docs/errors/{code}"

    def checkout_url(self) -> str:
        """The page that tells a human how to get a larger plan."""
        return f"{self.public_url}/plans/pro"

    def error(self, error: TovukError, request_id: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Answer:
        """The envelope of an error, with Retry-After where a repeat may help."""
        entry = error.entry
        retryable = entry.family.retryable and error.code != "outcome_unknown"
        content: dict[str, Any] = {
            "code": error.code,
            "message": entry.message.format_map(_Lenient(error.params)),
            "agent_instruction": entry.agent_instruction,
            "docs_url": self.docs_url(error.code),
        }
        if entry.family is Family.PAYMENT:
            content["checkout_url"] = self.checkout_url()
        content |= {"retryable": retryable, "outcome": error.outcome.value, "request_id": request_id}
        seconds = self._retry_seconds(error, retryable)
        if seconds is not None:
            headers = (*headers, (b"retry-after", b"%d" % seconds))
        if entry.family is Family.TIMEOUT:
            # What was not sent in time may still come, and is not the next request.
            headers = (*headers, (b"connection", b"close"))
        return Answer(entry.family.http, orjson.dumps(content), headers)

    def _retry_seconds(self, error: TovukError, retryable: bool) -> int | None:
        if error.retry_after_ms is not None:
            return max(1, -(-error.retry_after_ms // 1000))
        # A level has no window that ends, so a cap on one says nothing about time.
        if retryable and error.entry.family in _WAITING_FAMILIES and error.code != "usage_cap_reached":
            return _RETRY_SECONDS_DEFAULT
        return None


def ok(content: object, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Answer:
    """A JSON success."""
    return Answer(status, orjson.dumps(content), headers)
