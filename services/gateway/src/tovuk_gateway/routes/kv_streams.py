"""Large values on their way through: JSON is read and written piece by piece, so that memory stays bounded.

A large put's value is taken out of its JSON while it arrives; what is left, with an empty string in its place, is then
parsed by the same strict decoder as any body. A large get's value is written as JSON chunk by chunk.
"""

import binascii
import codecs
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import msgspec
import orjson

from tovuk_gateway import limits
from tovuk_gateway.bodies import strict_json
from tovuk_gateway.errors import BodyTooLarge, InvalidJson, ValueInvalid, ValueTooLarge

_STRUCTURE = re.compile(rb'["{}\[\],:]')
# Complete characters and escapes of a string; stops before its end quote, an escape that is cut off, or a wrong one.
_UNITS = re.compile(rb'(?:[^"\\]++|\\u[0-9A-Fa-f]{4}|\\[^u])*+', re.DOTALL)
_HIGH_SURROGATE = re.compile(rb"\\u[dD][89abAB][0-9A-Fa-f]{2}")
_BACKSLASH = ord("\\")
_ESCAPE_BYTES_MAX = 6
#: Text is gathered in pieces of about this size, however small those are that arrive.
_PIECE_BYTES = 64 * 1024
#: Base64 text of the largest value.
_TEXT_BYTES_MAX = 4 * -(-limits.VALUE_BYTES_MAX // 3)

_decode_string = msgspec.json.Decoder(str).decode


class PutReader:
    """Takes the value out of a put's body while it arrives. Feed it pieces, then `finish`."""

    def __init__(self) -> None:
        self._skeleton = bytearray()
        self._text: list[bytearray] = []
        self._text_bytes = 0
        self._rest = b""
        self._depth = 0
        self._in_string = False
        self._diverting = False
        self._string_start = 0
        self._last_key: bytes = b""
        self._last_mark = b""

    def feed(self, piece: bytes) -> None:
        """Take the next piece. Raises InvalidJson, ValueTooLarge, BodyTooLarge as soon as they are certain."""
        data = self._rest + piece
        at = 0
        while at < len(data):
            end = self._in_a_string(data, at) if self._in_string else self._between_strings(data, at)
            if end == at:
                break
            at = end
        self._rest = data[at:]
        if len(self._skeleton) > limits.PUT_SKELETON_BYTES_MAX:
            raise BodyTooLarge(limit_bytes=limits.PUT_SKELETON_BYTES_MAX)

    def finish(self) -> tuple[dict[str, Any], list[bytearray]]:
        """The body's object, its value as an empty string, and the value's text in UTF-8, in pieces."""
        if self._in_string or self._rest:
            raise InvalidJson(reason="a string is cut short")
        content = strict_json(bytes(self._skeleton))
        if not isinstance(content, dict):
            raise ValueInvalid(reason="the body must be a JSON object with a value")
        return content, self._text

    def _between_strings(self, data: bytes, at: int) -> int:
        """Copy up to and with the next mark of JSON's structure."""
        match = _STRUCTURE.search(data, at)
        if match is None:
            self._skeleton += data[at:]
            return len(data)
        mark = match[0]
        self._skeleton += data[at : match.end()]
        if mark == b'"':
            self._begin_string()
            return match.end()
        if mark in b"{[":
            self._depth += 1
        elif mark in b"}]":
            self._depth -= 1
        self._last_mark = mark
        return match.end()

    def _begin_string(self) -> None:
        self._in_string = True
        self._string_start = len(self._skeleton)
        self._diverting = self._depth == 1 and self._last_mark == b":" and self._last_key == b"value"
        if self._diverting:
            # The last of several wins, as in any JSON object.
            self._text.clear()
            self._text_bytes = 0

    def _in_a_string(self, data: bytes, at: int) -> int:
        """Take the complete characters that are there, and the end quote if it is."""
        match = _UNITS.match(data, at)
        end = match.end() if match else at
        if data[end : end + 1] == b'"':
            self._take(data[at:end])
            self._end_string()
            return end + 1
        if len(data) - end >= _ESCAPE_BYTES_MAX:
            raise InvalidJson(reason="a string has an escape that JSON does not know")
        end = _complete(data, at, end)
        self._take(data[at:end])
        return end

    def _take(self, raw: bytes) -> None:
        if not raw:
            return
        if not self._diverting:
            self._skeleton += raw
            if len(self._skeleton) > limits.PUT_SKELETON_BYTES_MAX:
                raise BodyTooLarge(limit_bytes=limits.PUT_SKELETON_BYTES_MAX)
            return
        text = _unescape(raw)
        self._text_bytes += len(text)
        if self._text_bytes > _TEXT_BYTES_MAX:
            raise ValueTooLarge(limit_bytes=limits.VALUE_BYTES_MAX)
        if not self._text or len(self._text[-1]) >= _PIECE_BYTES:
            self._text.append(bytearray())
        self._text[-1] += text

    def _end_string(self) -> None:
        self._in_string = False
        if self._depth == 1 and self._last_mark != b":":
            self._last_key = _unescape(bytes(self._skeleton[self._string_start :]))
        self._diverting = False
        self._skeleton += b'"'


def _complete(data: bytes, start: int, end: int) -> int:
    """Where the last complete character before `end` stops: neither within UTF-8 nor between two surrogates."""
    escape = end - _ESCAPE_BYTES_MAX
    if escape >= start and _HIGH_SURROGATE.fullmatch(data, escape, end):
        # An escaped backslash before a plain u looks the same; only an odd run of backslashes begins an escape.
        first = escape
        while first > start and data[first - 1] == _BACKSLASH:
            first -= 1
        if (escape - first) % 2 == 0:
            return escape
    for back in range(1, min(4, end - start) + 1):
        byte = data[end - back]
        if byte < 0x80:
            return end
        if byte >= 0xC0:
            wanted = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return end - back if back < wanted else end
    return end


def _unescape(raw: bytes) -> bytes:
    """The UTF-8 text of a piece of a JSON string."""
    try:
        return _decode_string(b'"%b"' % raw).encode()
    except msgspec.DecodeError as error:
        raise InvalidJson(reason=str(error).removeprefix("JSON is malformed: ")) from None
    except UnicodeDecodeError:
        raise InvalidJson(reason="it is not UTF-8") from None


def decode_pieces(text: list[bytearray], encoding: str) -> list[bytes | bytearray]:
    """The value's bytes from its text. Empties `text` as it goes, so that both are never in memory whole."""
    if encoding == "text":
        return list(text)
    text.reverse()
    decoded: list[bytes | bytearray] = []
    rest = bytearray()
    while text:
        piece = rest + text.pop()
        # Padding may only stand at the very end: all but the last four characters are decoded as a text without it.
        usable = max(len(piece) - 4, 0) // 4 * 4 if text else len(piece)
        head, rest = piece[:usable], piece[usable:]
        if text and b"=" in head:
            raise ValueInvalid(reason="its base64 has padding before its end")
        try:
            decoded.append(binascii.a2b_base64(head, strict_mode=True))
        except binascii.Error:
            raise ValueInvalid(reason="it is not base64 with padding, of the standard alphabet") from None
    return decoded


def cut(pieces: Iterable[bytes | bytearray], chunk_bytes: int) -> Iterator[bytes]:
    """The pieces again, none larger than a chunk and few much smaller."""
    gathered = bytearray()
    for piece in pieces:
        gathered += piece
        while len(gathered) >= chunk_bytes:
            yield bytes(gathered[:chunk_bytes])
            del gathered[:chunk_bytes]
    if gathered:
        yield bytes(gathered)


class StringWriter:
    """Writes a value as the inside of a JSON string, chunk by chunk."""

    def __init__(self, encoding: str) -> None:
        self._text = codecs.getincrementaldecoder("utf-8")() if encoding == "text" else None
        self._rest = b""

    def write(self, chunk: bytes, *, last: bool = False) -> bytes:
        """JSON of the chunk; what is half a character waits for the next."""
        if self._text is not None:
            return orjson.dumps(self._text.decode(chunk, last))[1:-1]
        data = self._rest + chunk
        usable = len(data) if last else len(data) // 3 * 3
        self._rest = data[usable:]
        return binascii.b2a_base64(data[:usable], newline=False)


async def value_stream(head: bytes, chunks: AsyncIterator[bytes], encoding: str, tail: bytes) -> AsyncIterator[bytes]:
    """One value's JSON: `head` up to the value's first quote, the value, `tail` from its last quote on."""
    writer = StringWriter(encoding)
    yield head
    async for chunk in chunks:
        yield writer.write(chunk)
    yield writer.write(b"", last=True) + tail
