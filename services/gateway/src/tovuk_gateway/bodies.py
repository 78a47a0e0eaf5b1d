"""Request bodies: read piece by piece, under a limit, in time, and within a bound on the memory of all of them."""

import asyncio
import re
import zlib
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from tovuk_gateway import limits
from tovuk_gateway.chain import Disconnected, Receive
from tovuk_gateway.errors import BodyTooLarge, InvalidJson, InvalidRequest, RequestTimeout, UnsupportedMediaType

#: Decompressed bytes between two turns of the event loop.
_INFLATE_STEP_BYTES = 256 * 1024

_JSON_TYPE = re.compile(rb"application/(?:json|[a-z0-9.+-]+\+json)\s*(?:;.*)?", re.IGNORECASE)
_BRACKETS = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[{]|[\]}]', re.DOTALL)


class Gate:
    """Admits large bodies first come, first served, while the bytes they may hold fit the bound."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._free = bytes_max
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, wanted_bytes: int) -> AsyncIterator[None]:
        """Room for so many bytes; a body larger than the bound has it alone."""
        size = min(wanted_bytes, self._bytes_max)
        await self._take(size)
        try:
            yield
        finally:
            self._free += size
            self._admit()

    async def _take(self, size: int) -> None:
        if not self._waiting and self._free >= size:
            self._free -= size
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.append((size, place))
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._free += size
            else:
                self._waiting.remove((size, place))
            self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            size, place = self._waiting.popleft()
            if not place.cancelled():
                self._free -= size
                place.set_result(None)


def check_type(headers: Mapping[str, str], *, gzip: bool = False) -> bool:
    """Whether the body is compressed; UnsupportedMediaType for a type that is not JSON or a coding the route lacks."""
    kind = headers.get("content-type")
    if kind is not None and not _JSON_TYPE.fullmatch(kind.encode("latin-1").strip()):
        raise UnsupportedMediaType
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding == "identity":
        return False
    if not gzip or coding not in {"gzip", "x-gzip"}:
        raise UnsupportedMediaType
    return True


def declared_length(headers: Mapping[str, str]) -> int | None:
    """Content-Length, None when the body is chunked."""
    text = headers.get("content-length")
    return int(text) if text is not None else None


async def pieces(receive: Receive, *, limit_bytes: int, length: int | None) -> AsyncIterator[bytes]:
    """The body as it comes. Raises BodyTooLarge, RequestTimeout, Disconnected."""
    if length is not None and length > limit_bytes:
        raise BodyTooLarge(limit_bytes=limit_bytes)
    loop = asyncio.get_running_loop()
    end = loop.time() + limits.BODY_SECONDS_MAX
    total = 0
    while True:
        pause = min(limits.BODY_PAUSE_SECONDS_MAX, end - loop.time())
        try:
            async with asyncio.timeout(pause):
                message = await receive()
        except TimeoutError:
            raise RequestTimeout from None
        if message["type"] == "http.disconnect":
            raise Disconnected
        piece = message.get("body", b"")
        total += len(piece)
        if total > limit_bytes:
            raise BodyTooLarge(limit_bytes=limit_bytes)
        if piece:
            yield piece
        if not message.get("more_body", False):
            return


async def whole(receive: Receive, headers: Mapping[str, str], *, limit_bytes: int, gzip: bool = False) -> bytearray:
    """The whole body, decompressed; the limit is on what comes out."""
    compressed = check_type(headers, gzip=gzip)
    body = bytearray()
    source = pieces(receive, limit_bytes=limit_bytes, length=declared_length(headers))
    async for piece in _inflate(source, limit_bytes) if compressed else source:
        body += piece
    return body


async def _inflate(source: AsyncIterator[bytes], limit_bytes: int) -> AsyncIterator[bytes]:
    """The bytes of a gzip file, of one or several members, never more than the limit."""
    inflater = zlib.decompressobj(wbits=31)
    total = 0
    started = False
    async for piece in source:
        data = piece
        while data:
            if inflater.eof:
                inflater = zlib.decompressobj(wbits=31)
            started = True
            try:
                out = inflater.decompress(data, _INFLATE_STEP_BYTES)
            except zlib.error:
                raise InvalidRequest(reason="the gzip body is damaged") from None
            data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            total += len(out)
            if total > limit_bytes:
                raise BodyTooLarge(limit_bytes=limit_bytes)
            yield out
            await asyncio.sleep(0)
    if not started or not inflater.eof:
        raise InvalidRequest(reason="the gzip body is cut short")


_decode = msgspec.json.Decoder().decode


def strict_json(body: bytes | bytearray) -> Any:
    """A body's value. InvalidJson for anything but strict JSON: NaN, lone surrogates, invalid UTF-8, deep nesting."""
    check_depth(body)
    try:
        return _decode(body)
    except msgspec.DecodeError as error:
        raise InvalidJson(reason=str(error).removeprefix("JSON is malformed: ")) from None
    except UnicodeDecodeError:
        raise InvalidJson(reason="it is not UTF-8") from None


def json_object(body: bytes | bytearray) -> dict[str, Any]:
    """A body's object; an empty body is an empty object."""
    if not body:
        return {}
    value = strict_json(body)
    if not isinstance(value, dict):
        raise InvalidRequest(reason="the body must be a JSON object")
    return value


def check_depth(body: bytes | bytearray) -> None:
    """InvalidJson for nesting beyond the limit."""
    if body.count(b"[") + body.count(b"{") <= limits.JSON_DEPTH_MAX:
        return
    depth = 0
    for match in _BRACKETS.finditer(body):
        character = body[match.start()]
        if character in b"[{":
            depth += 1
            if depth > limits.JSON_DEPTH_MAX:
                raise InvalidJson(reason=f"it is nested deeper than {limits.JSON_DEPTH_MAX} levels")
        elif character in b"]}":
            depth -= 1
