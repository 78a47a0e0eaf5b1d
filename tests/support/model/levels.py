"""An explored world of one account's bytes: they grow, shrink and are overwritten at several stores under a cap."""

import asyncio
import math
import random
from dataclasses import dataclass

from model.scenario import ACCOUNT, Replica, Scenario, Shape
from model.world import VirtualLoop
from tovuk_kit.errors import TovukError
from tovuk_kit.leases import PaymentRequired, UsageCapReached
from tovuk_kit.meters import MeterName
from tovuk_kit.usage import Fenced

LEVEL: MeterName = "kv_storage_bytes"
#: What an effect is charged to beside the level; it has no cap here.
WRITES: MeterName = "kv_writes"
#: How old what metering knows of other stores may be when a request is refused, beyond the request's own time: the word
#: it trusts may be the late copy of one two seconds ago.
KNOWN_FOR_S = 2.5


@dataclass(frozen=True, slots=True)
class LevelShape(Shape):
    """What a world of levels is made of; `cap` is the one in force in the end."""

    #: Caps set one after the other, the first before there is any demand; None lifts the last.
    caps: tuple[int | None, ...] = ()


class LevelScenario(Scenario):
    """Levels of one account under caps that change."""

    def __init__(self, loop: VirtualLoop, rng: random.Random, shape: LevelShape) -> None:
        super().__init__(loop, rng, shape)
        self._caps = shape.caps
        self._cap: int | None = None
        #: When the last cap changed: refusals of the one before may still be under way.
        self._changed_at = 0.0
        #: The highest level of each store since the cap that is being set was first sent.
        self._peaks = [0] * len(self.models)
        #: What may be stored whatever the cap: it stood when the cap came into force.
        self.stood = 0
        self._history: list[tuple[float, list[int]]] = [(0.0, [0] * len(self.models))]
        self._only_growing = False
        #: Bytes metering knows of, and bytes stored, by store, in the end.
        self.known: dict[str, int] = {}
        self.levels: dict[str, int] = {}

    @property
    def total(self) -> int:
        """Bytes stored now, at all stores."""
        return sum(model.stored(ACCOUNT, LEVEL) for model in self.models)

    async def run(self) -> None:
        await self.node.begin(ACCOUNT)
        if self._caps[0] is not None:
            await self._change_cap(self._caps[0])
        for number in range(self.shape.replicas):
            await self._start(f"replica-{number}")
        giving_up = asyncio.create_task(self._give_up())
        storm = asyncio.create_task(self._storm())
        for cap in self._caps[1:]:
            await asyncio.sleep(2 + self.rng.random() * 4)
            await self._change_cap(cap)
        await storm
        self.network.metering(up=True)
        for replica in self.replicas:
            replica.process.thaw()
        await asyncio.sleep(10)
        self._only_growing = True
        await asyncio.sleep(20)
        self.demanding = False
        await asyncio.sleep(15)
        giving_up.cancel()
        self.known = await self.node.level_bytes(ACCOUNT, LEVEL)
        self.levels = {model.name: model.stored(ACCOUNT, LEVEL) for model in self.models}

    async def _change_cap(self, cap: int | None) -> None:
        self._changed_at = math.inf
        if cap is None:
            self._cap = None
            await self.node.lift_cap(ACCOUNT, LEVEL)
            return
        if self._cap is not None and cap > self._cap:
            # It may be used as soon as it is stored.
            self._cap = cap
        self._peaks = [model.stored(ACCOUNT, LEVEL) for model in self.models]
        while not await self.node.put_cap(ACCOUNT, LEVEL, cap):
            await self.network.hop()
        self._cap, self.stood = cap, sum(self._peaks)
        self._changed_at = asyncio.get_running_loop().time()

    async def client(self, replica: Replica, number: int) -> None:
        """Write, overwrite and remove for as long as there is demand."""
        rng = random.Random(f"{replica.process.name}/{number}/{self.rng.random()}")
        while self.demanding:
            await asyncio.sleep(rng.choice((0.0, 0.001, 0.01, 0.1)))
            await replica.process.awake()
            at, units = rng.randrange(len(self.models)), rng.randint(1, self.shape.bulk)
            delta = units if self._only_growing else units * rng.choice((1, 1, 1, 0, -1))
            began = asyncio.get_running_loop().time()
            try:
                await self._write(replica, at, delta)
            except (UsageCapReached, PaymentRequired):
                self.refused += 1
                self._check_level_refusal(delta, began)
            except TovukError:
                await asyncio.sleep(0.05)

    async def _write(self, replica: Replica, at: int, delta: int) -> None:
        meters, model = replica.meters, self.models[at]
        while True:
            lease = meters.take(at, ACCOUNT, WRITES) or await meters.acquire(at, ACCOUNT, WRITES)
            try:
                needed = await model.grow(lease.epoch, ACCOUNT, LEVEL, delta, lambda: self._changed(at, delta))
            except Fenced:
                meters.release(lease)
                await meters.fenced(at, lease.epoch)
                continue
            meters.release(lease)
            if not needed:
                meters.level_changed(at, ACCOUNT, LEVEL)
                return
            if delta <= 0:
                self.problems.append(f"an overwrite by {delta} did not pass")
                return
            await meters.make_room(at, ACCOUNT, LEVEL, needed)

    def _changed(self, at: int, delta: int) -> None:
        total = self.total
        now = asyncio.get_running_loop().time()
        self._history.append((now, [model.stored(ACCOUNT, LEVEL) for model in self.models]))
        self._peaks[at] = max(self._peaks[at], self.models[at].stored(ACCOUNT, LEVEL))
        if delta > 0 and self._cap is not None and total > max(self._cap, self.stood):
            self.problems.append(f"overshoot: {total} of {self._cap}, {self.stood} stood")

    def _check_level_refusal(self, delta: int, began: float) -> None:
        if self._cap is None or began <= self._changed_at:
            return
        recent = []
        for at, levels in reversed(self._history):
            recent.append(levels)
            if at <= began - KNOWN_FOR_S:
                break
        if sum(map(max, zip(*recent, strict=True))) + delta <= self._cap:
            self.problems.append(f"refused {delta} with {self._cap - self.total} left")
