"""Cursors: any change of any byte is noticed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tovuk_kv.cursor import decode_cursor, encode_cursor
from tovuk_kv.errors import InvalidCursor

SECRET = b"s" * 32


@given(st.binary(max_size=512), st.binary(max_size=20))
def test_a_cursor_gives_back_its_key(key: bytes, prefix: bytes) -> None:
    assert decode_cursor(SECRET, "kv_1", prefix, encode_cursor(SECRET, "kv_1", prefix, key)) == key


@given(st.text(max_size=60))
def test_what_was_not_given_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(SECRET, "kv_1", b"", text)


def test_a_cursor_belongs_to_its_secret_namespace_and_prefix() -> None:
    cursor = encode_cursor(SECRET, "kv_1", b"a", b"ab")
    for secret, namespace, prefix in ((b"t" * 32, "kv_1", b"a"), (SECRET, "kv_2", b"a"), (SECRET, "kv_1", b"")):
        with pytest.raises(InvalidCursor):
            decode_cursor(secret, namespace, prefix, cursor)
