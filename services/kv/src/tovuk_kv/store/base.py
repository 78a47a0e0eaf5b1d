"""The port between a namespace and where its keys live: what every engine promises.

A store has one or more partitions; a key belongs to one of them for ever. Everything an effect does (the value, its
usage row, the account's level, the check that its epoch is live) happens in one durable transaction of its partition.
Reads see every acknowledged effect. A key is absent from the moment it expires; its bytes stay on the level until it is
overwritten, deleted or swept.

Methods raise, and callbacks get, StoreUnavailable when the store cannot be reached, StorageFull when a write has no
room, with Outcome.UNKNOWN where the effect may have happened.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

import msgspec

from tovuk_kit.errors import TovukError
from tovuk_kit.usage import UsageStore


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace that exists. `number` is the engine's own short name for it."""

    id: str
    name: str
    service_id: str
    account_id: str
    created_at_ms: int
    number: int = 0


class Record(msgspec.Struct, frozen=True, gc=False):
    """A key's value and what was stored with it. `value` is None when it lies beside: open it to read it.

    `expires_at` is in Unix seconds, 0 for never; `metadata` is compact JSON, empty for none.
    """

    version: int
    encoding: str
    metadata: bytes
    expires_at: int
    value_bytes: int
    value: bytes | None


class KeyEntry(msgspec.Struct, frozen=True, gc=False):
    """One key of a list."""

    key: bytes
    metadata: bytes
    expires_at: int
    version: int
    value_bytes: int


class Refusal(Enum):
    """Why an operation did nothing. Nothing was charged either."""

    #: If-Match or If-None-Match does not hold.
    PRECONDITION = "precondition"
    #: The epoch it was charged to is dead.
    FENCED = "fenced"
    #: The namespace does not exist any more.
    GONE = "gone"


class NeedsRoom(msgspec.Struct, frozen=True, gc=False):
    """Nothing was done: the account's level would have to reach `bytes`, which its allowance does not permit."""

    bytes: int


class Stored(msgspec.Struct, frozen=True, gc=False):
    """The value is durable. Versions of a key only rise, also across its deletion."""

    version: int
    expires_at: int


class Deleted(msgspec.Struct, frozen=True, gc=False):
    """The key is gone, durably; `existed` says whether it was there."""

    existed: bool


class Growth(NamedTuple):
    """How far writes raise the account's level in a partition at their highest point, from where, and its allowance."""

    bytes: int
    level_bytes: int
    allowance: int


Found = Record | Refusal | TovukError | None
Result = Stored | Deleted | NeedsRoom | Refusal | TovukError


class Lookup:
    """A key to read. `found` is called once on the event loop: None for an absent key, Refusal.GONE, or an error."""

    __slots__ = ("found", "key", "namespace")

    def __init__(self, namespace: Namespace, key: bytes, found: Callable[[Found], None]) -> None:
        self.namespace = namespace
        self.key = key
        self.found = found


class Upload(Protocol):
    """A large value being written beside. No key refers to it until a Put that carries it is stored."""

    @property
    def value_bytes(self) -> int:
        """Bytes written so far."""
        ...

    async def write(self, chunk: bytes) -> None:
        """Append; chunks are at most 1 MiB."""
        ...

    async def finish(self) -> None:
        """Everything written is durable on return."""
        ...

    async def abandon(self) -> None:
        """Remove it. Only while no Put that carries it was stored or may have been."""
        ...


class Mutation:
    """An effect on one key, charged as one unit of `lease_id` under `epoch`.

    `if_match` and `if_none_match` are `*`, versions joined by commas, or empty. `done` is called once on the event
    loop. The namespace, the charge and the expiry are set for each attempt.
    """

    __slots__ = ("done", "epoch", "if_match", "if_none_match", "key", "lease_id", "namespace")

    def __init__(self, key: bytes, if_match: str, if_none_match: str) -> None:
        self.key = key
        self.if_match = if_match
        self.if_none_match = if_none_match
        self.namespace: Namespace
        self.epoch = 0
        self.lease_id = 0
        self.done: Callable[[Result], None]


class Put(Mutation):
    """Replace value, metadata and expiry whole. One past its expiry leaves nothing, and is a write all the same."""

    __slots__ = ("encoding", "expires_at", "metadata", "value")

    def __init__(
        self, key: bytes, value: "bytes | Upload", encoding: str, metadata: bytes, if_match: str, if_none_match: str
    ) -> None:
        super().__init__(key, if_match, if_none_match)
        self.value = value
        self.encoding = encoding
        self.metadata = metadata
        self.expires_at = 0

    @property
    def value_bytes(self) -> int:
        """Bytes of the decoded value."""
        return len(self.value) if isinstance(self.value, bytes) else self.value.value_bytes

    @property
    def stored_bytes(self) -> int:
        """What the key counts on the level. Source: decisions.md, KV."""
        return len(self.key) + self.value_bytes + len(self.metadata)


