"""What a process holds of metering: leases, holders, levels not yet confirmed, and the dead it has to bury."""

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

from tovuk.metering.v1 import metering_pb2 as wire
from tovuk_kit.meters import MeterName
from tovuk_kit.usage import UNLIMITED, Level, UsageRow, UsageStore

#: Locks the accounts and meters of a process share, so that memory does not grow with them.
LOCKS = 1_024

#: Index of the store, account, meter.
Key = tuple[int, str, str]


class LeaseService(Protocol):
    """Metering's `Leases`, as a holder calls it. Every method raises TovukError when no answer came."""

    async def sync(self, request: wire.SyncRequest) -> wire.SyncReply: ...

    async def acquire(self, request: wire.AcquireRequest) -> wire.AcquireReply: ...

    async def trim(self, request: wire.TrimRequest) -> wire.LeaseState: ...

    async def allow(self, request: wire.AllowRequest) -> wire.AllowReply: ...

    async def trim_level(self, request: wire.TrimLevelRequest) -> wire.TrimLevelReply: ...


class ReportSink(Protocol):
    """The pipe to metering. It may lose everything: only metering's confirmation lets a store forget."""

    async def publish(self, report: wire.UsageReport) -> bool:
        """Whether the pipe has taken the report."""
        ...


class Lease:
    """Units of one account and meter in the hands of one holder."""

    __slots__ = (
        "account_id",
        "buffer",
        "closed",
        "confirmed",
        "day",
        "dirty",
        "ends_at",
        "epoch",
        "granted",
        "holder",
        "id",
        "in_flight",
        "limit",
        "meter",
        "published",
        "published_at",
        "taken",
        "unlimited",
        "used_at",
        "version",
    )

    def __init__(self, holder: "Holder", account_id: str, meter: MeterName) -> None:
        self.holder = holder
        #: The epoch effects are charged to; it stays when the holder begins a new one.
        self.epoch = holder.epoch
        self.account_id = account_id
        self.meter = meter
        self.id = 0
        self.version = 0
        self.day = ""
        self.granted = 0
        self.unlimited = False
        #: Units that may be taken in all; below `granted` while a trim is under way.
        self.limit = 0
        #: Units reserved or used since the lease began.
        self.taken = 0
        #: Reserved units whose effect has not ended.
        self.in_flight = 0
        #: Used units by (service, resource) that are not in the store yet.
        self.buffer: dict[tuple[str, str], int] = {}
        #: Boot milliseconds at which the lease's windows may end.
        self.ends_at = 0
        self.used_at = 0
        #: The store's rows changed since they were last published.
        self.dirty = False
        self.published = 0
        self.published_at = 0
        self.confirmed = 0
        #: No unit may be taken any more; it ends when nothing is in flight and its total is confirmed.
        self.closed = False

    def adopt(self, state: wire.LeaseState, sent_at: int) -> None:
        """Take over what metering said of the lease."""
        self.id = state.lease_id
        self.version = state.version
        self.day = state.day
        self.granted = state.granted
        self.unlimited = state.unlimited
        self.limit = UNLIMITED if state.unlimited else state.granted
        self.ends_at = sent_at + state.ends_in_ms
        if state.closed:
            self.close()

    def close(self) -> None:
        """Let nothing more be taken."""
        self.closed = True
        self.limit = 0


@dataclass(slots=True, eq=False)
class Holder:
    """This incarnation at one store."""

    index: int
    store: UsageStore
    epoch: int
    #: Boot milliseconds until which limited leases may be charged; metering gives the holder up later than that.
    valid_until: int = 0
    #: The same for unlimited leases, which go on while metering is known to be away.
    unlimited_until: int = 0
    leases: dict[tuple[str, str], Lease] = field(default_factory=dict)
    #: Leases that are ending: their last totals are not confirmed yet.
    ending: list[Lease] = field(default_factory=list)
    renewing: asyncio.Task[None] | None = None
    #: Units may or may not have reached the store: nothing is final before a fence, so the epoch has to end.
    doubtful: bool = False

    def may_charge(self, lease: "Lease | None", now: int) -> bool:
        """Whether metering can not have given this holder up, as far as this lease is concerned."""
        return now < (self.unlimited_until if lease is not None and lease.unlimited else self.valid_until)

    @property
    def on_wire(self) -> wire.Holder:
        """The holder's name on the wire."""
        return wire.Holder(store=self.store.name, epoch=self.epoch)

    def allow_request(self, level: Level, want_bytes: int, asking_ms: int = 0) -> wire.AllowRequest:
        """What asks metering to let the store's level reach `want_bytes`."""
        return wire.AllowRequest(
            level=wire.LevelRef(store=self.store.name, account_id=level.account_id, meter=level.meter),
            version=level.version,
            bytes=level.bytes,
            allowance=min(level.allowance, UNLIMITED),
            seq=level.seq,
            want_bytes=want_bytes,
            asking_ms=asking_ms,
        )

    async def take_allowance(self, level: Level, allowance: wire.Allowance) -> None:
        """Apply what metering has allowed. Raises StoreUnavailable."""
        granted = UNLIMITED if allowance.unlimited else allowance.bytes
        await self.store.set_allowance(level.account_id, level.meter, allowance.version, granted)


@dataclass(slots=True, eq=False)
class Grave:
    """A dead epoch at one of our stores: fenced, its totals published until metering has confirmed all."""

    holder: Holder
    epoch: int
    rows: dict[int, list[UsageRow]] | None = None
    unconfirmed: set[int] = field(default_factory=set)
    buried: bool = False


@dataclass(slots=True, eq=False)
class LevelMark:
    """A level whose newest state metering has not confirmed."""

    holder: Holder
    account_id: str
    meter: str
    #: Sequence of the state published last; -1 while none is, or a newer one is being read.
    seq: int = -1
    dirty: bool = True
    published_at: int = 0


class Holdings:
    """All that one process holds, shared by those who ask for units, keep the heartbeat and report."""

    def __init__(self) -> None:
        self.holders: list[Holder] = []
        self.graves: list[Grave] = []
        self.levels: dict[Key, LevelMark] = {}
        self._locks = [asyncio.Lock() for _ in range(LOCKS)]
        #: Metering has something to say, or is to hear something: sync now.
        self.sync_soon = asyncio.Event()
        #: Someone waits for totals to arrive: report now.
        self.report_soon = asyncio.Event()

    def lock(self, key: Key) -> asyncio.Lock:
        """What orders the calls about one account and meter at one store."""
        return self._locks[hash(key) % LOCKS]

    def level_changed(self, holder: Holder, account_id: str, meter: str) -> None:
        """Note that a level has to be reported."""
        key = (holder.index, account_id, meter)
        mark = self.levels.get(key)
        if mark is None:
            self.levels[key] = LevelMark(holder, account_id, meter)
        else:
            mark.dirty = True

    @staticmethod
    def end(lease: Lease) -> None:
        """Take a lease out of use; the reporter sees it to its end."""
        lease.close()
        holder = lease.holder
        if holder.leases.get((lease.account_id, lease.meter)) is lease:
            del holder.leases[lease.account_id, lease.meter]
        # What belongs to a dead epoch is reported by those who bury it.
        if lease.epoch == holder.epoch and lease not in holder.ending:
            lease.dirty = True
            holder.ending.append(lease)
