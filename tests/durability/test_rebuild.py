"""A lost shard's folder is rebuilt from the archive alone, whenever the process that does it is killed."""

import asyncio
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlite_node import Node, engine_of, sqlite_node, until

from tovuk_sqlite.directory import Target
from tovuk_sqlite.store.backups import Backup, Kind, Status

HERE = Path(__file__).parent
SUPPORT = HERE.parent / "support"
SHORT_KILLS, SHORT_LOSSES = 3, 2
STEPS_MAX = 200
CHILD_SECONDS_MAX = 60
MOMENT_S = 0.1


async def shipped(node: Node, target: Target) -> None:
    database = await node.databases.directory.resolve(target)
    chain = node.history.chain(database.id, database.generation)
    await until(lambda: not chain.commits and chain.position is not None and not chain.base_wanted)


async def moment() -> int:
    """A moment that is apart from all before and after it."""
    await asyncio.sleep(MOMENT_S)
    now_ms = int(time.time() * 1000)
    await asyncio.sleep(MOMENT_S)
    return now_ms


async def lose(folder: Path, engine: str) -> tuple[list[str], dict[str, Backup], dict[str, int]]:
    """What two databases leave in the archive: their ids, and backups and moments of the first by name."""
    async with sqlite_node(folder, engine_of(engine)) as node:
        first, second = await node.create("DB0"), await node.create("DB1")
        await node.run(second, "create table t(v)", "insert into t values ('other')")
        await node.run(first, "create table t(v)", "insert into t values ('first')")
        await shipped(node, first)
        moments = {"first": await moment()}
        manual = await node.backed_up(first)
        await node.run(first, "insert into t values ('second')")
        restore = await node.backups.restore(first, "self_hosted", manual.id)
        await node.until_restored(first, restore.id)
        safety = await node.until_made(first, restore.safety_id)
        await shipped(node, first)
        await node.run(first, "insert into t values ('third')")
        moments["third"] = await moment()
        await shipped(node, first)
        await node.run(first, "insert into t values ('fourth')")
        for target in (first, second):
            await shipped(node, target)
        ids = [(await node.databases.directory.resolve(target)).id for target in (first, second)]
    return ids, {"manual": manual, "safety": safety}, moments


def rebuild(folder: Path, archive: Path, step: int, engine: str, ids: list[str]) -> tuple[bool, str]:
    """Rebuild the folder, in a process that kills itself at a step; whether it came to its end, and what it said."""
    arguments = [str(folder), str(archive), str(step), engine, *ids]
    command = [sys.executable, str(HERE / "rebuilder.py"), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=CHILD_SECONDS_MAX, env={"PYTHONPATH": str(SUPPORT)}
    )
    assert done.returncode in (0, -9), done.stderr
    return done.returncode == 0, done.stderr


async def losses(folder: Path, engine: str, backups: dict[str, Backup], moments: dict[str, int]) -> list[str]:
    """What is wrong with a folder that was rebuilt."""
    target = Target("account", "service", "DB0")
    found: list[str] = []

    async def check(name: str, expected: list[str]) -> None:
        values = [value for (value,) in await node.run(target, "select v from t order by rowid")]
        if values != expected:
            found.append(f"{name}: {values}")

    async with sqlite_node(folder, engine_of(engine)) as node:
        if await node.run(Target("account", "service", "DB1"), "select v from t") != [["other"]]:
            found.append("the other database is not as it was")
        await check("now", ["first", "third", "fourth"])
        listed = (await node.backups.list(target)).backups
        if sorted(listed, key=lambda one: one.id) != sorted(backups.values(), key=lambda one: one.id):
            found.append(f"backups: {listed}")
        for name, expected in (("first", ["first"]), ("third", ["first", "third"])):
            again = await node.backups.restore_moment(target, "self_hosted", moments[name])
            if (await node.until_restored(target, again.id)).status is not Status.READY:
                found.append(f"the moment {name} cannot be put back")
            await check(name, expected)
        again = await node.backups.restore(target, "self_hosted", backups["safety"].id)
        if (await node.until_restored(target, again.id)).status is not Status.READY:
            found.append("the safety backup cannot be put back")
        await check("safety", ["first", "second"])
    assert {backup.kind for backup in listed} == {Kind.MANUAL, Kind.SAFETY}
    return found


@pytest.mark.parametrize("engine", ["stock", "native"])
async def test_a_rebuild_that_is_killed_at_any_step_ends_whole_when_it_is_run_again(
    tmp_path: Path, pytestconfig: pytest.Config, engine: str
) -> None:
    ids, backups, moments = await lose(tmp_path / "lost", engine)
    archive = tmp_path / "lost" / "archive"
    chance, full = random.Random(4), pytestconfig.getoption("full")
    for step in range(1, STEPS_MAX) if full else sorted(chance.sample(range(1, 60), SHORT_KILLS)):
        folder = tmp_path / str(step)
        ended, said = rebuild(folder, archive, step, engine, ids)
        assert (ended, said) == (True, "") or rebuild(folder, archive, 0, engine, ids) == (True, "")
        assert list(folder.rglob("*.part")) == [], f"step {step}"
        shutil.copytree(archive, folder / "archive")
        assert await losses(folder, engine, backups, moments) == [], f"step {step}"
        if ended:
            break
    else:
        assert not full, "there are more steps than were tried"


async def test_a_rebuild_that_is_killed_where_a_loss_is_accepted_has_said_so_and_ends_when_it_is_run_again(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    ids, backups, _ = await lose(tmp_path / "lost", "stock")
    archive = tmp_path / "lost" / "archive"
    # The first database's last segment that has a commit.
    damaged = max(path for path in archive.glob(f"{ids[0]}/history/000002/*/0*") if path.name.split("-")[3] > "0" * 13)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    chance, full, target = random.Random(5), pytestconfig.getoption("full"), Target("account", "service", "DB0")
    for step in range(1, STEPS_MAX) if full else sorted(chance.sample(range(20, 90), SHORT_LOSSES)):
        folder = tmp_path / str(step)
        ended, said = rebuild(folder, archive, step, "stock", ids)
        if not ended:
            again, more = rebuild(folder, archive, 0, "stock", ids)
            assert again
            said += more
        assert f"{ids[0]} (DB0 of service): segment " in said and "it is put back to 20" in said, f"step {step}"
        shutil.copytree(archive, folder / "archive")
        async with sqlite_node(folder, engine_of("stock")) as node:
            assert await node.run(target, "select v from t order by rowid") == [["first"], ["third"]], f"step {step}"
            assert await node.run(Target("account", "service", "DB1"), "select v from t") == [["other"]]
            assert len((await node.backups.list(target)).backups) == len(backups)
        if ended:
            break
    else:
        assert not full, "there are more steps than were tried"
