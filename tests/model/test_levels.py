"""Bytes stored under a cap, holder code and metering code together, through every fault the world can make.

In every state: all stores together never hold more than the cap once it is in force, but for what stood there when it
was set; what does not grow always passes; nothing is refused while there was room. At the end the cap is used up
exactly, and metering knows what each store holds.
"""

from dataclasses import replace

import pytest
from model.explore import explore_levels
from model.levels import LEVEL, LevelShape

#: Worlds explored of each shape in the short form; `--full` explores many more.
SEEDS, SEEDS_FULL = 5, 200

CAP = 60
SHAPE = LevelShape(LEVEL, cap=CAP, replicas=3, stores=2, bulk=5, storm_s=15, caps=(CAP,))
SHAPES = {
    "one process": replace(SHAPE, replicas=1, stores=1),
    "three replicas, two stores": SHAPE,
    "cap set in mid-traffic": replace(SHAPE, caps=(None, CAP)),
    "cap lowered below what is stored": replace(SHAPE, caps=(150, CAP)),
    "cap lowered and raised": replace(SHAPE, caps=(100, 30, CAP)),
}


@pytest.fixture
def seeds(request: pytest.FixtureRequest) -> range:
    """The worlds to explore."""
    return range(SEEDS_FULL if request.config.getoption("--full") else SEEDS)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_level_keeps_to_its_cap_and_uses_it_up(shape: LevelShape, seeds: range) -> None:
    for seed in seeds:
        world = explore_levels(seed, shape)
        assert world.refused, f"seed {seed}: demand never met the cap"
        # What stood above the cap sinks to it with what is removed, or stays where nothing is.
        assert CAP <= world.total <= max(CAP, world.stood), f"seed {seed}"
        assert world.known == world.levels, f"seed {seed}"


def test_level_grows_again_once_its_cap_is_lifted(seeds: range) -> None:
    for seed in seeds:
        world = explore_levels(seed, replace(SHAPE, caps=(CAP, None)))
        assert world.total > CAP, f"seed {seed}"
        assert world.known == world.levels, f"seed {seed}"
