"""The rounds: every target in turn, started fresh, filled, loaded, read back, stopped; then the next round."""

import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from subprocess import SubprocessError

from bench import machine
from bench.client import Client, UnexpectedAnswer
from bench.limits import Limit, measure
from bench.load import (
    DriverFailed,
    Load,
    MissingTool,
    build_open_loop,
    closed_loop,
    open_loop,
    paged_loop,
    write_requests,
)
from bench.processes import DidNotStart, cpu_by_process, cpu_spent, machine_busy_s
from bench.targets.base import Running, Target
from bench.workload import DURABLE, Operation, connections

#: What one failing target may raise: the others go on.
_FAILURES = (
    *(MissingTool, DidNotStart, UnexpectedAnswer, DriverFailed),
    *(OSError, HTTPException, SubprocessError, ValueError, KeyError),
)
#: Operations that also get an open loop.
_TIMED: tuple[Operation, ...] = ("get", "put", "select", "insert")
#: Share of a round's own peak at which the open loop runs. Source: issue 3, done-when, speed.
_PEAK_SHARE = 0.5
_DISK_S = 0.3
_WARM_UP_S = 1.0
_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure. `rate_per_s` of the open loops is None for half of each target's own peak."""

    targets: tuple[Target, ...]
    limits: tuple[Limit, ...]
    operations: tuple[Operation, ...]
    rounds: int
    seconds: float
    rate_per_s: float | None
    open_loops: bool
    folder: Path


@dataclass(frozen=True, slots=True)
class Sample:
    """One cell of one round. `error` is empty for a valid one."""

    round: int
    target: str
    operation: Operation
    #: 0 for the closed loop.
    rate_per_s: float
    load: Load
    #: CPU microseconds a request, by process name; the driver's under `driver`.
    cpu_us: dict[str, float]
    #: Share of all cores that processes outside the cell used meanwhile.
    others_share: float
    #: Confirmed writes a second right before and after a durable cell, their mean; 0 for others.
    fdatasync_per_s: float
    error: str


