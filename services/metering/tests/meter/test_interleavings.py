"""The real protocol code against a small model of its holders, in random interleavings.

Messages are lost, doubled, delayed and overtake one another; holders crash, restart and freeze; metering restarts; the
day changes. In every state: no more accepted than the cap, nothing billed twice or without an effect, no refusal while
a unit is left. At the end, when demand exceeded the cap: transactional effects and bytes equal it, buffered ones miss
it by exactly what was burnt, and the ledger equals the effects.
"""

import heapq
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import apsw
import pytest

from tovuk_kit import migrations
from tovuk_kit.clock import FakeClock
from tovuk_kit.sqlite_apsw import ApswLibrary
from tovuk_kit.sqlite_tx import SqliteTx
from tovuk_metering.clients.reports import LeaseTotals, LevelTotals, Report
from tovuk_metering.meter import heartbeats, leases, levels, limiting, reports
from tovuk_metering.meter.bounds import Refused, Wait
from tovuk_metering.meter.liveness import Liveness
from tovuk_metering.meter.prices import PriceBook
from tovuk_metering.meter.turn import Turn
from tovuk_metering.store import ledger, windows
from tovuk_metering.store.caps import Cap
from tovuk_metering.store.holders import Holder

T = TypeVar("T")
ACCOUNT, LEVEL = "account_1", "kv_storage_bytes"
#: Longer than any message is under way, so that a call's answer is not waited for in vain.
CALL_MS = 1_500
DELAY_MS_MAX = 2_500


@dataclass
class Store:
    """What survives holders."""

    name: str
    epoch: int = 0
    used: dict[int, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))  # epoch → lease → units
    fenced: set[int] = field(default_factory=set)
    bytes: int = 0
    allowance: int = 0
    version: int = 0
    seq: int = 0


@dataclass
class Lease:
    state: leases.State
    ends_at: int
    limit: int
    taken: int = 0
    in_flight: int = 0
    buffer: int = 0
    closed: bool = False


