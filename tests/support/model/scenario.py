"""One explored world: demand, faults, and what must hold meanwhile and at the end."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from model.node import MeteringNode
from model.world import LoopClock, ModelStore, Network, Pipe, Process, VirtualLoop
from tovuk_kit.errors import TovukError
from tovuk_kit.leases import Meters, PaymentRequired, UsageCapReached
from tovuk_kit.meters import METERS, Counting, MeterName
from tovuk_kit.usage import Fenced, UsageRow, UsageStore
from tovuk_metering.meter.calendar import day_of
from tovuk_metering.meter.turn import SYNC_SUBJECT

ACCOUNT = "account"
#: Noon of some UTC day, in Unix milliseconds.
NOON_MS = 1_800_014_400_000 // 86_400_000 * 86_400_000 + 43_200_000


@dataclass(frozen=True, slots=True)
class Shape:
    """What a world is made of."""

    meter: MeterName
    cap: int
    replicas: int
    stores: int
    #: Seconds of demand under faults.
    storm_s: float = 20.0
    crashes: bool = True
    freezes: bool = True
    lossy: bool = True
    metering_dies: bool = True
    #: The cap is set only in mid-traffic.
    cap_comes_late: bool = False
    #: A process freezes just before that, and wakes at the moment the cap is in force.
    sleeps_through_cap: bool = False
    #: The UTC day ends during the storm.
    midnight: bool = False
    #: Units one request asks for.
    bulk: int = 1


class Replica:
    """A process that charges: its meters at every store, and the clients that keep it busy."""

    def __init__(self, name: str, scenario: "Scenario") -> None:
        self.process = Process(name)
        self._scenario = scenario
        self.meters = Meters(leases=scenario.node, reports=scenario.pipe, clock=scenario.clock)

    async def live(self, clients: int) -> None:
        await self.meters.start(self._scenario.stores)
        for number in range(clients):
            self.process.spawn(self._scenario.client(self, number))


class Scenario:
    """A world of one account and one meter, with a cap."""

    def __init__(self, loop: VirtualLoop, rng: random.Random, shape: Shape) -> None:
        self.shape = shape
        self.rng = rng
        self.clock = LoopClock(loop, wall_ms=NOON_MS)
        self._metering_clock = LoopClock(loop, wall_ms=NOON_MS)
        if shape.midnight:
            self._metering_clock.skew(43_200_000 - 8_000)
            self.clock.skew(43_200_000 - 8_000 + rng.choice((-3_600_000, 0, 3_600_000)))
        self.network = Network(rng, lossy=shape.lossy)
        self.node = MeteringNode(self.network, self._metering_clock)
        self.pipe = Pipe(rng, self.network, self.node.deliver)
        exclusive = shape.replicas == 1 and shape.stores == 1
        self.models = [
            ModelStore(f"kv/model/{number}", exclusive=exclusive, network=self.network)
            for number in range(shape.stores)
        ]
        self.stores: Sequence[UsageStore] = self.models
        self.node.noticed = self._notice
        self.replicas: list[Replica] = []
        #: Units accepted, by the UTC day they were charged to.
        self.accepted: Counter[str] = Counter()
        #: Units on their way to a store, by day, store and epoch.
        self._under_way: Counter[tuple[str, str, int]] = Counter()
        self.demanding = True
        self.capped = False
        #: Units accepted when the cap came into force, and these with those that could no longer be kept out.
        self.accepted_before_cap: Counter[str] = Counter()
        self.let_in: Counter[str] = Counter()
        self.refused = 0
        self.faults = 0
        #: What broke the promise; the world goes on, so that one fault does not hide another.
        self.problems: list[str] = []
        #: Units in metering's ledger at the end, by UTC day.
        self.billed: dict[str, int] = {}

    @property
    def buffered(self) -> bool:
        return METERS[self.shape.meter].counting is Counting.BUFFERED

    async def run(self) -> None:
        """Live through the storm, let everything recover, drain the demand, and settle."""
        await self.node.begin(ACCOUNT)
        if not self.shape.cap_comes_late:
            await self._set_cap()
        for number in range(self.shape.replicas):
            await self._start(f"replica-{number}")
        giving_up = asyncio.create_task(self._give_up())
        storm = asyncio.create_task(self._storm())
        if self.shape.cap_comes_late:
            await asyncio.sleep(self.rng.random() * 3)
            sleeper = self.rng.choice(self.replicas).process
            if self.shape.sleeps_through_cap:
                sleeper.freeze()
            await self._set_cap()
            sleeper.thaw()
        await storm
        self.network.metering(up=True)
        for replica in self.replicas:
            replica.process.thaw()
        # Long enough for the dead to be given up and buried, and for demand to meet its end.
        await asyncio.sleep(30)
        self.demanding = False
        await asyncio.sleep(15)
        giving_up.cancel()
        self.billed = await self.node.billed()

    def _notice(self, subject: str) -> None:
        for replica in self.replicas:
            if self.rng.random() < 0.8:
                replica.meters.hurry() if subject == SYNC_SUBJECT else replica.meters.limits_changed(ACCOUNT)

    async def _give_up(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            if self.network.metering_up:
                await self.node.give_up_silent()

    async def client(self, replica: Replica, number: int) -> None:
        """Ask for units as fast as they come, for as long as there is demand."""
        rng = random.Random(f"{replica.process.name}/{number}/{self.rng.random()}")
        while self.demanding:
            await asyncio.sleep(rng.choice((0.0, 0.001, 0.01, 0.1)))
            await replica.process.awake()
            units = rng.randint(1, self.shape.bulk)
            began = day_of(self._metering_clock.wall_ms())
            try:
                await self._request(replica, rng.randrange(len(self.models)), units)
            except (UsageCapReached, PaymentRequired):
                self.refused += 1
                self._check_refusal(units, began)
            except TovukError:
                await asyncio.sleep(0.05)

    async def _request(self, replica: Replica, at: int, units: int) -> None:
        meters, meter = replica.meters, self.shape.meter
        if self.buffered:
            at = 0
        while True:
            lease = meters.take(at, ACCOUNT, meter, units) or await meters.acquire(at, ACCOUNT, meter, units)
            if self.buffered:
                meters.count(lease, "service", "resource", units)
                self._accept(lease.day, units)
                return
            charged = lease.day, self.models[at].name, lease.epoch
            self._under_way[charged] += units
            try:
                row = UsageRow(lease.id, "service", "resource", units)
                await self.models[at].effect(lease.epoch, row, partial(self._accept, lease.day, units))
            except Fenced:
                meters.release(lease, units)
                await meters.fenced(at, lease.epoch)
                continue
            finally:
                self._under_way[charged] -= units
            meters.spent(lease, units)
            return

    def _accept(self, day: str, units: int) -> None:
        self.accepted[day] += units
        if self.capped:
            allowed = max(self.shape.cap, self.let_in[day])
            if self.accepted[day] > allowed:
                self.problems.append(f"overshoot: {self.accepted[day]} of {allowed} on {day}")

    def _check_refusal(self, units: int, day: str) -> None:
        if not self.buffered:
            left = self.shape.cap - self.accepted[day]
            if left >= units:
                self.problems.append(f"refused {units} with {left} left")

    async def _set_cap(self) -> None:
        while not await self.node.put_cap(ACCOUNT, self.shape.meter, self.shape.cap):
            # An owner who is told that it has not settled sends it again.
            await self.network.hop()
        self.accepted_before_cap, self.let_in = self.accepted.copy(), self.accepted.copy()
        # What the living had reserved by then may still arrive: it was let in before the cap was in force. Of the dead
        # nothing may, unless nobody lives at their store to fence them.
        living = await self.node.living()
        inhabited = {store for store, _ in living}
        for (day, store, epoch), units in self._under_way.items():
            if (store, epoch) in living or store not in inhabited:
                self.let_in[day] += units
        self.capped = True

    async def _start(self, name: str) -> None:
        replica = Replica(name, self)
        self.replicas.append(replica)
        replica.process.spawn(replica.live(clients=self.rng.randint(1, 4)))

    async def _storm(self) -> None:
        end = asyncio.get_running_loop().time() + self.shape.storm_s
        while asyncio.get_running_loop().time() < end:
            await asyncio.sleep(self.rng.random() * 2)
            await self._fault()

    async def _fault(self) -> None:
        shape, replica = self.shape, self.rng.choice(self.replicas)
        possible = {"crash": shape.crashes, "freeze": shape.freezes, "metering": shape.metering_dies, "pipe": True}
        match self.rng.choice([fault for fault, may_be in possible.items() if may_be]):
            case "crash":
                replica.process.crash()
                self.replicas.remove(replica)
                await asyncio.sleep(self.rng.choice((0.01, 0.5, 6.0)))
                await self._start(replica.process.name)
            case "freeze":
                replica.process.freeze()
                await asyncio.sleep(self.rng.choice((0.5, 4.0, 12.0)))
                replica.process.thaw()
            case "metering":
                self.network.metering(up=False)
                await asyncio.sleep(self.rng.choice((0.1, 2.0, 8.0)))
                await self.node.restart()
                self.network.metering(up=True)
            case _:
                self.pipe.up = False
                await asyncio.sleep(self.rng.choice((0.1, 3.0)))
                self.pipe.up = True
        self.faults += 1
