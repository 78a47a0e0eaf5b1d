"""Every error has one envelope, and no tenant byte reaches its instruction."""

import orjson
import pytest

from tovuk_gateway.envelope import Envelope
from tovuk_gateway.errors import InvalidPath, RequestTimeout
from tovuk_kit.errors import Family, Outcome, RemoteError, catalogue

ENVELOPE = Envelope("https://house.test")


def _error(code: str, retry_after_ms: int | None = None, **params: str) -> RemoteError:
    return RemoteError(code, params, Outcome.NOT_DONE, retry_after_ms)


@pytest.mark.proves("KV-039")
@pytest.mark.parametrize("code", sorted(catalogue()))
def test_every_code_has_a_whole_envelope_with_constant_instruction(code: str) -> None:
    answer = ENVELOPE.error(_error(code, meter="<tenant>", service="<tenant>"), "request_1")
    content = orjson.loads(answer.body)
    entry = catalogue()[code]
    assert answer.status == entry.family.http
    assert {"code", "message", "agent_instruction", "docs_url", "retryable", "outcome", "request_id"} <= set(content)
    assert content["agent_instruction"] == entry.agent_instruction
    assert content["docs_url"] == f"https://house.test/docs/errors/{code}"
    assert ("checkout_url" in content) == (entry.family is Family.PAYMENT)


def test_retry_after_is_in_whole_seconds_rounded_up() -> None:
    headers = dict(ENVELOPE.error(_error("usage_cap_reached", 1001), "r").headers)
    assert headers[b"retry-after"] == b"2"
    assert b"retry-after" not in dict(ENVELOPE.error(_error("usage_cap_reached"), "r").headers)


def test_an_unknown_outcome_is_not_called_retryable() -> None:
    content = orjson.loads(ENVELOPE.error(_error("outcome_unknown", service="kv"), "r").body)
    assert content["retryable"] is False


def test_a_late_request_ends_its_connection() -> None:
    assert (b"connection", b"close") in ENVELOPE.error(RequestTimeout(), "r").headers


def test_params_are_shown_in_the_message() -> None:
    content = orjson.loads(ENVELOPE.error(InvalidPath(reason="a segment is empty"), "r").body)
    assert "a segment is empty" in content["message"]
