"""Writes that could not be done at once: what sets them back is removed, and they are tried again, in order.

A write is set back when units, room, a live epoch or its namespace is missing. Those of one key form a chain, which a
task of its own works off, so that they keep their order.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from tovuk_kit.errors import InternalError, Outcome, StoreUnavailable, TovukError
from tovuk_kit.holding import Lease
from tovuk_kit.leases import Meters
from tovuk_kit.meters import MeterName
from tovuk_kv.directory import Directory, Target
from tovuk_kv.errors import PreconditionFailed
from tovuk_kv.room import STORAGE, Room
from tovuk_kv.store.base import Deleted, Mutation, Namespace, NeedsRoom, Put, Refusal, Result, Store, Stored

#: How often a write that is set back is tried again before the store is given up.
ATTEMPTS_MAX = 50

_log = logging.getLogger(__name__)

WriteAnswer = Stored | Deleted | TovukError
Place = tuple[str, str, bytes]


class Write:
    """A put or delete on its way: who means what, what it is charged to, who waits."""

    __slots__ = ("answer", "lease", "meter", "mutation", "partition", "setback", "target", "ttl_seconds")

    def __init__(
        self, target: Target, mutation: Mutation, ttl_seconds: int, answer: Callable[[WriteAnswer], None]
    ) -> None:
        self.target = target
        self.mutation = mutation
        self.ttl_seconds = ttl_seconds
        self.answer = answer
        self.meter: MeterName = "kv_writes" if isinstance(mutation, Put) else "kv_deletes"
        self.partition = 0
        self.lease: Lease
        self.setback: NeedsRoom | Refusal | None = None

    @property
    def place(self) -> Place:
        """The key, as the caller names it."""
        return self.target.service_id, self.target.ref, self.mutation.key


class Setbacks:
    """The writes of this process that were set back, and how an attempt is charged and settled."""

    def __init__(
        self,
        store: Store,
        meters: Meters,
        directory: Directory,
        room: Room,
        *,
        now_ms: Callable[[], int],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._store = store
        self._meters = meters
        self._directory = directory
        self._room = room
        self._now_ms = now_ms
        self._spawn = spawn
        self._loop = asyncio.get_running_loop()
        #: By key and in order; what follows them waits behind them.
        self._chains: dict[Place, deque[Write]] = {}

    def holds_up(self, write: Write) -> bool:
        """Whether an earlier write of the same key is set back: this one then waits behind it."""
        chain = self._chains.get(write.place)
        if chain is None:
            return False
        chain.append(write)
        return True

    def charge(self, write: Write, namespace: Namespace, partition: int, lease: Lease) -> None:
        """Make the write an attempt: whom it is charged to, and when it expires if it is stored now."""
        write.partition = partition
        write.lease = lease
        mutation = write.mutation
        mutation.namespace = namespace
        mutation.epoch = lease.epoch
        mutation.lease_id = lease.id
        if write.ttl_seconds and isinstance(mutation, Put):
            # Rounded up: a value never lives shorter than its time to live.
            mutation.expires_at = -(-self._now_ms() // 1000) + write.ttl_seconds

    def settle(self, write: Write, result: Result) -> bool:
        """Account for an attempt and answer, unless it was set back and is to be tried again."""
        if isinstance(result, Stored | Deleted):
            self._meters.spent(write.lease)
            self._meters.level_changed(write.partition, write.target.account_id, STORAGE)
            write.answer(result)
        elif isinstance(result, TovukError):
            if result.outcome is Outcome.UNKNOWN:
                # The unit may stand in the store: it must not be used twice.
                self._meters.spent(write.lease)
            else:
                self._meters.release(write.lease)
            write.answer(result)
        else:
            self._meters.release(write.lease)
            if result is not Refusal.PRECONDITION:
                write.setback = result
                return True
            write.answer(PreconditionFailed())
        return False

    def take(self, write: Write) -> None:
        """Bring the write to its end, however long that takes; it is answered then."""
        if self.holds_up(write):
            return
        self._chains[write.place] = deque((write,))
        self._spawn(self._work_off(write.place))

    async def _work_off(self, place: Place) -> None:
        """Bring the writes of one key to their end, in order."""
        chain = self._chains[place]
        while chain:
            try:
                await self._persist(chain[0])
            except TovukError as error:
                chain[0].answer(error)
            except Exception:  # noqa: BLE001  # whoever waits gets an answer, and the next its turn
                _log.exception("a write failed")
                chain[0].answer(InternalError(outcome=Outcome.UNKNOWN))
            chain.popleft()
        del self._chains[place]

    async def _persist(self, write: Write) -> None:
        """Remove what sets a write back and try it again, until it is answered."""
        account_id, key = write.target.account_id, write.mutation.key
        write.partition = self._store.partition(write.target.service_id, key)
        for _ in range(ATTEMPTS_MAX):
            if write.setback is Refusal.GONE:
                self._directory.forget(write.mutation.namespace)
            elif write.setback is Refusal.FENCED:
                await self._meters.fenced(write.partition, write.mutation.epoch)
            elif isinstance(write.setback, NeedsRoom):
                await self._room.make_room(write.partition, account_id, write.setback.bytes)
            namespace = await self._directory.resolve(write.target)
            lease = await self._meters.acquire(write.partition, account_id, write.meter)
            future: asyncio.Future[Result] = self._loop.create_future()
            write.mutation.done = future.set_result
            self.charge(write, namespace, write.partition, lease)
            self._store.apply([write.mutation], self._now_ms())
            if not self.settle(write, await future):
                return
        raise StoreUnavailable(retry_after_ms=1000)