class Replica:
    """One process at one store, with what it would lose in a crash."""

    def __init__(self, world: "World", store: Store) -> None:
        self.world, self.store = world, store
        self.alive, self.frozen = True, False
        self.begin()

    def begin(self) -> None:
        self.store.epoch += 1
        self.epoch = self.store.epoch
        self.valid_until = 0
        self.lease: Lease | None = None
        self.ending: list[Lease] = []
        self.graves: dict[int, bool] = {}
        #: The open call of each kind, by its number.
        self.calls: dict[str, int] = {}
        self.refused = False
        self.asking_since: int | None = None

    @property
    def holder(self) -> Holder:
        return Holder(self.store.name, self.epoch)

    @property
    def fenced(self) -> bool:
        return self.epoch in self.store.fenced

    def end(self) -> None:
        if self.lease is not None:
            self.lease.closed, self.lease.limit = True, 0
            self.ending.append(self.lease)
            self.lease = None

    def renew(self) -> None:
        """Given up: fence the old epoch, begin a new one, bury the old one."""
        old = self.epoch
        self.store.fenced.add(old)
        self.world.drop_flights(self)
        self.begin()
        self.graves[old] = False

    # What a request does.

    def request(self) -> None:
        now, lease = self.world.clock.boot_ms(), self.lease
        if lease is not None and now >= lease.ends_at:
            self.end()
            lease = None
        if lease is None or lease.taken >= lease.limit:
            self.acquire()
            return
        if now >= self.valid_until:
            return
        lease.taken += 1
        lease.in_flight += 1
        epoch = self.epoch
        self.world.later(lambda: self.effect(lease, epoch), owner=self, most_ms=300)

    def effect(self, lease: Lease, epoch: int) -> None:
        lease.in_flight -= 1
        if self.world.rng.random() < 0.1:
            lease.taken -= 1
        elif self.world.buffered:
            lease.buffer += 1
            self.world.effects[lease.state.day] += 1
        elif epoch in self.store.fenced:
            self.renew()
        else:
            self.store.used[epoch][lease.state.lease_id] += 1
            self.world.effects[lease.state.day] += 1

    def flush(self) -> None:
        for lease in [*([self.lease] if self.lease else []), *self.ending]:
            if self.fenced:
                self.renew()
                return
            self.store.used[self.epoch][lease.state.lease_id] += lease.buffer
            lease.buffer = 0

    # Calls to metering.

    def acquire(self) -> None:
        lease, sent_at = self.lease, self.world.clock.boot_ms()
        ended = {ending.state.lease_id for ending in self.ending}
        known = lease.state if lease else leases.State(0)
        ask = leases.Ask(self.holder, ACCOUNT, self.world.meter, known.lease_id, known.version, 1)

        def answered(answer: leases.State | Wait | Refused) -> None:
            if isinstance(answer, Refused):
                self.refused = True
                self.world.refusals += 1
            elif isinstance(answer, leases.State):
                self.refused = False
                # An answer about a lease that this holder has ended, before the call or during it, is void.
                if lease is not self.lease or answer.lease_id in ended:
                    return
                if lease is None:
                    self.lease = Lease(answer, 0, 0)
                self.adopt(self.lease, answer, sent_at)

        self.call("lease", lambda turn: self.world.check_refusal(leases.acquire(turn, ask)), answered)

    def adopt(self, lease: Lease | None, state: leases.State, sent_at: int) -> None:
        if lease is None:
            return
        lease.state, lease.ends_at = state, sent_at + state.ends_in_ms
        lease.limit = 2**62 if state.unlimited else state.granted
        if state.closed and lease is self.lease:
            self.end()

    def trim(self) -> None:
        lease, sent_at = self.lease, self.world.clock.boot_ms()
        if lease is None or "lease" in self.calls:
            return
        lease.limit = lease.taken
        holder, lease_id, version, keep = self.holder, lease.state.lease_id, lease.state.version, lease.taken
        self.call(
            "lease",
            lambda turn: leases.trim(turn, holder, lease_id, version, keep),
            lambda state: self.adopt(lease, state, sent_at),
        )

    def sync(self) -> None:
        sent_at = self.world.clock.boot_ms()
        mine = [*([self.lease] if self.lease else []), *self.ending]
        marks = [heartbeats.LeaseMark(m.state.lease_id, self.total(m), m.closed and not m.in_flight) for m in mine]
        for epoch in self.graves:
            marks += [heartbeats.LeaseMark(i, n, False) for i, n in self.store.used[epoch].items()]
        beat = heartbeats.Beat(
            [self.holder],
            marks,
            buried=[Holder(self.store.name, epoch) for epoch, done in self.graves.items() if done],
            exclusive=self.world.exclusive,
            leases={lease.state.lease_id for lease in mine},
        )
        epoch = self.epoch

        def work(turn: Turn) -> heartbeats.Orders:
            for holder in beat.holders:
                turn.liveness.heard(holder)
            if heartbeats.changes(turn, beat):
                heartbeats.settle(turn, beat)
            return heartbeats.orders(turn, beat)

        def answered(orders: heartbeats.Orders) -> None:
            if epoch != self.epoch:
                return
            if orders.lost:
                self.renew()
                return
            self.valid_until = sent_at + 3_000
            for holder in beat.buried:
                self.store.used.pop(holder.epoch, None)
                self.graves.pop(holder.epoch, None)
            self.obey(orders)

        self.call("sync", work, answered)

    def obey(self, orders: heartbeats.Orders) -> None:
        confirmed = {mark.lease_id: mark for mark in orders.confirmed}
        for lease in list(self.ending):
            mark = confirmed.get(lease.state.lease_id)
            quiet = not lease.in_flight and not lease.buffer
            if mark is not None and mark.final and quiet and mark.seq == self.total(lease):
                self.ending.remove(lease)
                self.store.used[self.epoch].pop(lease.state.lease_id, None)
        for epoch in self.graves:
            self.graves[epoch] = all(
                i in confirmed and confirmed[i].seq == n for i, n in self.store.used[epoch].items()
            )
        if self.lease is not None and self.lease.state.lease_id in orders.recalled:
            self.trim()
        for dead in orders.dead:
            if dead.epoch != self.epoch:
                self.store.fenced.add(dead.epoch)
                self.graves.setdefault(dead.epoch, False)
        if orders.recalled_levels:
            self.trim_level()

    def total(self, lease: Lease) -> int:
        return self.store.used[self.epoch][lease.state.lease_id]

    def report(self) -> None:
        totals = []
        for lease in [*([self.lease] if self.lease else []), *self.ending]:
            final = lease.closed and not lease.in_flight and not lease.buffer
            totals.append(self.totals(self.epoch, lease.state.lease_id, final=final))
        for epoch in self.graves:
            totals += [self.totals(epoch, lease_id, final=False) for lease_id in self.store.used[epoch]]
        level = LevelTotals(ACCOUNT, LEVEL, self.store.seq, self.store.bytes, {("service_1", "kv_1"): self.store.bytes})
        report = Report(self.store.name, totals, [level])
        for _ in range(self.world.copies()):
            self.world.later(lambda: self.world.turn(lambda turn: reports.apply(turn, [report])))

    def totals(self, epoch: int, lease_id: int, *, final: bool) -> LeaseTotals:
        units = self.store.used[epoch][lease_id]
        return LeaseTotals(lease_id, epoch, units, final, {("service_1", f"kv_{lease_id % 2}"): units})

    # The level.

    def write_bytes(self) -> None:
        size = self.world.rng.randint(1, 3)
        store = self.store
        if store.bytes + size <= store.allowance:
            store.bytes += size
            store.seq += 1
        else:
            self.make_room(size)

    def make_room(self, size: int) -> None:
        store, want = self.store, self.store.bytes + size
        word = self.word()
        now = self.world.clock.boot_ms()
        self.asking_since = now if self.asking_since is None else self.asking_since
        asking_ms = now - self.asking_since

        def answered(answer: levels.Allowance | Wait | Refused) -> None:
            if not isinstance(answer, Wait):
                self.asking_since = None
            if isinstance(answer, Refused):
                self.refused = True
                self.world.refusals += 1
            elif isinstance(answer, levels.Allowance) and answer.version > store.version:
                store.version = answer.version
                store.allowance = 2**62 if answer.unlimited else answer.bytes

        self.call(
            "level", lambda turn: self.world.check_room(levels.allow(turn, word, want, asking_ms), want), answered
        )

    def trim_level(self) -> None:
        self.store.allowance = self.store.bytes
        word = self.word()

        def answered(current: bool) -> None:
            if not current:
                self.make_room(0)

        self.call("level", lambda turn: levels.trim(turn, word), answered)

    def word(self) -> levels.Word:
        store = self.store
        return levels.Word(store.name, ACCOUNT, LEVEL, store.version, store.bytes, store.allowance, store.seq)

    def call(self, kind: str, work: Callable[[Turn], T], answered: Callable[[T], None]) -> None:
        """A call that may be delayed, doubled or lost on its way there and back; one at a time of each kind."""
        if kind in self.calls:
            return
        world, deadline, number = self.world, self.world.clock.boot_ms() + CALL_MS, next(self.world.ids)
        open_calls = self.calls
        open_calls[kind] = number

        def end() -> bool:
            """Whether the call was still open, in this incarnation."""
            return open_calls.get(kind) == number and open_calls.pop(kind) == number and open_calls is self.calls

        def receive(answer: T) -> None:
            if end():
                answered(answer)

        def arrive() -> None:
            answer = world.turn(work)
            for _ in range(min(1, world.copies())):
                world.later(lambda: receive(answer), owner=self)

        for _ in range(world.copies()):
            world.later(arrive)
        world.at(deadline, end, owner=self)


