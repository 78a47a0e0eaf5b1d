"""A world for the metering protocol: virtual time, processes that crash and freeze, a network that delays and loses.

The holder code (`tovuk_kit.leases`) and metering's domain code run in it unchanged; only clocks, calls, the pipe and
the stores under the effects are the world's. One seed decides everything.
"""

import asyncio
import contextvars
import random
import selectors
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from typing import Any, TypeVar

from tovuk.metering.v1 import metering_pb2 as wire
from tovuk_kit.clock import FakeClock
from tovuk_kit.errors import Outcome, OutcomeUnknown, ServiceUnavailable
from tovuk_kit.usage import UNLIMITED, Fenced, Level, UsageRow

T = TypeVar("T")

#: The process whose code runs; None for the world itself and for metering.
_process: contextvars.ContextVar["Process | None"] = contextvars.ContextVar("process", default=None)


class _VirtualSelector(selectors.SelectSelector):
    """Never waits: time jumps to the next timer instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("everything waits and no timer is set")
        if timeout > 0:
            self.now += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time: as fast as the code, the same for the same seed."""

    def __init__(self) -> None:
        self._virtual = _VirtualSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now

    def jump(self, seconds: float) -> None:
        """Let time pass at once: nothing runs meanwhile."""
        self._virtual.now += seconds


class LoopClock(FakeClock):
    """Boot time is the loop's; wall time is skewed from it by a constant that can be moved."""

    def __init__(self, loop: VirtualLoop, *, wall_ms: int) -> None:
        super().__init__(wall_ms)
        self._loop = loop
        self._start_ms = wall_ms

    def wall_ms(self) -> int:
        return self._wall_ms + self.boot_ms()

    def boot_ms(self) -> int:
        return int(self._loop.time() * 1000)


class Process:
    """Tasks that live and die together, and stand still together while frozen."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        #: In the order they were started, so that a seed tells in which they end.
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._thawed = asyncio.Event()
        self._thawed.set()

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task of this process; so is every task it starts in turn."""
        context = contextvars.copy_context()
        context.run(_process.set, self)
        return asyncio.get_running_loop().create_task(work, context=context)

    def adopt(self, task: asyncio.Task[Any]) -> None:
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    def crash(self) -> None:
        """Every task ends where it stands; what was sent is under way."""
        self.alive = False
        for task in list(self._tasks):
            task.cancel()

    def freeze(self) -> None:
        self._thawed.clear()

    def thaw(self) -> None:
        self._thawed.set()

    async def awake(self) -> None:
        """Passes once the process is not frozen; every port of the world goes through it."""
        await self._thawed.wait()


