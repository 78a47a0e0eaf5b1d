"""Work beside requests: expired keys, deletions under way, what the registry holds open, purged services."""

import asyncio

from tovuk_kit import tasks
from tovuk_kv.lifecycle import Lifecycle
from tovuk_kv.namespace import Namespaces
from tovuk_kv.store.base import Store

#: Seconds between sweeps of expired keys, and between looks at deletions under way.
SWEEP_S, DELETIONS_S = 1.0, 1.0
#: Seconds between looks at the registry, and between the engine's own chores.
REGISTRY_S, MAINTAIN_S = 5.0, 5.0


class Upkeep:
    """Tasks that run until they are closed; each outlives its failures."""

    def __init__(self, store: Store, namespaces: Namespaces, lifecycle: Lifecycle) -> None:
        self._store = store
        self._namespaces = namespaces
        self._lifecycle = lifecycle
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        for work, every_s in (
            (self._sweep, SWEEP_S),
            (self._lifecycle.finish_deletions, DELETIONS_S),
            (self._lifecycle.settle, REGISTRY_S),
            (self._lifecycle.bury_services, REGISTRY_S),
            (self._store.maintain, MAINTAIN_S),
        ):
            self._tasks.append(asyncio.create_task(tasks.repeat(work, every_s)))

    async def close(self) -> None:
        """End what runs."""
        await tasks.end(self._tasks)

    async def _sweep(self) -> None:
        await self._namespaces.room.sweep()
