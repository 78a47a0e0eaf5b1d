"""A gate before the writes of each database, closed while a restore puts another generation in place."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tovuk_sqlite.errors import DatabaseBusy
from tovuk_sqlite.limits import GATE_SECONDS_MAX


class Gates:
    """Writes pass; one who closes a gate waits until those inside have left."""

    def __init__(self) -> None:
        self._inside: Counter[str] = Counter()
        self._closed: set[str] = set()
        self._changed = asyncio.Condition()
        self._waking: set[asyncio.Task[None]] = set()

    async def enter(self, database_id: str) -> None:
        """Pass. Only afterwards is it certain which generation is written. Raises DatabaseBusy."""
        if database_id in self._closed:
            try:
                async with asyncio.timeout(GATE_SECONDS_MAX), self._changed:
                    await self._changed.wait_for(lambda: database_id not in self._closed)
            except TimeoutError:
                raise DatabaseBusy(retry_after_ms=1_000) from None
        self._inside[database_id] += 1

    def enter_at_once(self, database_id: str) -> bool:
        """Pass, if the gate is open."""
        if database_id in self._closed:
            return False
        self._inside[database_id] += 1
        return True

    def leave(self, database_id: str) -> None:
        """The write has ended."""
        self._inside[database_id] -= 1
        if not self._inside[database_id]:
            del self._inside[database_id]
        if database_id in self._closed:
            task = asyncio.get_running_loop().create_task(self._wake())
            self._waking.add(task)
            task.add_done_callback(self._waking.discard)

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    @asynccontextmanager
    async def closed(self, database_id: str) -> AsyncIterator[None]:
        """Nobody is inside, and nobody enters."""
        self._closed.add(database_id)
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: database_id not in self._inside)
            yield
        finally:
            self._closed.discard(database_id)
            async with self._changed:
                self._changed.notify_all()
