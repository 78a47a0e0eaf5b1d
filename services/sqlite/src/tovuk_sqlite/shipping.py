"""Shipping the histories of databases beside requests: what was committed is in the archive within a second."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Final

from tovuk_kit import tasks
from tovuk_kit.errors import TovukError
from tovuk_sqlite.chain import Chain
from tovuk_sqlite.history import History
from tovuk_sqlite.limits import BASES_ENTRIES_MAX, SHIPMENTS_ENTRIES_MAX

#: Seconds between looks at what was written.
SHIP_EVERY_S: Final = 0.25
#: Seconds until an archive that failed is tried again.
PAUSE_S: Final = 1.0
#: How long an orderly end waits for the last shipments; what is not shipped is shipped by the next process.
CLOSE_WITHIN_S: Final = 5.0

_log = logging.getLogger(__name__)


class Shipping:
    """The threads that ship. Copying a base takes long, so that bases hold up no shipment."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._shippers = ThreadPoolExecutor(SHIPMENTS_ENTRIES_MAX, thread_name_prefix="ship")
        self._copiers = ThreadPoolExecutor(BASES_ENTRIES_MAX, thread_name_prefix="base")
        self._under_way: set[tuple[Chain, str]] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._paused_until = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Ship what is left, within a bound, and end."""
        if self._task is not None:
            await tasks.end([self._task])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN_S):
                self.round()
                while self._running:
                    await asyncio.wait(self._running)
        self._shippers.shutdown(wait=False, cancel_futures=True)
        self._copiers.shutdown(wait=False, cancel_futures=True)

    def round(self) -> None:
        """Begin to ship all that is due."""
        if time.monotonic() < self._paused_until:
            return
        for chain in self._history.due():
            self._begin("ship", chain, self._shippers, self._history.ship)

    async def _run(self) -> None:
        while True:
            self.round()
            await asyncio.sleep(SHIP_EVERY_S)

    def _begin(self, kind: str, chain: Chain, threads: Executor, work: Callable[[Chain], None]) -> None:
        if (chain, kind) in self._under_way:
            return
        self._under_way.add((chain, kind))
        task = asyncio.get_running_loop().create_task(self._do(kind, chain, threads, work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _do(self, kind: str, chain: Chain, threads: Executor, work: Callable[[Chain], None]) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(threads, work, chain)
        except TovukError as error:
            self._paused_until = time.monotonic() + PAUSE_S
            _log.warning("the history of %s waits: %s", chain.database_id, error, exc_info=error.__cause__)
        except Exception:  # noqa: BLE001  # one database's history holds up no other's
            self._paused_until = time.monotonic() + PAUSE_S
            _log.exception("the history of %s cannot be shipped", chain.database_id)
        finally:
            self._under_way.discard((chain, kind))
        if kind == "ship" and chain.base_wanted:
            self._begin("base", chain, self._copiers, self._history.take_base)