def adopt_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Let every new task belong to the process that started it."""

    def factory(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
        context = options.get("context")
        owner = context.get(_process) if context is not None else _process.get()
        if owner is not None:
            owner.adopt(task)
        return task

    loop.set_task_factory(factory)


class Network:
    """Calls between processes: delayed, now and then lost on the way there or back, or delivered twice."""

    def __init__(self, rng: random.Random, *, lossy: bool) -> None:
        self._rng = rng
        self._loss = 0.03 if lossy else 0.0
        self._metering_up = asyncio.Event()
        self._metering_up.set()
        self._context = contextvars.copy_context()
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def metering_up(self) -> bool:
        """Whether metering answers."""
        return self._metering_up.is_set()

    def metering(self, *, up: bool) -> None:
        """Let metering die, or come back with what it had made durable."""
        (self._metering_up.set if up else self._metering_up.clear)()

    async def until_metering_is_up(self) -> None:
        await self._metering_up.wait()

    def outside(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task of no process: it goes on when the process that caused it dies."""
        task = asyncio.get_running_loop().create_task(work, context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def hop(self) -> None:
        """One way over the network, in the caller's process."""
        process = _process.get()
        await asyncio.sleep(self._rng.choice((0.0, 0.001, 0.002, 0.005, 0.05)))
        if process is not None:
            await process.awake()

    async def call(self, serve: Callable[[], Awaitable[T]]) -> T:
        """A call that metering serves in its own time, also when the caller dies meanwhile."""
        await self.hop()
        if not self.metering_up or self._rng.random() < self._loss:
            raise ServiceUnavailable(service="metering")
        served = self.outside(self._serve(serve))
        if self._rng.random() < self._loss:
            self.outside(self._late(serve))
        answer = await asyncio.shield(served)
        await self.hop()
        if not self.metering_up or self._rng.random() < self._loss:
            raise OutcomeUnknown(outcome=Outcome.UNKNOWN, service="metering")
        return answer

    async def _serve(self, serve: Callable[[], Awaitable[T]]) -> T:
        await asyncio.sleep(0.001)
        if not self.metering_up:
            raise ServiceUnavailable(service="metering")
        return await serve()

    async def _late(self, serve: Callable[[], Awaitable[Any]]) -> None:
        await asyncio.sleep(self._rng.random() * 2)
        if self.metering_up:
            await serve()


class Pipe:
    """JetStream as the protocol may assume it: it loses, repeats and reorders."""

    def __init__(self, rng: random.Random, network: Network, deliver: Callable[[bytes], Awaitable[None]]) -> None:
        self._rng = rng
        self._network = network
        self._deliver = deliver
        self.up = True

    async def publish(self, report: wire.UsageReport) -> bool:
        await self._network.hop()
        if not self.up:
            return False
        payload = report.SerializeToString()
        for _ in range(self._rng.choice((0, 1, 1, 1, 1, 1, 1, 1, 2))):
            self._network.outside(self._carry(payload))
        return True

    async def _carry(self, payload: bytes) -> None:
        await asyncio.sleep(self._rng.choice((0.001, 0.005, 0.02, 0.3)))
        await self._network.until_metering_is_up()
        await self._deliver(payload)


class ModelStore:
    """A durable store of effects; several replicas may share it. Every method is one atomic step at the store."""

    def __init__(self, name: str, *, exclusive: bool, network: Network) -> None:
        self.name = name
        self.exclusive = exclusive
        self._network = network
        self._epoch = 0
        self._live: set[int] = set()
        self._rows: dict[tuple[int, int, str, str], int] = {}
        self._levels: dict[tuple[str, str], Level] = {}

    async def begin_epoch(self) -> int:
        await self._network.hop()
        self._epoch += 1
        if self.exclusive:
            self._live.clear()
        self._live.add(self._epoch)
        return self._epoch

    async def dead_epochs(self) -> list[int]:
        await self._network.hop()
        if not self.exclusive:
            return []
        return sorted({epoch for epoch, *_ in self._rows if epoch not in self._live})

    async def fence(self, epoch: int) -> None:
        await self._network.hop()
        self._live.discard(epoch)

    async def usage(self, epoch: int, leases: Collection[int] | None) -> list[UsageRow]:
        await self._network.hop()
        return [
            UsageRow(lease, service, resource, units)
            for (of, lease, service, resource), units in self._rows.items()
            if of == epoch and (leases is None or lease in leases)
        ]

    async def add(self, epoch: int, rows: Sequence[UsageRow]) -> None:
        await self._network.hop()
        self._charge(epoch, rows)

    async def forget(self, epoch: int, leases: Collection[int] | None) -> None:
        await self._network.hop()
        for key in [k for k in self._rows if k[0] == epoch and (leases is None or k[1] in leases)]:
            del self._rows[key]

    async def level(self, account_id: str, meter: str) -> Level:
        await self._network.hop()
        return self._level(account_id, meter)

    async def levels(self) -> list[Level]:
        await self._network.hop()
        return list(self._levels.values())

    async def set_allowance(self, account_id: str, meter: str, version: int, allowance: int) -> None:
        await self._network.hop()
        level = self._level(account_id, meter)
        if version > level.version:
            self._put(level, allowance=allowance, version=version)

    async def trim_allowance(self, account_id: str, meter: str) -> Level:
        await self._network.hop()
        level = self._level(account_id, meter)
        return self._put(level, allowance=min(level.allowance, level.bytes))

    async def effect(self, epoch: int, row: UsageRow, happened: Callable[[], None]) -> None:
        """An effect of a transactional meter, charged in its own transaction; it happens even if the caller dies."""
        await self._network.hop()
        self._charge(epoch, [row])
        happened()
        await self._network.hop()

    async def grow(
        self, epoch: int, account_id: str, meter: str, delta: int, happened: Callable[[], None] = lambda: None
    ) -> int:
        """Change a level; 0, or the level that the allowance does not permit."""
        await self._network.hop()
        if epoch not in self._live:
            raise Fenced
        level = self._level(account_id, meter)
        target = max(0, level.bytes + delta)
        if delta > 0 and target > level.allowance:
            return target
        if target != level.bytes:
            self._put(level, bytes=target, seq=level.seq + 1, lines=(("service", "resource", target),))
        happened()
        await self._network.hop()
        return 0

    def stored(self, account_id: str, meter: str) -> int:
        """The level as it is now, for the checks."""
        return self._level(account_id, meter).bytes

    def _charge(self, epoch: int, rows: Sequence[UsageRow]) -> None:
        if epoch not in self._live:
            raise Fenced
        for row in rows:
            key = (epoch, row.lease_id, row.service_id, row.resource_id)
            self._rows[key] = self._rows.get(key, 0) + row.units

    def _level(self, account_id: str, meter: str) -> Level:
        return self._levels.get((account_id, meter)) or Level(account_id, meter, 0, 0, 0, 0)

    def _put(self, level: Level, **changes: Any) -> Level:
        fields = {name: getattr(level, name) for name in Level.__slots__}
        changed = Level(**{**fields, **changes})
        assert changed.allowance <= UNLIMITED
        self._levels[level.account_id, level.meter] = changed
        return changed
