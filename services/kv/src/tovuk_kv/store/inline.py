"""A small value opened for streaming: it came with its record."""

from collections.abc import AsyncIterator

from tovuk_kv.store.base import Record


class OpenInline:
    """The whole value in hand."""

    def __init__(self, record: Record, value: bytes) -> None:
        self.record = record
        self._value = value

    async def chunks(self) -> AsyncIterator[bytes]:
        if self._value:
            yield self._value

    async def close(self) -> None:
        self._value = b""
