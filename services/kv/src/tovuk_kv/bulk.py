"""Bulk requests: validated and budgeted whole, one unit an entry, applied entry by entry, answered after all.

Source: decisions.md, KV. Duplicates are applied in order, each for its unit, so that the last wins. What fails after
the first entry was applied (the store, a namespace deleted meanwhile) says that the outcome is unknown.
"""

import asyncio
import codecs
import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial

from tovuk_kit.clock import Clock
from tovuk_kit.errors import Outcome, TovukError
from tovuk_kit.holding import Lease
from tovuk_kit.leases import Meters, UsageSettling
from tovuk_kit.meters import MeterName
from tovuk_kit.usage import UNLIMITED
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
from tovuk_kv.namespace import BUFFERED_STORE, STORAGE, Namespaces, Target, Write, WriteAnswer, discard
from tovuk_kv.store.base import (
    Delete,
    Deleted,
    Found,
    Lookup,
    Namespace,
    OpenValue,
    Put,
    Record,
    Refusal,
    Store,
    Upload,
)
from tovuk_kv.store.inline import OpenInline
from tovuk_kv.validation import check_head, check_key, check_value_bytes

#: Locks that accounts share while they gather a bulk request's units.
BUDGET_LOCKS = 64

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EntryPart:
    """An entry of a bulk write, or with `goes_on` the next bytes of the value of the one before."""

    key: bytes
    encoding: str
    metadata: bytes
    expires_at: int
    ttl_seconds: int
    value: bytes
    goes_on: bool
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

    async def put(self, target: Target, entries: int, parts: AsyncIterator[EntryPart]) -> Applied:
        """Write all entries.

        Raises BulkTooMany, BodyTooLarge, BulkInvalid, NamespaceNotFound, and what budgets and the store raise.
        """
        if entries > BULK_WRITE_ENTRIES_MAX:
            raise BulkTooMany(operation="write", limit=BULK_WRITE_ENTRIES_MAX)
        namespace = await self._namespaces.resolve(target)
        async with self._writes:
            writes: list[Write] = []
            unstarted: list[Write] = writes
            try:
                await self._receive(target, entries, parts, writes)
                leases = await self._budget(target, "kv_writes", [write.mutation.key for write in writes])
                unstarted = list(writes)
                held: Counter[int] = Counter()
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
        namespace = await self._namespaces.resolve(target)
        leases = await self._budget(target, "kv_deletes", keys)
        writes = [Write(target, Delete(key, "", ""), 0, _ignore) for key in keys]
        answers = await self._apply(namespace, leases, writes)
        return Applied(len(keys), sum(isinstance(answer, Deleted) and answer.existed for answer in answers))

    async def get(self, target: Target, keys: Sequence[bytes]) -> AsyncIterator[OpenValue | None]:
        """The values in request order, None for absent keys; each is closed when the next is asked for.

        Raises BulkTooMany, BulkInvalid, NamespaceNotFound, and what budgets and the store raise.
        """
        if len(keys) > BULK_READ_KEYS_MAX:
            raise BulkTooMany(operation="read", limit=BULK_READ_KEYS_MAX)
        _check_keys(keys)
        if not keys:
            return
        namespace, found = await self._read(target, keys)
        for key, record in zip(keys, found, strict=True):
            opened: OpenValue | Refusal | None
            if record is None:
                opened = None
            elif record.value is not None:
                opened = OpenInline(record, record.value)
            else:
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
            namespace = await self._namespaces.resolve(target)
            lease = await self._meters.acquire(BUFFERED_STORE, target.account_id, "kv_reads", len(keys))
            found = await self._look_up(namespace, lease, keys)
            if isinstance(found, TovukError):
                raise found
            if not isinstance(found, Refusal):
                return namespace, found
            self._namespaces.forget(namespace)

    def _look_up(
        self, namespace: Namespace, lease: Lease, keys: Sequence[bytes]
    ) -> "asyncio.Future[list[Record | None] | TovukError | Refusal]":
        """All records, or what went wrong with one. The units are settled even when nobody waits any more."""
        answered: asyncio.Future[list[Record | None] | TovukError | Refusal]
        answered = asyncio.get_running_loop().create_future()
        records: dict[int, Record | None] = {}
        failures: dict[int, TovukError | Refusal] = {}

        def take(index: int, found: Found) -> None:
            if isinstance(found, TovukError | Refusal):
                failures[index] = found
            else:
                records[index] = found
            if len(records) + len(failures) < len(keys):
                return
            if failures:
                self._meters.release(lease, len(keys))
            else:
                self._meters.count(lease, namespace.service_id, namespace.id, len(keys))
            if not answered.done():
                answered.set_result(next(iter(failures.values()), [records[at] for at in sorted(records)]))

        lookups = [Lookup(namespace, key, partial(take, index)) for index, key in enumerate(keys)]
        self._store.read(lookups, self._now_ms())
        return answered

    async def _receive(
        self, target: Target, entries: int, parts: AsyncIterator[EntryPart], writes: list[Write]
    ) -> None:
        """Validate the entries as they come, and keep them: small values in hand, large ones beside."""
        body_bytes = 0
        entry = _Entry(self._store, target.service_id)
        async for part in parts:
            body_bytes += len(part.key) + len(part.value) + len(part.metadata)
            if body_bytes > BULK_BODY_BYTES_MAX:
                await entry.discard()
                raise BodyTooLarge(limit_bytes=BULK_BODY_BYTES_MAX)
            try:
                put = await entry.take(part)
            except TovukError as error:
                await entry.discard()
                if error.entry.family.http >= 500:
                    raise
                raise BulkInvalid(index=len(writes), reason=error.message) from error
            if put is not None:
                writes.append(Write(target, put, entry.ttl_seconds, _ignore))
        if len(writes) != entries:
            await entry.discard()
            raise BulkInvalid(index=len(writes), reason="the request ended before it")

    async def _budget(self, target: Target, meter: MeterName, keys: Sequence[bytes]) -> dict[int, Lease]:
        """All units or none: a lease of every partition concerned, its units reserved."""
        if not keys:
            return {}
        units = Counter(self._store.partition(target.service_id, key) for key in keys)
        # One after the other: two that hold half of their units each would wait for each other.
        async with self._budgets[hash(target.account_id) % len(self._budgets)]:
            try:
                return await self._acquire(target, meter, units)
            except UsageSettling:
                if len(units) == 1:
                    raise
            # Some partitions' units may keep the others' from being refused: asked for as one, the answer is final.
            first = min(units)
            self._meters.release(await self._meters.acquire(first, target.account_id, meter, len(keys)), len(keys))
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

    async def _make_room(self, namespace: Namespace, writes: Sequence[Write], held: Counter[int]) -> None:
        """Room for the level's highest point on the way, kept by `held`, before the first entry is applied."""
        keys = list({write.mutation.key for write in writes})
        sizes = await self._store.stored_bytes(namespace, keys)
        grown: Counter[int] = Counter()
        highest: Counter[int] = Counter()
        for write in writes:
            assert isinstance(write.mutation, Put)
            key, size = write.mutation.key, write.mutation.stored_bytes
            partition = self._store.partition(namespace.service_id, key)
            grown[partition] += size - sizes.get(key, 0)
            sizes[key] = size
            highest[partition] = max(highest[partition], grown[partition])
        growth = {partition: size for partition, size in highest.items() if size > 0}
        try:
            await self._hold_room(namespace.account_id, growth, held)
        except UsageSettling:
            if len(growth) == 1:
                raise
            # As with units: asked for as one, the answer is final.
            await self._let_room_go(namespace.account_id, held)
            held.clear()
            first = min(growth)
            level = await self._store.usage_stores[first].level(namespace.account_id, STORAGE)
            await self._namespaces.make_room(first, namespace.account_id, level.bytes + sum(growth.values()))
            await self._hold_room(namespace.account_id, growth, held)

    async def _hold_room(self, account_id: str, growth: dict[int, int], held: Counter[int]) -> None:
        for partition, size in growth.items():
            level = await self._store.usage_stores[partition].level(account_id, STORAGE)
            if level.allowance == UNLIMITED:
                continue
            held[partition] += size
            await self._store.hold_room(partition, account_id, size)
            await self._namespaces.make_room(partition, account_id, level.bytes + size)

    async def _let_room_go(self, account_id: str, held: Counter[int]) -> None:
        for partition, size in held.items():
            try:
                await self._store.hold_room(partition, account_id, -size)
            except TovukError as error:
                _log.info("room that is held lapses by itself: %s", error)

    async def _apply(self, namespace: Namespace, leases: dict[int, Lease], writes: list[Write]) -> list[WriteAnswer]:
        """Apply in order, a bounded step at a time; takes what it has started out of `writes`."""
        loop = asyncio.get_running_loop()
        answers: list[WriteAnswer] = []
        try:
            while writes:
                step = _step(writes)
                del writes[: len(step)]
                futures: list[asyncio.Future[WriteAnswer]] = []
                for write in step:
                    future: asyncio.Future[WriteAnswer] = loop.create_future()
                    futures.append(future)
                    write.answer = partial(self._answered, write, future)
                    partition = self._store.partition(namespace.service_id, write.mutation.key)
                    self._namespaces.start(write, namespace, partition, leases[partition])
                answers += await asyncio.gather(*futures)
                for answer in answers[-len(step) :]:
                    if isinstance(answer, TovukError):
                        if len(answers) > len(step) or not all(isinstance(other, TovukError) for other in answers):
                            answer.outcome = Outcome.UNKNOWN
                        raise answer
        finally:
            self._release(leases, writes)
        return answers

    def _answered(self, write: Write, future: "asyncio.Future[WriteAnswer]", answer: WriteAnswer) -> None:
        if isinstance(answer, TovukError):
            self._namespaces.discard_value(write.mutation, answer)
        if not future.done():
            future.set_result(answer)

    def _release(self, leases: dict[int, Lease], unstarted: Sequence[Write]) -> None:
        for write in unstarted:
            self._meters.release(leases[self._store.partition(write.target.service_id, write.mutation.key)])


class _Entry:
    """The entry of a bulk write that is being received."""

    def __init__(self, store: Store, service_id: str) -> None:
        self._store = store
        self._service_id = service_id
        self._head: EntryPart | None = None
        self._value = bytearray()
        self._upload: Upload | None = None
        self._value_bytes = 0
        self._decoder: codecs.IncrementalDecoder | None = None
        self.ttl_seconds = 0

    async def take(self, part: EntryPart) -> Put | None:
        """The put, when this part was its last. Raises what `validation` raises."""
        if not part.goes_on:
            check_key(part.key)
            check_head(part.encoding, part.metadata, part.expires_at, part.ttl_seconds)
            self._head, self._value_bytes = part, 0
            self._value.clear()
            self._decoder = codecs.getincrementaldecoder("utf-8")() if part.encoding == "text" else None
            self.ttl_seconds = part.ttl_seconds
        head = self._head
        if head is None:
            raise ValueInvalid(reason="it goes on before it began")
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
        self._head = None
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
