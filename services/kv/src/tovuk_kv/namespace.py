"""What a KV namespace guarantees: validation, budgets, conditions, expiry, order.

Hot path: get ≤ 4 µs and put ≤ 8 µs of CPU above the store's. An operation whose namespace is cached and whose units are
in hand runs without task or await; all of one event-loop tick reach the store as one read and one write. What is short
of something (units, room, a live epoch, the namespace) goes on in a task of its own, writes by `setbacks`.
"""

import asyncio
import codecs
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from tovuk_kit.clock import Clock
from tovuk_kit.errors import InternalError, Outcome, TovukError
from tovuk_kit.holding import Lease
from tovuk_kit.leases import Meters
from tovuk_kv.cursor import decode_cursor, encode_cursor
from tovuk_kv.directory import Directory, Target
from tovuk_kv.errors import (
    InvalidLimit,
    KeyNotFound,
    KeyTooLarge,
    ValueInvalid,
)
from tovuk_kv.limits import (
    INLINE_VALUE_BYTES_MAX,
    KEY_BYTES_MAX,
    LIST_KEYS_MAX,
    LIST_KEYS_MIN,
)
from tovuk_kv.room import Room
from tovuk_kv.setbacks import Place, Setbacks, Write, WriteAnswer
from tovuk_kv.store.base import (
    Delete,
    Deleted,
    Found,
    KeyEntry,
    Lookup,
    Mutation,
    Namespace,
    OpenValue,
    Put,
    Record,
    Refusal,
    Result,
    Store,
    Stored,
    Upload,
)
from tovuk_kv.validation import (
    check_head,
    check_key,
    check_text,
    check_value_bytes,
    names_version,
    parse_condition,
)

#: The store whose leases buffered meters are charged to.
BUFFERED_STORE = 0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NotModified:
    """The key still has a version the caller knows."""

    version: int


class TooLarge(Enum):
    """The value lies beside: it is read by `open`, and nothing was counted."""

    TO_ANSWER_AT_ONCE = "to answer at once"


Page = tuple[list[KeyEntry], str]
GetAnswer = Record | NotModified | TooLarge | TovukError