@dataclass(slots=True)
class Results:
    """All samples, the limits' rates, and what could not be measured."""

    samples: list[Sample] = field(default_factory=list)
    limits: dict[str, list[dict[Operation, float]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def valid(self) -> bool:
        """Whether everything asked for was measured without an error."""
        return not self.failures and not any(sample.error for sample in self.samples)


def run(plan: Plan, say: Callable[[str], None]) -> Results:
    """Measures everything in rounds; one target's failure is noted and the others go on.

    Raises MissingTool or DriverFailed when the open loop's driver cannot be built.
    """
    results = Results()
    if plan.open_loops:
        build_open_loop()
    for number in range(1, plan.rounds + 1):
        for limit in plan.limits:
            try:
                rates = measure(limit, plan.seconds, plan.folder)
            except _FAILURES as error:
                results.failures.append(f"{limit.name}, round {number}: {error}")
            else:
                results.limits.setdefault(limit.name, []).append(rates)
                say(f"round {number} {limit.name}: {_rates(rates)}")
        # Another target begins each round, so that none always has the warmest machine.
        for target in _rotated(plan.targets, number - 1):
            try:
                _measure_target(plan, target, number, results, say)
            except _FAILURES as error:
                results.failures.append(f"{target.name}, round {number}: {error}")
                say("\n".join([f"round {number} {target.name} failed: {error}", *getattr(error, "__notes__", ())]))
    return results


def _rotated(targets: Sequence[Target], by: int) -> Sequence[Target]:
    start = by % len(targets) if targets else 0
    return [*targets[start:], *targets[:start]]


def _rates(rates: dict[Operation, float]) -> str:
    return ", ".join(f"{operation} {rate:,.0f}/s" for operation, rate in rates.items())


def _measure_target(plan: Plan, target: Target, number: int, results: Results, say: Callable[[str], None]) -> None:
    with tempfile.TemporaryDirectory(dir=plan.folder) as name:
        folder = Path(name)
        with target.start(folder) as running, Client(running.port, running.dialect.headers) as client:
            running.dialect.fill(client)
            for operation in plan.operations:
                if operation not in running.dialect.operations:
                    continue
                cell = _Cell(plan, target, number, operation, running, client, folder)
                peak = cell.closed()
                results.samples.append(peak)
                say(_line(peak))
                if plan.open_loops and operation in _TIMED and not peak.error:
                    timed = cell.open(plan.rate_per_s or peak.load.per_second * _PEAK_SHARE)
                    results.samples.append(timed)
                    say(_line(timed))


class _Cell:
    """One operation of one started target."""

    def __init__(
        self,
        plan: Plan,
        target: Target,
        number: int,
        operation: Operation,
        running: Running,
        client: Client,
        folder: Path,
    ) -> None:
        self._plan, self._target, self._number, self._operation = plan, target, number, operation
        self._running, self._client, self._folder = running, client, folder
        requests = running.dialect.requests(operation)
        self._requests = write_requests(requests, folder / f"{operation}.requests")
        # A first turn over the whole of it: caches, leases and pages are what they are in service.
        self._drive(min(_WARM_UP_S, plan.seconds))

    def closed(self) -> Sample:
        return self._sample(0.0, lambda: self._drive(self._plan.seconds))

    def _drive(self, seconds: float) -> Load:
        if self._operation == "transfer":
            return paged_loop(self._running.port, self._requests, seconds)
        return closed_loop(self._running.port, self._requests, connections(self._operation), seconds)

    def open(self, rate_per_s: float) -> Sample:
        many, seconds = connections(self._operation), self._plan.seconds
        return self._sample(
            rate_per_s, lambda: open_loop(self._running.port, self._requests, many, seconds, rate_per_s)
        )

    def _sample(self, rate_per_s: float, drive: Callable[[], Load]) -> Sample:
        disk_before = self._disk()
        before, driver_before_s = cpu_by_process(self._running.processes), _children_cpu_s()
        busy_before_s, started_at = machine_busy_s(), time.perf_counter()
        load = drive()
        spent_s, busy_s = time.perf_counter() - started_at, machine_busy_s() - busy_before_s
        cpu_s = cpu_spent(before, cpu_by_process(self._running.processes))
        cpu_s["driver"] = _children_cpu_s() - driver_before_s
        others_s = max(0.0, busy_s - sum(cpu_s.values()))
        return Sample(
            round=self._number,
            target=self._target.name,
            operation=self._operation,
            rate_per_s=rate_per_s,
            load=load,
            cpu_us={name: used_s * _US / max(1, load.requests) for name, used_s in sorted(cpu_s.items())},
            others_share=others_s / (spent_s * len(os.sched_getaffinity(0))),
            fdatasync_per_s=(disk_before + self._disk()) / 2,
            error=self._error(load),
        )

    def _disk(self) -> float:
        return machine.fdatasync_per_s(self._folder, _DISK_S) if self._operation in DURABLE else 0.0

    def _error(self, load: Load) -> str:
        if load.errors:
            return f"{load.errors} of {load.requests} answers were errors or missing"
        if not load.requests:
            return "no request was answered in time"
        # Each of the connections may still have had one request under way when the driver stopped.
        written = max(0, load.requests - connections(self._operation))
        try:
            self._running.dialect.check(self._client, self._operation, written)
        except UnexpectedAnswer as error:
            return str(error)
        return ""


def _children_cpu_s() -> float:
    """CPU seconds of the children that have ended: while a target runs, these are the load drivers."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _line(sample: Sample) -> str:
    how = f"open loop at {sample.rate_per_s:,.0f}/s" if sample.rate_per_s else "closed loop"
    load = sample.load
    cost = ", ".join(f"{name} {used:.1f}" for name, used in sample.cpu_us.items())
    fault = f"  INVALID: {sample.error}" if sample.error else ""
    return (
        f"round {sample.round} {sample.target} {sample.operation}, {how}: {load.per_second:,.0f}/s, "
        f"p50 {load.p50_ms:.2f} ms, p99 {load.p99_ms:.2f} ms, µs CPU a request: {cost}{fault}"
    )
