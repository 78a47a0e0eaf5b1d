"""Bulk requests: validated and budgeted whole, one unit an entry, applied entry by entry, answered after all.

Source: decisions.md, KV. Duplicates are applied in order, each for its unit, so that the last wins. What fails after
the first entry was applied (the store, a namespace deleted meanwhile) says that the outcome is unknown.
"""

import asyncio
import codecs
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from tovuk_kit.clock import Clock
from tovuk_kit.errors import Outcome, TovukError
from tovuk_kit.holding import Lease
from tovuk_kit.leases import Meters, UsageSettling
from tovuk_kit.meters import MeterName
from tovuk_kv.directory import Target
from tovuk_kv.errors import BodyTooLarge, BulkInvalid, BulkTooMany, NamespaceNotFound, ValueInvalid
from tovuk_kv.limits import (
    BULK_BODY_BYTES_MAX,
    BULK_READ_KEYS_MAX,
    BULK_STEP_BYTES_MAX,
    BULK_STEP_ENTRIES_MAX,
    BULK_WRITE_ENTRIES_MAX,
    BULK_WRITES_CONCURRENT_MAX,
    INLINE_VALUE_BYTES_MAX,
)
from tovuk_kv.namespace import BUFFERED_STORE, Namespaces, discard
from tovuk_kv.room import STORAGE
from tovuk_kv.setbacks import Write, WriteAnswer
from tovuk_kv.store.base import (
    Delete,
    Deleted,
    Found,
    Growth,
    Lookup,
    Mutation,
    Namespace,
    OpenValue,
    Put,
    Record,
    Refusal,
    Store,
    Upload,
)
from tovuk_kv.validation import check_head, check_key, check_text, check_value_bytes

#: Locks that accounts share while they gather a bulk request's units.
BUDGET_LOCKS = 64

_log = logging.getLogger(__name__)


class EntryPart(Protocol):
    """An entry of a bulk write, or behind one with `more` the next bytes of its value; as it comes off the wire."""

    key: bytes
    value: bytes
    encoding: str
    metadata: bytes
    expires_at: int
    ttl_seconds: int
    #: Whether more of the value follows.
    more: bool


@dataclass(frozen=True, slots=True)
class Applied:
    """How many entries were applied, and of deletions how many keys existed."""

    applied: int
    existed: int