class Delete(Mutation):
    """Remove the key. An absent one is no refusal, unless If-Match asks for it."""

    __slots__ = ()


class OpenValue(Protocol):
    """One version of a value, which stays readable whole until it is closed, whatever happens to its key."""

    @property
    def record(self) -> Record:
        """The record, its `value` always None."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The value in order, in pieces of at most CHUNK_BYTES."""
        ...

    async def close(self) -> None:
        """Let go of it. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep gave back: `keys` removed, and the levels it lowered as (partition, account)."""

    keys: int
    levels: frozenset[tuple[int, str]]


class Tombstoned(Exception):
    """The service of a namespace that was to be created is purged."""


class NameTaken(Exception):
    """The service has another namespace of this name."""


class Store(Protocol):
    """Where namespaces and their keys live."""

    #: Signs cursors; the same for the store's whole life and all its processes.
    cursor_key: bytes
    #: One per partition, in the order of `partition`.
    usage_stores: Sequence[UsageStore]

    def partition(self, service_id: str, key: bytes) -> int:
        """Where the key belongs."""
        ...

    def read(self, lookups: Sequence[Lookup], now_ms: int) -> None:
        """Call every lookup's `found`, at once or later."""
        ...

    def apply(self, mutations: Sequence[Mutation], now_ms: int) -> None:
        """Take each mutation on its own; those of one key in order. Call every `done` later, when it is durable.

        When one of a key is refused for room, the later ones of the key are too: they may be sent again in order.
        """
        ...

    async def page(
        self, namespace: Namespace, prefix: bytes, after: bytes | None, limit: int, now_ms: int
    ) -> list[KeyEntry] | None:
        """The first `limit` keys with the prefix in byte order, those behind `after`. None: the namespace is gone."""
        ...

    async def hold_room(self, namespace: Namespace, sizes: Sequence[tuple[bytes, int]]) -> dict[int, Growth]:
        """The growth of each partition whose level would rise while these keys are written in order, each to its size
        on the level; trims leave that room alone until it is let go.

        What is held lapses by itself within seconds, should its holder die.
        """
        ...

    async def let_room_go(self, account_id: str, held: Mapping[int, Growth]) -> None:
        """Hold the growth of these partitions no longer."""
        ...

    async def open_value(self, namespace: Namespace, key: bytes, now_ms: int) -> OpenValue | Refusal | None:
        """The key's newest version for streaming; None when absent, Refusal.GONE."""
        ...

    async def upload(self, service_id: str, key: bytes) -> Upload:
        """Begin a large value for this key."""
        ...

    async def find(self, service_id: str, ref: str) -> Namespace | None:
        """The service's namespace with this id or name."""
        ...

    async def namespaces(self, service_id: str) -> list[Namespace]:
        """The service's namespaces by name."""
        ...

    async def create(self, namespace: Namespace) -> None:
        """Add it; idempotent by id. Raises Tombstoned, checked in the same transaction, and NameTaken."""
        ...

    async def drop(self, namespace: Namespace) -> frozenset[int]:
        """It is gone for everyone, and off the account's level; its keys remain to be cleared.

        Returns the partitions whose level sank. Idempotent.
        """
        ...

    async def entomb(self, service_id: str) -> list[Namespace]:
        """From now on nothing is created in the service; returns the namespaces it still has."""
        ...

    async def dropped(self) -> list[Namespace]:
        """Dropped namespaces that are not forgotten."""
        ...

    async def clear(self, namespace: Namespace) -> bool:
        """Remove some keys of a dropped namespace; whether none is left."""
        ...

    async def forget(self, namespace: Namespace) -> None:
        """Remove the last trace of a dropped and cleared namespace."""
        ...

    async def sweep(self, now_ms: int) -> Swept:
        """Remove some expired keys and take their bytes off the levels; `keys` is 0 when none is left."""
        ...

    async def maintain(self) -> None:
        """The engine's own chores, every few seconds."""
        ...

    async def check(self) -> None:
        """Whether the store answers; raises StoreUnavailable."""
        ...

    async def close(self) -> None:
        """Finish what is under way and let go of the store."""
        ...
