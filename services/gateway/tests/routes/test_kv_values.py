"""The JSON of one value, in both directions."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tovuk.kv.v1 import frames
from tovuk_gateway import errors
from tovuk_gateway.routes import kv_values
from tovuk_kit.errors import Outcome, RemoteError, TovukError

TARGET = ("account", "service", "CACHE", "user:1")


def _put(content: Any, if_match: bytes | None = None, if_none_match: bytes | None = None) -> frames.Put:
    return kv_values.put_op(*TARGET, json.dumps(content).encode(), if_match, if_none_match)


@pytest.mark.proves("KV-012")
def test_a_put_carries_value_metadata_and_expiry() -> None:
    op = _put({"value": '{"name":"Ada"}', "metadata": {"kind": "profile", "é": 1.0}, "expirationTtlSeconds": 3600})
    assert op.value == b'{"name":"Ada"}'
    assert op.metadata == '{"kind":"profile","é":1.0}'.encode()
    assert (op.encoding, op.expires_at, op.ttl_seconds) == ("text", 0, 3600)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ([], errors.ValueInvalid),
        ({}, errors.ValueInvalid),
        ({"value": 1}, errors.ValueInvalid),
        ({"value": None}, errors.ValueInvalid),
        ({"value": "a", "encoding": "hex"}, errors.ValueInvalid),
        ({"value": "a", "encoding": ["text"]}, errors.ValueInvalid),
        ({"value": "a", "encoding": "base64"}, errors.ValueInvalid),
        ({"value": "YQ", "encoding": "base64"}, errors.ValueInvalid),
        ({"value": "YQ==\n", "encoding": "base64"}, errors.ValueInvalid),
        ({"value": "é", "encoding": "base64"}, errors.ValueInvalid),
        ({"value": "a", "metadata": []}, errors.MetadataInvalid),
        ({"value": "a", "metadata": "x"}, errors.MetadataInvalid),
        ({"value": "a", "expiration": 1.5}, errors.ExpirationInvalid),
        ({"value": "a", "expiration": "1"}, errors.ExpirationInvalid),
        ({"value": "a", "expiration": True}, errors.ExpirationInvalid),
        ({"value": "a", "expiration": -1}, errors.ExpirationInvalid),
        ({"value": "a", "expiration": 2**53}, errors.ExpirationInvalid),
        ({"value": "a", "expiration": 1, "expirationTtlSeconds": 60}, errors.ExpirationInvalid),
        ({"value": "a", "expirationTtlSeconds": 29}, errors.TtlTooShort),
        ({"value": "a", "expirationTtlSeconds": 0}, errors.TtlTooShort),
        ({"value": "a", "expirationTtlSeconds": 30.0}, errors.ExpirationInvalid),
        ({"value": "a", "expirationTtlSeconds": 10**30}, errors.ExpirationInvalid),
    ],
)
@pytest.mark.proves("KV-053")
def test_a_field_of_the_wrong_shape_has_its_own_error(content: Any, error: type[TovukError]) -> None:
    with pytest.raises(error):
        _put(content)


def test_null_counts_as_absent() -> None:
    op = _put({"value": "", "encoding": None, "metadata": None, "expiration": None, "expirationTtlSeconds": None})
    assert (op.value, op.encoding, op.metadata, op.expires_at, op.ttl_seconds) == (b"", "text", b"", 0, 0)


def test_the_first_second_of_time_is_past_and_not_never() -> None:
    assert _put({"value": "a", "expiration": 0}).expires_at == 1


@pytest.mark.parametrize(
    ("header", "strong", "weak"),
    [
        (b'"17"', '"17"', '"17"'),
        (b' "17" , "18" ', '"17","18"', '"17","18"'),
        (b'W/"17"', '"-"', '"17"'),
        (b"*", "*", "*"),
        (b'"abc"', '"-"', '"-"'),
        (b'""', '"-"', '"-"'),
        (None, "", ""),
    ],
)
def test_etags_become_versions(header: bytes | None, strong: str, weak: str) -> None:
    assert kv_values.condition(header, weak=False) == strong
    assert kv_values.condition(header, weak=True) == weak


@pytest.mark.parametrize("header", [b"17", b'"17', b'"17" "18"', b"", b'*, "17"', b'"\xff"'])
def test_what_is_no_etag_is_refused(header: bytes) -> None:
    with pytest.raises(errors.InvalidRequest):
        kv_values.condition(header, weak=True)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.binary())
def test_every_value_comes_back_byte_for_byte(key: str, value: bytes) -> None:
    op = kv_values.get_op("a", "s", "n", key, None)
    answer = kv_values.answer_of(op, frames.Value(1, value, "base64", b'{"a":1}', 5, 7))
    assert answer is not None
    content = json.loads(answer.body)
    assert base64.b64decode(content.pop("value")) == value
    assert content == {"key": key, "encoding": "base64", "metadata": {"a": 1}, "expiration": 5, "etag": '"7"'}


def test_text_can_be_asked_for_as_base64() -> None:
    op = kv_values.get_op(*TARGET, None)
    answer = kv_values.answer_of(op, frames.Value(1, "é".encode(), "text", b"", 0, 7), base64=True)
    assert answer is not None
    content = json.loads(answer.body)
    assert (content["value"], content["encoding"]) == (base64.b64encode("é".encode()).decode(), "base64")
    assert content["metadata"] is None and content["expiration"] is None


def test_a_refusal_keeps_its_code_and_time() -> None:
    op = kv_values.get_op(*TARGET, None)
    with pytest.raises(RemoteError) as caught:
        kv_values.answer_of(op, RemoteError("usage_cap_reached", {"limit": "1"}, Outcome.NOT_DONE, 1500))
    assert (caught.value.code, caught.value.retry_after_ms) == ("usage_cap_reached", 1500)


def test_a_large_value_is_fetched_otherwise() -> None:
    assert kv_values.answer_of(kv_values.get_op(*TARGET, None), frames.Large(1)) is None


def test_an_answer_of_another_operation_is_a_fault() -> None:
    with pytest.raises(TypeError):
        kv_values.answer_of(kv_values.get_op(*TARGET, None), frames.Page(1, [], ""))
