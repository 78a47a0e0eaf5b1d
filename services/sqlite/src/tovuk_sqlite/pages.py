"""Reads that wait for their next page: each on a connection of its own, on its snapshot, for a short time.

One that is not waited for any longer is let go of: its cursor then leads there by passing over the rows before.
"""

import secrets
import time
from collections import Counter
from dataclasses import dataclass
from threading import Lock

from tovuk_sqlite.files import Files
from tovuk_sqlite.limits import SUSPENDED_ENTRIES_MAX, SUSPENDED_PER_ACCOUNT_ENTRIES_MAX, SUSPENDED_SECONDS
from tovuk_sqlite.store.base import Database, Reader


@dataclass(frozen=True, slots=True)
class _Waiting:
    database: Database
    reader: Reader
    until_s: float


class Pages:
    """The suspended reads of all databases. `keep` is called on any thread, the rest on the loop's."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._lock = Lock()
        self._waiting: dict[str, _Waiting] = {}
        self._by_account: Counter[str] = Counter()

    def keep(self, database: Database, reader: Reader) -> str:
        """Keep the reader's statement open; what `take` wants for it. Empty where too many are, and it was ended."""
        with self._lock:
            mine = self._by_account[database.account_id]
            if len(self._waiting) < SUSPENDED_ENTRIES_MAX and mine < SUSPENDED_PER_ACCOUNT_ENTRIES_MAX:
                page = secrets.token_hex(8)
                self._waiting[page] = _Waiting(database, reader, time.monotonic() + SUSPENDED_SECONDS)
                self._by_account[database.account_id] += 1
                return page
        reader.let_go()
        return ""

    def take(self, database: Database, page: str) -> Reader | None:
        """The reader, if it still waits on this generation of the database. It waits no longer."""
        waiting = self._waiting.get(page)
        if waiting is None or waiting.database != database:
            return None
        self._forget(page)
        return waiting.reader

    async def expire(self) -> None:
        """Let go of those that nobody came for."""
        now = time.monotonic()
        for page, waiting in [(page, waiting) for page, waiting in self._waiting.items() if waiting.until_s < now]:
            self._forget(page)
            self._files.let_go(waiting.database, waiting.reader)

    def _forget(self, page: str) -> None:
        with self._lock:
            account_id = self._waiting.pop(page).database.account_id
            self._by_account[account_id] -= 1
            if not self._by_account[account_id]:
                del self._by_account[account_id]
