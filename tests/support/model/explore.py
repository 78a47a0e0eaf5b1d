"""One seed, one world, run to its end."""

import asyncio
import random
from collections.abc import Callable
from typing import Any, TypeVar
from unittest import mock

from model.levels import LevelScenario, LevelShape
from model.scenario import Scenario, Shape
from model.world import VirtualLoop, adopt_tasks
from tovuk_kit.meters import MeterName
from tovuk_metering.store import leases

AnyScenario = TypeVar("AnyScenario", bound=Scenario)

TRANSACTIONAL: MeterName = "kv_writes"
BUFFERED: MeterName = "kv_reads"


def explore(seed: int, shape: Shape) -> Scenario:
    """Run one world of a count meter to its end and return what happened in it."""
    return run(seed, shape, Scenario)


def explore_levels(seed: int, shape: LevelShape) -> LevelScenario:
    """Run one world of a level to its end and return what happened in it."""
    return run(seed, shape, LevelScenario)


def run(seed: int, shape: Any, world: Callable[[VirtualLoop, random.Random, Any], AnyScenario]) -> AnyScenario:
    """Run one world to its end and return what happened in it."""
    loop = VirtualLoop()
    adopt_tasks(loop)
    # What the code draws itself, pauses and ids, is the seed's too.
    random.seed(seed)
    with mock.patch.object(leases, "new_id", _draw_id):
        try:
            scenario = world(loop, random.Random(seed), shape)
            loop.run_until_complete(scenario.run())
            loop.run_until_complete(end_tasks())
        finally:
            loop.close()
    assert not scenario.problems, f"seed {seed}: {scenario.problems[:3]}"
    return scenario


def _draw_id() -> int:
    return random.randrange(1, 2**53)


async def end_tasks() -> None:
    """Cancel all that still runs in this loop."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
