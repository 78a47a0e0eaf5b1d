"""The exploration finds what it is for: each fault planted in the protocol's code shows within a few worlds."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from model.explore import BUFFERED, TRANSACTIONAL, explore, explore_levels
from model.levels import LEVEL, LevelShape
from model.scenario import Shape
from model.world import ModelStore

from tovuk_kit.usage import UsageRow
from tovuk_metering.meter import bounds, leases, levels, limiting
from tovuk_metering.store import holders, windows
from tovuk_metering.store.levels import Level

#: Worlds looked into before a fault counts as missed.
WORLDS = 60

SHAPE = Shape(TRANSACTIONAL, cap=60, replicas=3, stores=2)
LEVELS = LevelShape(LEVEL, cap=60, replicas=3, stores=2, bulk=5, storm_s=15, caps=(60,))
#: A process stands still in the middle of an effect, and wakes at the moment the cap is in force.
SLEEPER = Shape(
    TRANSACTIONAL, cap=10, replicas=3, stores=1, cap_comes_late=True, sleeps_through_cap=True, freezes=False, storm_s=6
)
#: As the first, with demand that lasts through the storm, so that processes freeze while they charge.
BUSY = dataclasses.replace(SHAPE, cap=3_000)


def effects_ignore_the_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    def charge(self: ModelStore, epoch: int, rows: Sequence[UsageRow]) -> None:
        self._live.add(epoch)
        real(self, epoch, rows)

    real = ModelStore._charge
    monkeypatch.setattr(ModelStore, "_charge", charge)


def burnt_units_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def add(*args: Any, settled: int = 0, burnt: int = 0) -> None:
        real(*args, settled=settled)

    real = windows.add
    monkeypatch.setattr(windows, "add", add)


def outstanding_units_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_held", lambda open_leases, bound: 0)


def refusals_come_without_recall(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(turn: Any, since_ms: int) -> bounds.Refused:
        bound = bounds.Bound(SHAPE.meter, "day", turn.day, SHAPE.cap, None, True, 80)
        return bounds.Refused(bound, 1)

    monkeypatch.setattr(leases, "wait", wait)


def the_given_up_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_settled(turn: Any, asked: limiting.Recalled) -> bool:
        here = [lease for lease in asked.leases if holders.state_of(turn.tx, lease.holder) == "live"]
        return real(turn, limiting.Recalled(tuple(here), asked.levels))

    real = limiting.is_settled
    monkeypatch.setattr(limiting, "is_settled", is_settled)


def old_allowances_are_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    async def set_allowance(self: ModelStore, account_id: str, meter: str, version: int, allowance: int) -> None:
        await self._network.hop()
        level = self._level(account_id, meter)
        self._put(level, allowance=allowance, version=max(version, level.version))

    monkeypatch.setattr(ModelStore, "set_allowance", set_allowance)


def stale_trims_are_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    def hear(turn: Any, word: levels.Word) -> Any:
        level = real(turn, word)
        level.believed = min(level.believed, word.allowance)
        return level

    real = levels._hear
    monkeypatch.setattr(levels, "_hear", hear)


def spare_room_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Level, "claim", property(lambda self: self.bytes))


FAULTS: list[tuple[Callable[[pytest.MonkeyPatch], None], Shape]] = [
    (effects_ignore_the_fence, BUSY),
    (burnt_units_are_given_back, dataclasses.replace(SHAPE, meter=BUFFERED)),
    (outstanding_units_are_ignored, SHAPE),
    (refusals_come_without_recall, SHAPE),
    (the_given_up_are_not_waited_for, SLEEPER),
]


@pytest.mark.parametrize(("plant", "shape"), FAULTS, ids=[plant.__name__ for plant, _ in FAULTS])
def test_planted_fault_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], shape: Shape, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    for seed in range(WORLDS):
        try:
            world = explore(seed, shape)
        except AssertionError:
            return
        if shape.meter == TRANSACTIONAL and world.billed != dict(world.accepted):
            return
    pytest.fail(f"{plant.__name__} went unnoticed in {WORLDS} worlds")


LEVEL_FAULTS = [
    old_allowances_are_applied,
    stale_trims_are_believed,
    spare_room_is_given_twice,
]


@pytest.mark.parametrize("plant", LEVEL_FAULTS)
def test_planted_fault_of_levels_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    for seed in range(WORLDS):
        try:
            explore_levels(seed, LEVELS)
        except AssertionError:
            return
    pytest.fail(f"{plant.__name__} went unnoticed in {WORLDS} worlds")
