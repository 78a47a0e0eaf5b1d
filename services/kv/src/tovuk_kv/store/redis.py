"""The engine beyond one machine: Redis, a fixed number of partitions, every effect one script call of its partition.

A key's partition is a hash of its service and itself; all Redis keys of a partition share a hash tag. Large values lie
in chunks of their own, written before the script that links them. The list of namespaces lies in the first partition;
each partition knows which namespaces are open, so that an effect checks that in its own transaction.
Hot path: 6 µs of CPU a key here, as much in Redis; one script call a partition and tick.
"""

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Self
from zlib import crc32

from tovuk_kit.errors import OutcomeUnknown, StorageFull, StoreUnavailable, TovukError
from tovuk_kit.usage import UNLIMITED, UsageStore
from tovuk_kv.limits import CHUNK_BYTES, SWEEP_SLICE_KEYS
from tovuk_kv.store.base import (
    Delete,
    Deleted,
    Growth,
    KeyEntry,
    Lookup,
    Mutation,
    Namespace,
    NameTaken,
    NeedsRoom,
    OpenValue,
    Put,
    Record,
    Refusal,
    Stored,
    Swept,
    Tombstoned,
)
from tovuk_kv.store.inline import OpenInline
from tovuk_kv.store.redis_connection import RedisConnection, load_script
from tovuk_kv.store.redis_usage import RedisUsage
from tovuk_kv.store.redis_wire import Argument, Reply

#: Written into Redis at the first start and asserted ever after: keys would be looked for elsewhere with another.
PARTITIONS = 16
#: How long a value that is being read outlives its key unless the pin is renewed, in milliseconds.
PIN_MS = 60_000
#: How long room that a bulk write holds is kept from trims, in milliseconds.
HOLD_MS = 15_000
#: How old an upload that no key refers to becomes, in milliseconds.
UPLOAD_AGE_MS = 3_600_000
#: Uploads and unpinned values a partition is tidied of at once.
TIDY_SLICE = 20

SCRIPTS = {
    name: load_script(name)
    for name in (
        "abandon",
        "chunk",
        "clear",
        "close",
        "create",
        "drop",
        "entomb",
        "find",
        "hold_room",
        "let_room_go",
        "mutate",
        "open",
        "page",
        "pin",
        "read",
        "sweep",
        "tidy",
    )
}
#: At maxmemory Redis refuses the script that may write values; this one is for deletes alone and goes on.
MUTATE_AT_MAXMEMORY = load_script("mutate", flags="flags=allow-oom")

_REFUSALS = {3: Refusal.PRECONDITION, 5: Refusal.FENCED, 6: Refusal.GONE}


class PartitionsDiffer(Exception):
    """This Redis was filled with another number of partitions."""


