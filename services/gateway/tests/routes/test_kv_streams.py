"""Large values are read from and written as JSON piece by piece, exactly as a whole parser would."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tovuk_gateway import limits
from tovuk_gateway.errors import BodyTooLarge, InvalidJson, ValueInvalid, ValueTooLarge
from tovuk_gateway.routes.kv_streams import PutReader, StringWriter, cut, decode_pieces


def _read(body: bytes, sizes: Iterator[int]) -> tuple[dict[str, Any], bytes]:
    reader = PutReader()
    at = 0
    while at < len(body):
        size = next(sizes)
        reader.feed(body[at : at + size])
        at += size
    content, text = reader.finish()
    return content, b"".join(text)


def _every(size: int) -> Iterator[int]:
    while True:
        yield size


@given(
    value=st.text(st.characters(exclude_categories=["Cs"])),
    metadata=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers()),
    ascii_only=st.booleans(),
    size=st.integers(1, 40),
)
@example(value="\\" * 7 + "ud800", metadata={"value": 1}, ascii_only=True, size=1)
@example(value='"}],[{:"value":"x"', metadata={}, ascii_only=False, size=2)
@example(value="😀" * 20, metadata={}, ascii_only=True, size=7)
@example(value="😀" * 20, metadata={}, ascii_only=False, size=3)
def test_the_value_and_the_rest_are_those_of_a_whole_parser(
    value: str, metadata: dict[str, int], ascii_only: bool, size: int
) -> None:
    body = {"encoding": "text", "metadata": metadata, "value": value, "more": [{"value": "inner"}, "value"]}
    content, text = _read(json.dumps(body, ensure_ascii=ascii_only).encode(), _every(size))
    assert text.decode() == value
    assert content == {**body, "value": ""}


@given(st.binary(), st.integers(1, 9))
def test_every_byte_of_a_body_is_read_like_a_whole_parser_or_refused(body: bytes, size: int) -> None:
    try:
        wanted = json.loads(body)
    except ValueError:
        wanted = None
    try:
        content, _ = _read(body, _every(size))
    except (InvalidJson, ValueInvalid):
        return
    assert isinstance(wanted, dict) and content.keys() == wanted.keys()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 7, 11, 100])
@pytest.mark.parametrize(
    "body",
    [
        b'{"value":"\\ud800"}',
        b'{"value":"\\ud800x"}',
        b'{"value":"\\udc00"}',
        b'{"value":"\\x"}',
        b'{"value":"\\u12g4"}',
        b'{"value":"\xff"}',
        b'{"value":"\xe2\x82"}',
        b'{"value":"a\nb"}',
        b'{"value":"a',
        b'{"value":"a"',
        b'{"value":"a"}}',
        b'{"value":"a" "b"}',
        b'{"value":"a\\"}',
    ],
)
def test_a_broken_body_is_refused_wherever_it_is_cut(body: bytes, size: int) -> None:
    with pytest.raises(InvalidJson):
        _read(body, _every(size))


def test_an_escaped_name_is_the_name_and_the_last_of_several_wins() -> None:
    assert _read(b'{"value":"first","\\u0076alue":"last"}', _every(4)) == ({"value": ""}, b"last")
    content, _ = _read(b'{"value":"first","value":7}', _every(4))
    assert content == {"value": 7}


def test_what_stands_beside_the_value_is_bounded() -> None:
    with pytest.raises(BodyTooLarge):
        _read(b'{"metadata":"%b"}' % (b"x" * limits.PUT_SKELETON_BYTES_MAX), _every(10_000))
    with pytest.raises(BodyTooLarge):
        _read(b" " * (limits.PUT_SKELETON_BYTES_MAX + 1), _every(10_000))


def test_a_text_beyond_the_largest_base64_is_refused_before_it_is_all_there() -> None:
    reader = PutReader()
    reader.feed(b'{"value":"')
    for _ in range(533):
        reader.feed(b"a" * 65_536)
    with pytest.raises(ValueTooLarge):
        reader.feed(b"a" * 65_536)


def test_the_largest_value_passes_in_the_longest_escaping() -> None:
    body = b'{"value":"' + b"\\u0041" * limits.VALUE_BYTES_MAX + b'"}'
    assert len(body) <= limits.PUT_BODY_BYTES_MAX
    content, text = _read(body, _every(65_536))
    assert content == {"value": ""}
    assert text == b"A" * limits.VALUE_BYTES_MAX


@given(st.binary(), st.lists(st.integers(1, 9), min_size=1))
def test_base64_in_pieces_is_what_it_is_whole(value: bytes, sizes: list[int]) -> None:
    text = base64.b64encode(value)
    pieces, at, turn = [], 0, 0
    while at < len(text):
        size = sizes[turn % len(sizes)]
        pieces.append(bytearray(text[at : at + size]))
        at, turn = at + size, turn + 1
    assert b"".join(decode_pieces(pieces, "base64")) == value


@pytest.mark.parametrize("text", [b"YQ", b"YQ=", b"YQ==YQ==", b"Y Q==", b"YQ==\n", b"_-==", b"=", b"A===", b"YQ==="])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_base64_without_padding_or_with_strange_characters_is_refused(text: bytes, size: int) -> None:
    pieces = [bytearray(text[at : at + size]) for at in range(0, len(text), size)]
    with pytest.raises(ValueInvalid):
        decode_pieces(pieces, "base64")


@given(st.lists(st.binary(max_size=20)), st.integers(1, 16))
def test_cut_keeps_the_bytes_and_bounds_each_piece(pieces: list[bytes], size: int) -> None:
    out = list(cut(pieces, size))
    assert b"".join(out) == b"".join(pieces)
    assert all(len(piece) == size for piece in out[:-1])


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 7))
def test_text_is_written_as_json_wherever_it_is_cut(text: str, size: int) -> None:
    writer = StringWriter("text")
    raw = text.encode()
    out = b"".join(writer.write(raw[at : at + size]) for at in range(0, len(raw), size)) + writer.write(b"", last=True)
    assert json.loads(b'"' + out + b'"') == text


@given(st.binary(), st.integers(1, 7))
def test_bytes_are_written_as_base64_wherever_they_are_cut(value: bytes, size: int) -> None:
    writer = StringWriter("base64")
    out = b"".join(writer.write(value[at : at + size]) for at in range(0, len(value), size))
    assert base64.b64decode(out + writer.write(b"", last=True), validate=True) == value