class Bulk:
    """Bulk operations over namespaces."""

    def __init__(self, namespaces: Namespaces, store: Store, meters: Meters, clock: Clock) -> None:
        self._namespaces = namespaces
        self._store = store
        self._meters = meters
        self._now_ms = clock.wall_ms
        self._writes = asyncio.Semaphore(BULK_WRITES_CONCURRENT_MAX)
        self._budgets = [asyncio.Lock() for _ in range(BUDGET_LOCKS)]

    async def put(self, target: Target, entries: int, batches: AsyncIterator[Iterable[EntryPart]]) -> Applied:
        """Write all entries.

        Raises BulkTooMany, BodyTooLarge, BulkInvalid, NamespaceNotFound, and what budgets and the store raise.
        """
        if entries > BULK_WRITE_ENTRIES_MAX:
            raise BulkTooMany(operation="write", limit=BULK_WRITE_ENTRIES_MAX)
        namespace = await self._namespaces.directory.resolve(target)
        async with self._writes:
            writes: list[Write] = []
            unstarted: list[Write] = writes
            try:
                await self._receive(target, entries, batches, writes)
                leases = await self._budget(target, "kv_writes", writes)
                unstarted = list(writes)
                held: dict[int, Growth] = {}
                try:
                    try:
                        await self._make_room(namespace, writes, held)
                    except BaseException:
                        self._release(leases, unstarted)
                        raise
                    await self._apply(namespace, leases, unstarted)
                finally:
                    await self._let_room_go(target.account_id, held)
            except BaseException:
                for write in unstarted:
                    if isinstance(write.mutation, Put) and not isinstance(write.mutation.value, bytes):
                        await discard(write.mutation.value)
                raise
        return Applied(len(writes), 0)

    async def delete(self, target: Target, keys: Sequence[bytes]) -> Applied:
        """Delete all keys. Raises as `put`."""
        if len(keys) > BULK_WRITE_ENTRIES_MAX:
            raise BulkTooMany(operation="delete", limit=BULK_WRITE_ENTRIES_MAX)
        _check_keys(keys)
        namespace = await self._namespaces.directory.resolve(target)
        writes = [self._write(target, Delete(key, "", ""), 0) for key in keys]
        leases = await self._budget(target, "kv_deletes", writes)
        existed = await self._apply(namespace, leases, writes)
        return Applied(len(keys), existed)

    async def get(self, target: Target, keys: Sequence[bytes]) -> AsyncGenerator[Record | OpenValue | None, None]:
        """The values in request order, None for absent keys; a large one is open until the next is asked for.

        Raises BulkTooMany, BulkInvalid, NamespaceNotFound, and what budgets and the store raise.
        """
        if len(keys) > BULK_READ_KEYS_MAX:
            raise BulkTooMany(operation="read", limit=BULK_READ_KEYS_MAX)
        _check_keys(keys)
        if not keys:
            return
        namespace, records = await self._read(target, keys)
        for key, record in zip(keys, records, strict=True):
            if record is None or record.value is not None:
                yield record
                continue
            opened = await self._store.open_value(namespace, key, self._now_ms())
            if isinstance(opened, Refusal):
                raise NamespaceNotFound
            try:
                yield opened
            finally:
                if opened is not None:
                    await opened.close()

    async def _read(self, target: Target, keys: Sequence[bytes]) -> tuple[Namespace, list[Record | None]]:
        while True:
            namespace = await self._namespaces.directory.resolve(target)
            lease = await self._meters.acquire(BUFFERED_STORE, target.account_id, "kv_reads", len(keys))
            found = await self._look_up(namespace, lease, keys)
            if isinstance(found, TovukError):
                raise found
            if not isinstance(found, Refusal):
                return namespace, found
            self._namespaces.directory.forget(namespace)

    def _look_up(
        self, namespace: Namespace, lease: Lease, keys: Sequence[bytes]
    ) -> "asyncio.Future[list[Record | None] | TovukError | Refusal]":
        """All records, or what went wrong with one. The units are settled even when nobody waits any more."""
        answered: asyncio.Future[list[Record | None] | TovukError | Refusal]
        answered = asyncio.get_running_loop().create_future()
        records: list[Record | None] = [None] * len(keys)
        failure: TovukError | Refusal | None = None
        left = len(keys)

        def take(index: int, found: Found) -> None:
            nonlocal failure, left
            if found is None or isinstance(found, Record):
                records[index] = found
            else:
                failure = found
            left -= 1
            if left:
                return
            if failure is None:
                self._meters.count(lease, namespace.service_id, namespace.id, len(keys))
            else:
                self._meters.release(lease, len(keys))
            if not answered.done():
                answered.set_result(records if failure is None else failure)

        lookups = [Lookup(namespace, key, partial(take, index)) for index, key in enumerate(keys)]
        self._store.read(lookups, self._now_ms())
        return answered

    async def _receive(
        self, target: Target, entries: int, batches: AsyncIterator[Iterable[EntryPart]], writes: list[Write]
    ) -> None:
        """Validate the entries as they come, and keep them: small values in hand, large ones beside."""
        body_bytes = 0
        large = _LargeEntry(self._store, target.service_id)
        try:
            async for parts in batches:
                for part in parts:
                    body_bytes += len(part.key) + len(part.value) + len(part.metadata)
                    if body_bytes > BULK_BODY_BYTES_MAX:
                        raise BodyTooLarge(limit_bytes=BULK_BODY_BYTES_MAX)
                    head = large.head or part
                    try:
                        if large.head or part.more or len(part.value) > INLINE_VALUE_BYTES_MAX:
                            put = await large.take(part)
                        else:
                            put = _small(part)
                    except TovukError as error:
                        if error.entry.family.http >= 500:
                            raise
                        raise BulkInvalid(index=len(writes), reason=error.message) from error
                    if put is not None:
                        writes.append(self._write(target, put, head.ttl_seconds))
            if len(writes) != entries:
                raise BulkInvalid(index=len(writes), reason="the request ended before it")
        finally:
            await large.discard()

    def _write(self, target: Target, mutation: Mutation, ttl_seconds: int) -> Write:
        write = Write(target, mutation, ttl_seconds, _ignore)
        write.partition = self._store.partition(target.service_id, mutation.key)
        return write

    async def _budget(self, target: Target, meter: MeterName, writes: Sequence[Write]) -> dict[int, Lease]:
        """All units or none: a lease of every partition concerned, its units reserved."""
        if not writes:
            return {}
        units = Counter(write.partition for write in writes)
        # One after the other: two that hold half of their units each would wait for each other.
        async with self._budgets[hash(target.account_id) % len(self._budgets)]:
            try:
                return await self._acquire(target, meter, units)
            except UsageSettling:
                if len(units) == 1:
                    raise
            # Some partitions' units may keep the others' from being refused: asked for as one, the answer is final.
            first, count = min(units), len(writes)
            self._meters.release(await self._meters.acquire(first, target.account_id, meter, count), count)
            return await self._acquire(target, meter, units)

    async def _acquire(self, target: Target, meter: MeterName, units: Counter[int]) -> dict[int, Lease]:
        leases: dict[int, Lease] = {}
        try:
            for partition, count in sorted(units.items()):
                leases[partition] = await self._meters.acquire(partition, target.account_id, meter, count)
        except BaseException:
            for partition, lease in leases.items():
                self._meters.release(lease, units[partition])
            raise
        return leases

    async def _make_room(self, namespace: Namespace, writes: Sequence[Write], held: dict[int, Growth]) -> None:
        """Room for the level's highest point on the way, kept by `held`, before the first entry is applied."""
        puts = [write.mutation for write in writes]
        sizes = [(put.key, put.stored_bytes) for put in puts if isinstance(put, Put)]
        try:
            await self._hold_room(namespace, sizes, held)
        except UsageSettling:
            if len(held) == 1:
                raise
            # As with units: asked for as one, the answer is final.
            await self._let_room_go(namespace.account_id, held)
            first, growth = min(held), sum(growth.bytes for growth in held.values())
            held.clear()
            level = await self._store.usage_stores[first].level(namespace.account_id, STORAGE)
            await self._namespaces.room.make_room(first, namespace.account_id, level.bytes + growth)
            await self._hold_room(namespace, sizes, held)

    async def _hold_room(
        self, namespace: Namespace, sizes: Sequence[tuple[bytes, int]], held: dict[int, Growth]
    ) -> None:
        held.update(await self._store.hold_room(namespace, sizes))
        for partition, growth in held.items():
            wanted = growth.level_bytes + growth.bytes
            if wanted > growth.allowance:
                await self._namespaces.room.make_room(partition, namespace.account_id, wanted)

    async def _let_room_go(self, account_id: str, held: Mapping[int, Growth]) -> None:
        try:
            await self._store.let_room_go(account_id, held)
        except TovukError as error:
            _log.info("room that is held lapses by itself: %s", error)

    async def _apply(self, namespace: Namespace, leases: Mapping[int, Lease], writes: list[Write]) -> int:
        """Apply in order, a bounded step at a time; takes what it has started out of `writes`.

        Returns how many keys deletions found.
        """
        applied = existed = 0
        try:
            while writes:
                step = _step(writes)
                del writes[: len(step)]
                answers = _Answers(len(step))
                for index, write in enumerate(step):
                    write.answer = partial(self._answered, write.mutation, answers, index)
                    self._namespaces.start(write, namespace, write.partition, leases[write.partition])
                failure: TovukError | None = None
                for answer in await answers.complete:
                    if isinstance(answer, TovukError):
                        failure = failure or answer
                    else:
                        applied += 1
                        existed += isinstance(answer, Deleted) and answer.existed
                if failure is not None:
                    if applied:
                        failure.outcome = Outcome.UNKNOWN
                    raise failure
        finally:
            self._release(leases, writes)
        return existed

    def _answered(self, mutation: Mutation, answers: "_Answers", index: int, answer: WriteAnswer) -> None:
        if isinstance(answer, TovukError):
            self._namespaces.discard_value(mutation, answer)
        answers.take(index, answer)

    def _release(self, leases: Mapping[int, Lease], unstarted: Sequence[Write]) -> None:
        for write in unstarted:
            self._meters.release(leases[write.partition])


