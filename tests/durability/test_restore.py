import random
import subprocess
import sys
from pathlib import Path

import pytest
from sqlite_node import engine_of, sqlite_node

from tovuk_sqlite.directory import Target
from tovuk_sqlite.store.backups import Status

HERE = Path(__file__).parent
SUPPORT = HERE.parent / "support"
SHORT_KILLS = 5
STEPS_MAX = 200
CHILD_SECONDS_MAX = 60


def run_until_killed(folder: Path, step: int, engine: str) -> list[str]:
    """What the process said before it killed itself at a step, or ended."""
    command = [sys.executable, str(HERE / "restorer.py"), str(folder), str(step), engine]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=CHILD_SECONDS_MAX, env={"PYTHONPATH": str(SUPPORT)}
    )
    assert done.returncode in (0, -9), done.stderr
    return done.stdout.split("\n")[:-1]


async def losses(folder: Path, said: list[str], engine: str) -> list[str]:
    """What is wrong after the next process went on, given all that was said before."""
    acknowledged = {int(word) for word in said if word.isdigit()}
    target = Target("account", "service", "DB")

    async def values() -> set[int | str]:
        return {value for (value,) in await node.run(target, "select v from t")}

    async with sqlite_node(folder, engine_of(engine)) as node:
        restores = (await node.backups.list(target)).restores
        if not restores:
            found = await values()
            return ["a restore was forgotten"] * ("begun" in said) + ["writes are missing"] * (
                not acknowledged <= found
            )
        restore = await node.until_restored(target, restores[0].id)
        if restore.status is not Status.READY:
            return [f"the restore failed: {restore.reason}"]
        now = await values()
        safety = await node.until_made(target, restore.safety_id)
        if safety.status is not Status.READY:
            return [f"the safety backup failed: {safety.reason}"]
        again = await node.backups.restore(target, "self_hosted", safety.id)
        again = await node.until_restored(target, again.id)
        if again.status is not Status.READY:
            return [f"the safety backup could not be restored: {again.reason}"]
        before = await values()
    problems = [f"{n} is missing" for n in acknowledged - now - before]
    problems += [f"{n} is in both" for n in now & before if n != "before"]
    return problems + ["the backup's row is missing"] * ("before" not in now & before)


@pytest.mark.parametrize("engine", ["stock", "native"])
async def test_a_restore_that_is_killed_at_any_step_is_finished_and_loses_nothing(tmp_path, pytestconfig, engine):
    engine_of(engine)
    chance = random.Random(4)
    steps = iter(range(1, STEPS_MAX))
    if not pytestconfig.getoption("full"):
        steps = iter(sorted(chance.sample(range(1, 58), SHORT_KILLS)))
    for step in steps:
        folder = tmp_path / str(step)
        said = run_until_killed(folder, step, engine)
        problems = await losses(folder, said, engine)
        assert not problems, f"step {step}: {problems[:5]}"
        if "done" in said:
            break
    else:
        assert not pytestconfig.getoption("full"), "there are more steps than were tried"