class World:
    def __init__(self, seed: int, book: PriceBook, meter: str) -> None:
        self.rng = random.Random(seed)
        self.book, self.meter, self.buffered = book, meter, meter == "kv_reads"
        # Half of the runs live through a midnight.
        self.clock = FakeClock(1_800_057_600_000 - (self.rng.randint(1_000, 60_000) if seed % 2 else -3_600_000))
        connection = apsw.Connection(":memory:")
        self.tx = SqliteTx(connection, ApswLibrary())
        migrations.apply(self.tx, migrations.load("tovuk_metering.store"))
        self.liveness = Liveness(self.clock)
        self.events: list[tuple[int, int, Replica | None, Callable[[], object]]] = []
        self.ids = itertools.count()
        self.effects: Counter[str] = Counter()
        self.refusals = 0
        self.calm = False
        self.exclusive = self.rng.random() < 0.4
        self.cap = self.rng.randint(1, 60)
        self.turn(lambda turn: limiting.set_plan(turn, ACCOUNT, "self_hosted", 1))
        self.turn(lambda turn: limiting.put_cap(turn, ACCOUNT, Cap(meter, "day", self.cap, True, 80, 1)))
        stores = [Store(f"kv/{i}/0") for i in range(self.rng.randint(1, 3))]
        replicas = 1 if self.exclusive else self.rng.randint(1, 3)
        self.replicas = [Replica(self, store) for store in stores for _ in range(replicas)]
        self.stores = stores

    def turn(self, work: Callable[[Turn], T]) -> T:
        return work(Turn(self.tx, self.clock.wall_ms(), self.book, self.liveness))

    def copies(self) -> int:
        return 1 if self.calm else self.rng.choices((0, 1, 2), (15, 70, 15))[0]

    def later(self, work: Callable[[], object], owner: Replica | None = None, most_ms: int = DELAY_MS_MAX) -> None:
        quick = self.calm or self.rng.random() < 0.8
        self.at(self.clock.boot_ms() + self.rng.randint(0, 20 if quick else most_ms), work, owner)

    def at(self, ms: int, work: Callable[[], object], owner: Replica | None) -> None:
        heapq.heappush(self.events, (ms, next(self.ids), owner, work))

    def drop_flights(self, replica: Replica) -> None:
        self.events = [event for event in self.events if event[2] is not replica]
        heapq.heapify(self.events)

    def advance(self, ms: int) -> None:
        until = self.clock.boot_ms() + ms
        held = []
        while self.events and self.events[0][0] <= until:
            due, number, owner, work = heapq.heappop(self.events)
            self.clock.advance(max(0, due - self.clock.boot_ms()))
            if owner is not None and owner.frozen:
                held.append((due, number, owner, work))
            else:
                work()
        self.clock.advance(until - self.clock.boot_ms())
        for event in held:
            heapq.heappush(self.events, event)

    def step(self) -> None:
        replica, chance = self.rng.choice(self.replicas), self.rng.random()
        if not self.calm:
            self.disturb(replica)
        if replica.alive and not replica.frozen:
            if self.meter == LEVEL:
                replica.write_bytes()
            else:
                replica.request()
            if chance < 0.3:
                replica.sync()
            elif chance < 0.5:
                replica.report()
            elif chance < 0.7 and self.buffered:
                replica.flush()
            elif chance < 0.72:
                replica.end()
        gone = self.turn(heartbeats.lapsed)
        if gone:
            self.turn(lambda turn: heartbeats.give_up(turn, gone))
        self.advance(self.rng.randint(0, 120))
        self.check()

    def disturb(self, replica: Replica) -> None:
        chance = self.rng.random()
        if chance < 0.004 and replica.alive:
            replica.alive = replica.frozen = False
            self.drop_flights(replica)
        elif chance < 0.008:
            replica.frozen = True
        elif chance < 0.011:
            self.liveness = Liveness(self.clock)
        elif chance < 0.03:
            self.wake(replica)

    def wake(self, replica: Replica) -> None:
        if not replica.alive:
            replica.alive = True
            before = replica.epoch
            replica.begin()
            if self.exclusive:
                replica.store.fenced.add(before)
                replica.graves[before] = False
        replica.frozen = False

    def settled(self, day: str) -> windows.Tally:
        return windows.tally(self.tx, ACCOUNT, self.meter, day)

    def check(self) -> None:
        assert sum(store.bytes for store in self.stores) <= self.cap or self.meter != LEVEL, "more bytes than the cap"
        for day, effects in self.effects.items():
            tally = self.settled(day)
            assert effects <= self.cap, "overshoot"
            assert tally.settled <= effects, "billed without an effect, or twice"
            assert tally.gone <= self.cap

    def check_refusal(self, answer: leases.State | Wait | Refused) -> leases.State | Wait | Refused:
        if isinstance(answer, Refused):
            tally = self.settled(answer.bound.window)
            assert tally.gone == self.cap, "refused while a unit is left"
        return answer

    def check_room(self, answer: levels.Allowance | Wait | Refused, want: int) -> levels.Allowance | Wait | Refused:
        if isinstance(answer, Refused):
            assert sum(store.bytes for store in self.stores) + 3 > self.cap, "refused while there is room"
        return answer

    def calm_down(self) -> None:
        """Nothing fails any more, and demand goes on until every replica was refused."""
        self.calm = True
        for replica in self.replicas:
            self.wake(replica)
            replica.refused = False
        for _ in range(6_000):
            self.step()
            if all(replica.refused and not replica.graves and not replica.ending for replica in self.replicas):
                return
        raise AssertionError("demand went on and units were left")


