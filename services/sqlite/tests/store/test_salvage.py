"""States of a damaged history are of one moment, whatever lies around the damage."""

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest
from sqlite_node import Node, until

from tovuk_sqlite.chain import Chain
from tovuk_sqlite.directory import Target
from tovuk_sqlite.store import rebuild
from tovuk_sqlite.store.salvage import Salvage, salvages
from tovuk_sqlite.store.segments import Damaged

#: It touches the page of the counter and many others.
LARGE = "insert into filler select randomblob(100000) from json_each('[1, 1, 1, 1, 1]')"


@dataclass
class Counted:
    """A database with a counter, shipped by hand; each change of the counter adds rows too."""

    node: Node
    target: Target
    chain: Chain

    async def count(self, *more: str) -> None:
        await self.node.run(
            self.target, "update counter set n = n + 1", "insert into filler values (randomblob(9000))", *more
        )

    def segments(self) -> list[Path]:
        place = self.node.data_dir / "archive" / self.chain.database_id
        return sorted(path for path in place.glob("history/*/*/*") if not path.name.startswith("base"))

    def salvaged(self) -> list[Salvage]:
        whose = self.chain.database_id, self.chain.generation
        return list(salvages(self.node.archive, whose, rebuild.groups(self.node.archive, *whose)))

    def counter(self, salvage: Salvage) -> int:
        """What it says in a state; it is of one moment."""
        path = self.node.data_dir / "salvaged"
        path.unlink(missing_ok=True)
        salvage.make(path)
        assert self.node.files.engine.problems(path) == []
        with contextlib.closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)) as file:
            n, rows = file.execute("select n, (select count(*) from filler where length(x) = 9000) from counter").get
        assert n == rows
        return int(n)


@pytest.fixture
def engine_name() -> str:
    """What is read of an archive does not depend on the engine."""
    return "stock"


@pytest.fixture
async def counted(node: Node) -> Counted:
    target = await node.create()
    await node.run(target, "create table counter(n)", "create table filler(x)", "insert into counter values (0)")
    database = await node.databases.directory.resolve(target)
    chain = node.history.chain(database.id, database.generation)
    await until(lambda: not chain.commits and chain.position is not None and not chain.base_wanted)
    await node.shipping.close()
    return Counted(node, target, chain)


def _damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


async def test_nothing_of_a_transaction_whose_end_is_damaged_is_put_back(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tovuk_sqlite.history.SEGMENT_ENTRIES_MAX", 20)
    await counted.count()
    # More than a slice of the history later, and shipped with the first.
    await asyncio.sleep(0.1)
    await counted.count(LARGE)
    counted.node.history.ship(counted.chain)
    assert [counted.counter(salvage) for salvage in counted.salvaged()] == [2, 0]
    _damage(counted.segments()[-1])
    found = counted.salvaged()
    assert [counted.counter(salvage) for salvage in found] == [1, 0]
    assert found[0].problem.endswith("it does not fit its checksum")


async def test_on_a_base_nothing_is_put_of_what_it_holds_unless_all_of_that_is_whole(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    await counted.count()
    counted.node.history.ship(counted.chain)
    monkeypatch.setattr("tovuk_sqlite.history.SEGMENT_ENTRIES_MAX", 6)
    before = len(counted.segments())
    for _ in range(3):
        await asyncio.sleep(0.1)
        await counted.count()
    counted.chain.base_wanted = True
    counted.node.history.take_base(counted.chain)
    await asyncio.sleep(0.1)
    # The base has all of it, and the segments after it are what it holds.
    assert len(counted.segments()) > before + 3
    assert counted.counter(counted.salvaged()[0]) == 4
    _damage(counted.segments()[-1])
    newest, *others = counted.salvaged()
    assert counted.counter(newest) == 4
    assert {counted.counter(salvage) for salvage in others} <= {0, 1, 2, 3}


async def test_a_base_that_is_damaged_is_not_used(counted: Counted) -> None:
    await counted.count()
    (base,) = (counted.node.data_dir / "archive" / counted.chain.database_id).glob("history/*/*/base-*")
    _damage(base)
    for salvage in counted.salvaged():
        with pytest.raises(Damaged):
            salvage.make(counted.node.data_dir / "salvaged")
        (counted.node.data_dir / "salvaged").unlink()
