"""The metering protocol, holder code and metering code together, through every fault the world can make.

In every state: what was accepted under a cap never exceeds it, and nothing is billed without an effect. At the end:
a transactional meter reached its cap exactly and its ledger equals the effects; a refusal never came while a unit was
left. Buffered meters fall short by at most what dead processes held.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from model.explore import BUFFERED, TRANSACTIONAL, explore
from model.scenario import Shape

#: Worlds explored of each shape in the short form; `--full` explores many more.
SEEDS, SEEDS_FULL = 6, 200


@pytest.fixture
def seeds(request: pytest.FixtureRequest) -> Iterator[int]:
    """The worlds to explore."""
    return iter(range(SEEDS_FULL if request.config.getoption("--full") else SEEDS))


SHAPES = {
    "one process": Shape(TRANSACTIONAL, cap=40, replicas=1, stores=1),
    "three replicas, two stores": Shape(TRANSACTIONAL, cap=60, replicas=3, stores=2),
    "bulk": Shape(TRANSACTIONAL, cap=200, replicas=2, stores=2, bulk=30),
    "cap set in mid-traffic": Shape(TRANSACTIONAL, cap=300, replicas=2, stores=1, cap_comes_late=True),
    "midnight": Shape(TRANSACTIONAL, cap=50, replicas=2, stores=2, midnight=True),
}

#: A process stands still in the middle of an effect, and wakes at the moment the cap is in force.
SLEEPER = Shape(
    TRANSACTIONAL, cap=10, replicas=3, stores=1, cap_comes_late=True, sleeps_through_cap=True, freezes=False, storm_s=6
)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_transactional_meter_reaches_its_cap_exactly_and_bills_every_effect(shape: Shape, seeds: Iterator[int]) -> None:
    for seed in seeds:
        world = explore(seed, shape)
        assert world.refused, f"seed {seed}: demand never met the cap"
        last = max(world.accepted)
        least, most = max(shape.cap, world.accepted_before_cap[last]), max(shape.cap, world.let_in[last])
        assert least - shape.bulk < world.accepted[last] <= most, f"seed {seed}"
        assert world.billed == dict(world.accepted), f"seed {seed}"


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_buffered_meter_never_passes_its_cap_nor_bills_what_was_not_served(shape: Shape, seeds: Iterator[int]) -> None:
    # What a dead process read before there was a cap is lost without a trace, and no cap can count it.
    dying = not shape.cap_comes_late
    for seed in seeds:
        world = explore(seed, replace(shape, meter=BUFFERED, crashes=dying, freezes=dying))
        assert world.refused, f"seed {seed}: demand never met the cap"
        assert all(units <= world.accepted[day] for day, units in world.billed.items()), f"seed {seed}"


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_buffered_meter_reaches_its_cap_exactly_when_no_process_dies(shape: Shape, seeds: Iterator[int]) -> None:
    for seed in seeds:
        world = explore(seed, replace(shape, meter=BUFFERED, crashes=False, freezes=False, metering_dies=False))
        last = max(world.accepted)
        least, most = max(shape.cap, world.accepted_before_cap[last]), max(shape.cap, world.let_in[last])
        assert least - shape.bulk < world.accepted[last] <= most, f"seed {seed}"
        assert world.billed == dict(world.accepted), f"seed {seed}"


def test_no_effect_ends_after_a_cap_is_in_force_though_its_process_slept(request: pytest.FixtureRequest) -> None:
    for seed in range(SEEDS_FULL if request.config.getoption("--full") else 4 * SEEDS):
        explore(seed, SLEEPER)