def runs() -> Iterator[tuple[int, str]]:
    for seed in range(25):
        for meter in ("kv_writes", "kv_reads", LEVEL):
            yield seed, meter


@pytest.mark.parametrize(("seed", "meter"), list(runs()))
def test_a_cap_is_exact_in_any_interleaving(seed: int, meter: str, book: PriceBook) -> None:
    world = World(seed, book, meter)
    for _ in range(700):
        world.step()
    # A new day, if one begins, begins before the last phase: what is left of the old one nobody can use.
    world.calm_down()
    day = world.turn(lambda turn: turn.day)
    world.advance(10_000)
    for replica in world.replicas:
        replica.flush()
        replica.report()
    world.advance(10_000)
    if meter == LEVEL:
        assert world.cap - 3 < sum(store.bytes for store in world.stores) <= world.cap
        reported = world.turn(lambda turn: sum(level.bytes for level in levels.levels.of_account(turn.tx, ACCOUNT)))
        assert reported == sum(store.bytes for store in world.stores)
        return
    tally = world.settled(day)
    assert tally.gone == world.cap
    if meter == "kv_writes":
        assert (world.effects[day], tally.burnt) == (world.cap, 0)
    billed: Counter[str] = Counter()
    for entry in ledger.of_month(world.tx, ACCOUNT, day[:7]):
        billed[entry.day] += entry.units
    for each_day, effects in world.effects.items():
        assert billed[each_day] == world.settled(each_day).settled
        if meter == "kv_writes":
            assert billed[each_day] == effects
