"""Work beside requests: deletions under way, what the registry holds open, purged services, WALs, old backups."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from tovuk_kit import tasks
from tovuk_sqlite.backups import Backups
from tovuk_sqlite.database import Databases
from tovuk_sqlite.files import Files
from tovuk_sqlite.lifecycle import Lifecycle
from tovuk_sqlite.moves import Moves
from tovuk_sqlite.ownership import Ownership

#: Seconds between looks at deletions under way, at the registry, at the WALs, at what expired, and at moves.
DELETIONS_S, REGISTRY_S, SHRINK_S, PAGES_S, CHECKPOINT_S, MOVES_S = 1.0, 5.0, 1.0, 1.0, 0.1, 1.0
EXPIRY_S, HISTORY_S = 60.0, 3_600.0


class Upkeep:
    """Tasks that run until they are closed; each outlives its failures."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        backups: Backups,
        databases: Databases,
        files: Files,
        moves: Moves,
        ownership: Ownership,
    ) -> None:
        self._lifecycle = lifecycle
        self._backups = backups
        self._databases = databases
        self._files = files
        self._moves = moves
        self._ownership = ownership
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        for work, every_s in (
            (self._lifecycle.finish_deletions, DELETIONS_S),
            (self._lifecycle.settle, REGISTRY_S),
            (self._lifecycle.bury_services, REGISTRY_S),
            (self._databases.shrink, SHRINK_S),
            (self._databases.pages.expire, PAGES_S),
            (self._files.checkpoint, CHECKPOINT_S),
            (self._backups.expire, EXPIRY_S),
            (self._backups.tend_history, HISTORY_S),
            (self._moves.settle_all, MOVES_S),
            (self._moves.depart, MOVES_S),
        ):
            self._tasks.append(asyncio.create_task(tasks.repeat(partial(self._if_ours, work), every_s)))

    async def close(self) -> None:
        """End what runs."""
        await tasks.end(self._tasks)

    async def _if_ours(self, work: Callable[[], Awaitable[None]]) -> None:
        # What is not ours is not ours to settle.
        if self._ownership.holds:
            await work()