class Namespaces:
    """The keys of all namespaces, metered."""

    def __init__(self, store: Store, meters: Meters, clock: Clock) -> None:
        self._store = store
        self._meters = meters
        self._now_ms = clock.wall_ms
        self._loop = asyncio.get_running_loop()
        self.directory = Directory(store)
        self.room = Room(store, meters, self._now_ms)
        self._setbacks = Setbacks(store, meters, self.directory, self.room, now_ms=self._now_ms, spawn=self._spawn)
        # What this tick has gathered.
        self._lookups: list[Lookup] = []
        self._mutations: list[Mutation] = []
        self._written: dict[Place, Write] = {}
        self._scheduled = False
        self._tasks: set[asyncio.Task[None]] = set()

    # Hot path.

    def get(self, target: Target, key: bytes, if_none_match: str, answer: Callable[[GetAnswer], None]) -> None:
        """Answer with the key's record, sooner or later. Raises what `check_key` raises."""
        check_key(key)
        if self._written:
            earlier = self._written.get((target.service_id, target.ref, key))
            if earlier is not None:
                # A write of the same key came before it in this tick: the read is to see it.
                earlier.answer = partial(self._then_get, earlier.answer, target, key, if_none_match, answer)
                return
        namespace = self.directory.known(target)
        if namespace is not None:
            lease = self._meters.take(BUFFERED_STORE, target.account_id, "kv_reads")
            if lease is not None:
                self._look_up(target, namespace, lease, key, if_none_match, answer)
                return
        self._spawn(self._get_slowly(target, key, if_none_match, answer))

    def put(
        self,
        target: Target,
        put: Put,
        *,
        expires_at: int,
        ttl_seconds: int,
        answer: Callable[[WriteAnswer], None],
    ) -> None:
        """Write a small value whole; answers when it is durable. Raises what `validation` raises."""
        assert isinstance(put.value, bytes)
        check_key(put.key)
        check_value_bytes(len(put.value))
        check_head(put.encoding, put.metadata, expires_at, ttl_seconds)
        if put.encoding == "text":
            check_text(put.value)
        put.expires_at = expires_at
        self.submit(Write(target, put, ttl_seconds, answer))

    def delete(self, target: Target, delete: Delete, answer: Callable[[WriteAnswer], None]) -> None:
        """Remove a key; answers when that is durable. Raises what `check_key` raises."""
        check_key(delete.key)
        self.submit(Write(target, delete, 0, answer))

    def submit(self, write: Write) -> None:
        """Take a validated write."""
        target = write.target
        place = write.place
        self._written[place] = write
        self._schedule()
        if self._setbacks.holds_up(write):
            return
        namespace = self.directory.known(target)
        if namespace is not None:
            partition = self._store.partition(target.service_id, write.mutation.key)
            lease = self._meters.take(partition, target.account_id, write.meter)
            if lease is not None:
                self.start(write, namespace, partition, lease)
                return
        self._setbacks.take(write)

    def start(self, write: Write, namespace: Namespace, partition: int, lease: Lease) -> None:
        """Send a write whose unit is reserved with this tick's others."""
        mutation = write.mutation
        mutation.done = partial(self._done, write)
        self._setbacks.charge(write, namespace, partition, lease)
        self._mutations.append(mutation)
        self._schedule()

    def _look_up(
        self,
        target: Target,
        namespace: Namespace,
        lease: Lease,
        key: bytes,
        if_none_match: str,
        answer: Callable[[GetAnswer], None],
    ) -> None:
        found = partial(self._found, target, namespace, lease, key, if_none_match, answer)
        self._lookups.append(Lookup(namespace, key, found))
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        """Hand what the tick has gathered to the store: reads first, they were not behind a write of their key."""
        self._scheduled = False
        lookups, self._lookups = self._lookups, []
        mutations, self._mutations = self._mutations, []
        self._written.clear()
        now_ms = self._now_ms()
        if lookups:
            self._store.read(lookups, now_ms)
        if mutations:
            self._store.apply(mutations, now_ms)

    def _found(
        self,
        target: Target,
        namespace: Namespace,
        lease: Lease,
        key: bytes,
        if_none_match: str,
        answer: Callable[[GetAnswer], None],
        found: Found,
    ) -> None:
        if isinstance(found, Record):
            if if_none_match and names_version(parse_condition(if_none_match), found.version):
                self._meters.count(lease, namespace.service_id, namespace.id)
                answer(NotModified(found.version))
            elif found.value is None:
                self._meters.release(lease)
                answer(TooLarge.TO_ANSWER_AT_ONCE)
            else:
                self._meters.count(lease, namespace.service_id, namespace.id)
                answer(found)
        elif found is None:
            self._meters.count(lease, namespace.service_id, namespace.id)
            answer(KeyNotFound())
        elif isinstance(found, TovukError):
            self._meters.release(lease)
            answer(found)
        else:
            self._meters.release(lease)
            self.directory.forget(namespace)
            self._spawn(self._get_slowly(target, key, if_none_match, answer))

    def _done(self, write: Write, result: Result) -> None:
        if self._setbacks.settle(write, result):
            self._setbacks.take(write)

    # What could not be done at once.

    def _then_get(
        self,
        first: Callable[[WriteAnswer], None],
        target: Target,
        key: bytes,
        if_none_match: str,
        answer: Callable[[GetAnswer], None],
        result: WriteAnswer,
    ) -> None:
        first(result)
        self._spawn(self._get_slowly(target, key, if_none_match, answer))

    async def _get_slowly(
        self, target: Target, key: bytes, if_none_match: str, answer: Callable[[GetAnswer], None]
    ) -> None:
        try:
            namespace = await self.directory.resolve(target)
            lease = await self._meters.acquire(BUFFERED_STORE, target.account_id, "kv_reads")
            self._look_up(target, namespace, lease, key, if_none_match, answer)
        except TovukError as error:
            answer(error)
        except Exception:  # noqa: BLE001  # whoever waits gets an answer
            _log.exception("a get failed")
            answer(InternalError())

    # Beside the hot path.

    def list(
        self,
        target: Target,
        prefix: bytes,
        limit: int,
        cursor: str,
        answer: Callable[[Page | TovukError], None],
    ) -> None:
        """`page`, answered by callback."""
        self._spawn(self._list(target, prefix, limit, cursor, answer))

    async def _list(
        self,
        target: Target,
        prefix: bytes,
        limit: int,
        cursor: str,
        answer: Callable[[Page | TovukError], None],
    ) -> None:
        try:
            answer(await self.page(target, prefix, limit, cursor))
        except TovukError as error:
            answer(error)
        except Exception:  # noqa: BLE001  # whoever waits gets an answer
            _log.exception("a list failed")
            answer(InternalError())

    async def page(self, target: Target, prefix: bytes, limit: int, cursor: str) -> Page:
        """One page of keys in byte order, and the cursor of the next, empty on the last.

        Raises InvalidLimit, InvalidCursor, KeyTooLarge, NamespaceNotFound, and what Meters.acquire raises.
        """
        if not LIST_KEYS_MIN <= limit <= LIST_KEYS_MAX:
            raise InvalidLimit(minimum=LIST_KEYS_MIN, maximum=LIST_KEYS_MAX)
        if len(prefix) > KEY_BYTES_MAX:
            raise KeyTooLarge(limit_bytes=KEY_BYTES_MAX, size_bytes=len(prefix))
        while True:
            namespace = await self.directory.resolve(target)
            after = decode_cursor(self._store.cursor_key, namespace.id, prefix, cursor) if cursor else None
            lease = await self._meters.acquire(BUFFERED_STORE, target.account_id, "kv_lists")
            try:
                entries = await self._store.page(namespace, prefix, after, limit + 1, self._now_ms())
            except BaseException:
                self._meters.release(lease)
                raise
            if entries is None:
                self._meters.release(lease)
                self.directory.forget(namespace)
                continue
            self._meters.count(lease, namespace.service_id, namespace.id)
            if len(entries) <= limit:
                return entries, ""
            del entries[limit:]
            return entries, encode_cursor(self._store.cursor_key, namespace.id, prefix, entries[-1].key)

    async def open(self, target: Target, key: bytes, if_none_match: str) -> OpenValue | NotModified:
        """A value of any size for streaming, to be closed by the caller; counted as one read.

        Raises KeyNotFound (counted too), NamespaceNotFound, what `check_key` and Meters.acquire raise.
        """
        check_key(key)
        while True:
            namespace = await self.directory.resolve(target)
            lease = await self._meters.acquire(BUFFERED_STORE, target.account_id, "kv_reads")
            try:
                value = await self._store.open_value(namespace, key, self._now_ms())
            except BaseException:
                self._meters.release(lease)
                raise
            if isinstance(value, Refusal):
                self._meters.release(lease)
                self.directory.forget(namespace)
                continue
            self._meters.count(lease, namespace.service_id, namespace.id)
            if value is None:
                raise KeyNotFound
            if if_none_match and names_version(parse_condition(if_none_match), value.record.version):
                await value.close()
                return NotModified(value.record.version)
            return value

    async def put_stream(
        self,
        target: Target,
        put: Put,
        value_bytes: int,
        expires_at: int,
        ttl_seconds: int,
        chunks: AsyncIterator[bytes],
    ) -> Stored:
        """Write a value of any size as it comes; `put` has none yet. Durable on return.

        Raises what `put` raises or answers, ValueInvalid when the value is not as long as it was said to be.
        """
        check_key(put.key)
        check_value_bytes(value_bytes)
        check_head(put.encoding, put.metadata, expires_at, ttl_seconds)
        await self.directory.resolve(target)
        put.expires_at = expires_at
        put.value = await self.receive(target.service_id, put.key, put.encoding, value_bytes, chunks)
        stored = await self.mutate(target, put, ttl_seconds)
        assert isinstance(stored, Stored)
        return stored

    async def receive(
        self, service_id: str, key: bytes, encoding: str, value_bytes: int, chunks: AsyncIterator[bytes]
    ) -> bytes | Upload:
        """A value from its chunks: in hand when it is small, else written beside and durable.

        Raises ValueInvalid; nothing stays behind then.
        """
        decoder = codecs.getincrementaldecoder("utf-8")() if encoding == "text" else None
        upload = await self._store.upload(service_id, key) if value_bytes > INLINE_VALUE_BYTES_MAX else None
        small = bytearray()
        received = 0
        try:
            async for chunk in chunks:
                received += len(chunk)
                if received > value_bytes:
                    break
                if decoder is not None:
                    decoder.decode(chunk)
                if upload is None:
                    small += chunk
                else:
                    await upload.write(chunk)
            if received != value_bytes:
                raise ValueInvalid(reason="it is not as long as was announced")
            if decoder is not None:
                decoder.decode(b"", final=True)
            if upload is None:
                return bytes(small)
            await upload.finish()
        except BaseException as error:
            if upload is not None:
                await discard(upload)
            if isinstance(error, UnicodeDecodeError):
                raise ValueInvalid(reason="text must be UTF-8") from error
            raise
        return upload

    async def mutate(self, target: Target, mutation: Mutation, ttl_seconds: int = 0) -> Stored | Deleted:
        """A validated mutation, awaited; raises what `put` would have answered.

        It goes on without the caller, and takes a large value that it did not store away with it.
        """
        future: asyncio.Future[WriteAnswer] = self._loop.create_future()

        def settle(answer: WriteAnswer) -> None:
            if isinstance(answer, TovukError):
                self.discard_value(mutation, answer)
            if not future.done():
                future.set_result(answer)

        self.submit(Write(target, mutation, ttl_seconds, settle))
        answer = await future
        if isinstance(answer, TovukError):
            raise answer
        return answer

    def discard_value(self, mutation: Mutation, error: TovukError) -> None:
        """Remove the large value of a put that failed, unless it may have been stored."""
        if isinstance(mutation, Put) and not isinstance(mutation.value, bytes) and error.outcome is not Outcome.UNKNOWN:
            self._spawn(discard(mutation.value))

    async def close(self) -> None:
        """Wait for what is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def discard(upload: Upload) -> None:
    """Remove a large value that no key refers to."""
    try:
        await upload.abandon()
    except TovukError as error:
        _log.info("an upload stays behind until it is swept: %s", error)