class RedisStore:
    """The Store of one Redis database; any number of processes may share it."""

    def __init__(self, connection: RedisConnection, store_id: str, cursor_key: bytes) -> None:
        self.cursor_key = cursor_key
        self._tags = [_tag(index) for index in range(PARTITIONS)]
        self.usage_stores: Sequence[UsageStore] = tuple(
            RedisUsage(connection, tag, f"kv/{store_id}/{index}") for index, tag in enumerate(self._tags)
        )
        self._redis = connection
        #: Large values that are being read here, with their partition; their pins are renewed.
        self.open_blobs: Counter[tuple[int, str]] = Counter()

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect to the store at a redis://, rediss:// or unix:// URL.

        Raises SettingsRefused, PartitionsDiffer, StoreUnavailable.
        """
        connection = RedisConnection(url)
        await connection.start()
        meta = f"{_tag(0)}:meta"
        try:
            for name, value in (
                ("partitions", str(PARTITIONS)),
                ("store_id", secrets.token_hex(16)),
                ("cursor_key", secrets.token_hex(32)),
            ):
                await connection.ask("HSETNX", meta, name, value, mutates=True)
            partitions, store_id, cursor_key = await connection.ask(
                "HMGET", meta, "partitions", "store_id", "cursor_key"
            )
            if int(partitions) != PARTITIONS:
                raise PartitionsDiffer(f"this Redis has {int(partitions)} partitions, this program {PARTITIONS}")
        except BaseException:
            await connection.close()
            raise
        return cls(connection, store_id.decode(), bytes.fromhex(cursor_key.decode()))

    def partition(self, service_id: str, key: bytes) -> int:
        return crc32(service_id.encode() + b"/" + key) % PARTITIONS

    def read(self, lookups: Sequence[Lookup], now_ms: int) -> None:
        groups: dict[int, list[Lookup]] = {}
        for lookup in lookups:
            groups.setdefault(self.partition(lookup.namespace.service_id, lookup.key), []).append(lookup)
        for partition, group in groups.items():
            arguments: list[Argument] = [now_ms // 1000]
            for lookup in group:
                arguments += (lookup.namespace.id, lookup.key)
            self._redis.run(SCRIPTS["read"], self._tags[partition], *arguments, done=partial(_found, group))

    def apply(self, mutations: Sequence[Mutation], now_ms: int) -> None:
        groups: dict[int, list[Mutation]] = {}
        for mutation in mutations:
            groups.setdefault(self.partition(mutation.namespace.service_id, mutation.key), []).append(mutation)
        for partition, group in groups.items():
            only_deletes = all(type(mutation) is Delete for mutation in group)
            script = MUTATE_AT_MAXMEMORY if only_deletes else SCRIPTS["mutate"]
            done = partial(self._applied, group, now_ms)
            self._redis.run(script, self._tags[partition], *_arguments(group, now_ms), done=done)

    def _applied(self, mutations: list[Mutation], now_ms: int, reply: Reply) -> None:
        if isinstance(reply, StorageFull):
            # At maxmemory: puts are refused, deletes go on without them.
            deletes = [mutation for mutation in mutations if type(mutation) is Delete]
            mutations = [mutation for mutation in mutations if type(mutation) is not Delete]
            if deletes:
                self.apply(deletes, now_ms)
        if isinstance(reply, TovukError):
            for mutation in mutations:
                mutation.done(reply)
            return
        for mutation, code, number in zip(mutations, reply[::2], reply[1::2], strict=True):
            if code == 1:
                assert isinstance(mutation, Put)
                mutation.done(Stored(number, mutation.expires_at))
            elif code == 2:
                mutation.done(Deleted(number == 1))
            elif code == 4:
                mutation.done(NeedsRoom(number))
            else:
                mutation.done(_REFUSALS.get(code) or StoreUnavailable(retry_after_ms=1000))

    async def page(
        self, namespace: Namespace, prefix: bytes, after: bytes | None, limit: int, now_ms: int
    ) -> list[KeyEntry] | None:
        lower = b"[" + prefix if after is None or after < prefix else b"(" + after
        upper = b"(" + prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else b"+"
        # Hashing spreads the page evenly: a little more than each partition's share mostly is all of it.
        share = limit // PARTITIONS + limit // (2 * PARTITIONS) + 4
        starts = dict.fromkeys(self._tags, lower)
        rows: list[tuple[bytes, ...]] = []
        while starts:
            arguments = {tag: (namespace.id, start, upper, share, now_ms // 1000) for tag, start in starts.items()}
            replies = await self._redis.ask_scripts(SCRIPTS["page"], arguments)
            resumes: dict[str, bytes] = {}
            for tag, reply in zip(starts, replies, strict=True):
                if reply == 0:
                    return None
                resume, *fields = reply
                if resume:
                    resumes[tag] = resume
                rows += zip(*[iter(fields)] * 5, strict=True)
            rows.sort()
            del rows[limit:]
            # A partition that may yet have a key before the last of the page is asked on from where it stopped.
            full = len(rows) == limit
            starts = {tag: resume for tag, resume in resumes.items() if not full or resume[1:] < rows[-1][0]}
            share = limit
        return [
            KeyEntry(key, metadata, int(expires_at), int(version), int(value_bytes))
            for key, metadata, expires_at, version, value_bytes in rows
        ]

    async def hold_room(self, namespace: Namespace, sizes: Sequence[tuple[bytes, int]]) -> dict[int, Growth]:
        groups: dict[int, list[Argument]] = {}
        for key, size in sizes:
            partition = self.partition(namespace.service_id, key)
            if partition not in groups:
                groups[partition] = [f"{namespace.account_id}|kv_storage_bytes", HOLD_MS, UNLIMITED, namespace.id]
            groups[partition] += (key, size)
        replies = await self._redis.ask_scripts(
            SCRIPTS["hold_room"], {self._tags[partition]: arguments for partition, arguments in groups.items()}
        )
        return {
            partition: Growth(grown, int(level_bytes), int(allowance))
            for partition, (grown, level_bytes, allowance) in zip(groups, replies, strict=True)
            if grown
        }

    async def let_room_go(self, account_id: str, held: Mapping[int, Growth]) -> None:
        level = f"{account_id}|kv_storage_bytes"
        arguments = {
            self._tags[partition]: (level, growth.bytes)
            for partition, growth in held.items()
            if growth.allowance != UNLIMITED
        }
        await self._redis.ask_scripts(SCRIPTS["let_room_go"], arguments)

    async def open_value(self, namespace: Namespace, key: bytes, now_ms: int) -> OpenValue | Refusal | None:
        partition = self.partition(namespace.service_id, key)
        arguments = (namespace.id, key, now_ms // 1000, PIN_MS)
        reply = await self._redis.ask_script(SCRIPTS["open"], self._tags[partition], *arguments)
        if reply is None:
            return None
        if reply == 0:
            return Refusal.GONE
        version, encoding, metadata, expires_at, value_bytes, value, blob, chunks = reply
        record = Record(int(version), encoding.decode(), metadata, int(expires_at), int(value_bytes), None)
        if not blob:
            return OpenInline(record, value)
        return OpenChunks(self, partition, record, blob.decode(), int(chunks))

    async def upload(self, service_id: str, key: bytes) -> "ChunkUpload":
        return ChunkUpload(self._redis, self._tags[self.partition(service_id, key)])

    async def chunk(self, partition: int, blob: str, index: int) -> bytes:
        """One piece of an open large value."""
        piece: bytes | None = await self._redis.ask("GET", f"{self._tags[partition]}:chunk:{blob}:{index}")
        if piece is None:
            raise StoreUnavailable(retry_after_ms=1000)
        return piece

    async def find(self, service_id: str, ref: str) -> Namespace | None:
        reply = await self._redis.ask_script(SCRIPTS["find"], self._tags[0], service_id, ref)
        return None if reply is None else _described(service_id, *reply)

    async def namespaces(self, service_id: str) -> list[Namespace]:
        reply = await self._redis.ask("HGETALL", f"{self._tags[0]}:namespaces:{service_id}")
        found = [_described(service_id, *pair) for pair in zip(reply[::2], reply[1::2], strict=True)]
        return sorted(found, key=lambda namespace: namespace.name)

    async def create(self, namespace: Namespace) -> None:
        owner = f"{namespace.service_id}|{namespace.account_id}"
        # Open everywhere first: until the last step nobody finds it, and its id is never used again.
        await asyncio.gather(
            *[self._redis.ask("HSET", f"{tag}:open", namespace.id, owner, mutates=True) for tag in self._tags]
        )
        description = json.dumps([namespace.name, namespace.account_id, namespace.created_at_ms, namespace.service_id])
        arguments = (namespace.service_id, namespace.id, namespace.name, description)
        created = await self._redis.ask_script(SCRIPTS["create"], self._tags[0], *arguments)
        if created != 1:
            await self._close(namespace)
            raise NameTaken if created == 2 else Tombstoned

    async def drop(self, namespace: Namespace) -> frozenset[int]:
        arguments = (namespace.service_id, namespace.id, namespace.name)
        await self._redis.ask_script(SCRIPTS["drop"], self._tags[0], *arguments)
        freed = await self._close(namespace)
        return frozenset(partition for partition, size in enumerate(freed) if size)

    async def _close(self, namespace: Namespace) -> list[int]:
        arguments = (namespace.account_id, namespace.service_id, namespace.id)
        return await asyncio.gather(*[self._redis.ask_script(SCRIPTS["close"], tag, *arguments) for tag in self._tags])

    async def entomb(self, service_id: str) -> list[Namespace]:
        reply = await self._redis.ask_script(SCRIPTS["entomb"], self._tags[0], service_id)
        return [_described(service_id, *pair) for pair in zip(reply[::2], reply[1::2], strict=True)]

    async def dropped(self) -> list[Namespace]:
        reply = await self._redis.ask("HGETALL", f"{self._tags[0]}:dropped")
        return [_described("", *pair) for pair in zip(reply[::2], reply[1::2], strict=True)]

    async def clear(self, namespace: Namespace) -> bool:
        arguments = (namespace.id, SWEEP_SLICE_KEYS // PARTITIONS)
        left = await asyncio.gather(*[self._redis.ask_script(SCRIPTS["clear"], tag, *arguments) for tag in self._tags])
        return not any(left)

    async def forget(self, namespace: Namespace) -> None:
        await self._redis.ask("HDEL", f"{self._tags[0]}:dropped", namespace.id, mutates=True)

    async def sweep(self, now_ms: int) -> Swept:
        arguments = (now_ms // 1000, SWEEP_SLICE_KEYS // PARTITIONS)
        replies = await asyncio.gather(
            *[self._redis.ask_script(SCRIPTS["sweep"], tag, *arguments) for tag in self._tags]
        )
        levels = {(index, account.decode()) for index, (_, *accounts) in enumerate(replies) for account in accounts}
        return Swept(sum(reply[0] for reply in replies), frozenset(levels))

    async def maintain(self) -> None:
        """Renew the pins of open values; remove old uploads and values whose last reader is gone."""
        for (partition, blob), readers in list(self.open_blobs.items()):
            if readers:
                await self._redis.ask_script(SCRIPTS["pin"], self._tags[partition], PIN_MS, blob)
        for tag in self._tags:
            await self._redis.ask_script(SCRIPTS["tidy"], tag, UPLOAD_AGE_MS, TIDY_SLICE)

    async def check(self) -> None:
        await self._redis.ask("PING")

    async def close(self) -> None:
        await self._redis.close()


class ChunkUpload:
    """A large value on its way into chunks of its partition."""

    def __init__(self, redis: RedisConnection, tag: str) -> None:
        self.blob = secrets.token_hex(16)
        self.chunks = 0
        self.value_bytes = 0
        self._redis = redis
        self._tag = tag

    async def write(self, chunk: bytes) -> None:
        for start in range(0, len(chunk), CHUNK_BYTES):
            piece = chunk[start : start + CHUNK_BYTES]
            index, self.chunks = self.chunks, self.chunks + 1
            try:
                await self._redis.ask_script(SCRIPTS["chunk"], self._tag, self.blob, index, piece)
            except OutcomeUnknown as error:
                # Whatever became of the chunk, no key refers to it.
                raise StoreUnavailable(retry_after_ms=1000) from error
            self.value_bytes += len(piece)

    async def finish(self) -> None:
        """Each chunk was durable when it was answered."""

    async def abandon(self) -> None:
        await self._redis.ask_script(SCRIPTS["abandon"], self._tag, self.blob, self.chunks)


class OpenChunks:
    """A version of a large value, pinned until it is closed."""

    def __init__(self, store: RedisStore, partition: int, record: Record, blob: str, chunks: int) -> None:
        self.record = record
        self._store = store
        self._place = (partition, blob)
        self._chunks = chunks
        self._closed = False
        store.open_blobs[self._place] += 1

    async def chunks(self) -> AsyncIterator[bytes]:
        for index in range(self._chunks):
            yield await self._store.chunk(*self._place, index)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._store.open_blobs[self._place] -= 1
            if not self._store.open_blobs[self._place]:
                del self._store.open_blobs[self._place]


def _tag(partition: int) -> str:
    return f"{{kv{partition:02}}}"


def _described(service_id: str, namespace_id: bytes, description: bytes) -> Namespace:
    name, account_id, created_at_ms, own_service_id = json.loads(description)
    return Namespace(namespace_id.decode(), name, service_id or own_service_id, account_id, created_at_ms)


def _found(lookups: Sequence[Lookup], reply: Reply) -> None:
    if isinstance(reply, TovukError):
        for lookup in lookups:
            lookup.found(reply)
        return
    for lookup, row in zip(lookups, reply, strict=True):
        if row is None:
            lookup.found(None)
        elif row == 0:
            lookup.found(Refusal.GONE)
        else:
            version, encoding, metadata, expires_at, value_bytes, value, blob = row
            lookup.found(
                Record(
                    int(version),
                    encoding.decode(),
                    metadata,
                    int(expires_at),
                    int(value_bytes),
                    None if blob else value,
                )
            )


def _arguments(mutations: Sequence[Mutation], now_ms: int) -> list[Argument]:
    """What mutate.lua takes: 15 arguments of each mutation behind the time."""
    arguments: list[Argument] = [now_ms // 1000]
    for mutation in mutations:
        head = (
            mutation.namespace.id,
            mutation.key,
            mutation.epoch,
            mutation.lease_id,
            mutation.if_match,
            mutation.if_none_match,
        )
        if not isinstance(mutation, Put):
            arguments += ("d", *head, "", "", 0, 0, 0, "", 0, "")
            continue
        value = mutation.value
        beside = value if isinstance(value, ChunkUpload) else None
        arguments += (
            "p",
            *head,
            mutation.encoding,
            mutation.metadata,
            mutation.expires_at,
            mutation.value_bytes,
            mutation.stored_bytes,
            beside.blob if beside else "",
            beside.chunks if beside else 0,
            value if isinstance(value, bytes) else b"",
        )
    return arguments