class _Answers:
    """The answers of one step by index, and one future for all of them."""

    def __init__(self, size: int) -> None:
        self.complete: asyncio.Future[list[WriteAnswer]] = asyncio.get_running_loop().create_future()
        self._answers: dict[int, WriteAnswer] = {}
        self._size = size

    def take(self, index: int, answer: WriteAnswer) -> None:
        """One of them, in any order."""
        self._answers[index] = answer
        if len(self._answers) == self._size and not self.complete.done():
            self.complete.set_result([self._answers[index] for index in range(self._size)])


def _small(part: EntryPart) -> Put:
    """The put of an entry that is all here. Raises what `validation` raises."""
    check_key(part.key)
    check_head(part.encoding, part.metadata, part.expires_at, part.ttl_seconds)
    if part.encoding == "text":
        check_text(part.value)
    put = Put(part.key, part.value, part.encoding, part.metadata, "", "")
    put.expires_at = part.expires_at
    return put


class _LargeEntry:
    """The entry of a bulk write that is being received in parts, or whose value lies beside."""

    def __init__(self, store: Store, service_id: str) -> None:
        self._store = store
        self._service_id = service_id
        #: The first part of an entry that goes on.
        self.head: EntryPart | None = None
        self._value = bytearray()
        self._upload: Upload | None = None
        self._value_bytes = 0
        self._decoder: codecs.IncrementalDecoder | None = None

    async def take(self, part: EntryPart) -> Put | None:
        """The put, when this part was its last. Raises what `validation` raises."""
        head = self.head
        if head is None:
            head = self.head = part
            check_key(part.key)
            check_head(part.encoding, part.metadata, part.expires_at, part.ttl_seconds)
            self._value_bytes = 0
            self._value.clear()
            self._decoder = codecs.getincrementaldecoder("utf-8")() if part.encoding == "text" else None
        self._value_bytes += len(part.value)
        check_value_bytes(self._value_bytes)
        if self._decoder is not None:
            try:
                self._decoder.decode(part.value, final=not part.more)
            except UnicodeDecodeError as error:
                raise ValueInvalid(reason="text must be UTF-8") from error
        self._value += part.value
        if self._upload is None and self._value_bytes > INLINE_VALUE_BYTES_MAX:
            self._upload = await self._store.upload(self._service_id, head.key)
        if self._upload is not None:
            await self._upload.write(bytes(self._value))
            self._value.clear()
        if part.more:
            return None
        value: bytes | Upload = bytes(self._value)
        if self._upload is not None:
            await self._upload.finish()
            value, self._upload = self._upload, None
        put = Put(head.key, value, head.encoding, head.metadata, "", "")
        put.expires_at = head.expires_at
        self.head = None
        return put

    async def discard(self) -> None:
        """Remove what was written beside of an unfinished entry."""
        if self._upload is not None:
            await discard(self._upload)
            self._upload = None


def _check_keys(keys: Sequence[bytes]) -> None:
    for index, key in enumerate(keys):
        try:
            check_key(key)
        except TovukError as error:
            raise BulkInvalid(index=index, reason=error.message) from error


def _step(writes: Sequence[Write]) -> list[Write]:
    size = 0
    for count, write in enumerate(writes[:BULK_STEP_ENTRIES_MAX], start=1):
        mutation = write.mutation
        size += len(mutation.value) if isinstance(mutation, Put) and isinstance(mutation.value, bytes) else 0
        if size > BULK_STEP_BYTES_MAX:
            return list(writes[:count])
    return list(writes[:BULK_STEP_ENTRIES_MAX])


def _ignore(answer: WriteAnswer) -> None:
    """Nobody waits yet: the step a write is applied in sets who does."""
