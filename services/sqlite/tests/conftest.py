"""An engine's file in a temporary folder, and budgets."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from s3_server import S3Server
from sqlite_node import Node, engine_of, sqlite_node

from tovuk_sqlite import writes
from tovuk_sqlite.store.base import Budget, Engine, Reader, Results, Statement, Writer


def budget(**changes: Any) -> Budget:
    """One that binds nothing but what is given."""
    given: dict[str, Any] = {
        "rows_read": 10**9,
        "rows_written": 10**9,
        "more": lambda _bound, _used: 0,
        "file_bytes": 2**30,
        "ends_at_s": time.monotonic() + 25,
        "result_rows": 10_000,
        "result_bytes": 10**7,
        "params": 100,
        **changes,
    }
    return Budget(**given)


class Result(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """What an engine's JSON says of one statement."""

    columns: tuple[str, ...]
    raw: msgspec.Raw = msgspec.field(name="rows")
    row_count: int
    rows_read: int
    rows_written: int
    vm_steps: int
    fullscan_steps: int
    changes: int
    last_insert_rowid: int
    more: bool | msgspec.UnsetType = msgspec.UNSET

    @property
    def rows(self) -> bytes:
        """As they stand in the JSON."""
        return bytes(self.raw)


def told(results: Results) -> list[Result]:
    """Each statement's result; what is told of all of them together is true."""
    each = msgspec.json.decode(b"[%b]" % results.content, type=list[Result])
    for name in ("rows_read", "rows_written", "vm_steps", "changes"):
        assert getattr(results, name) == sum(getattr(one, name) for one in each)
    assert list(results.fullscan_steps) == [one.fullscan_steps for one in each]
    assert results.row_count == each[-1].row_count
    each[-1].more = results.more
    return each


@dataclass
class File:
    """An empty database's file with a writer and a reader."""

    writer: Writer
    reader: Reader

    def write(self, *sql: str | tuple[str, Any], **limits: Any) -> list[Result]:
        """Run statements and commit; nothing stays when that raises."""
        self.writer.begin()
        try:
            results = told(self.writer.run(_statements(sql), budget(**limits)))
            self.writer.commit()
        except BaseException:
            self.writer.roll_back()
            raise
        return results

    def read(self, *sql: str | tuple[str, Any], **limits: Any) -> list[Result]:
        """Run statements on the reader."""
        return told(self.reader.run(_statements(sql), budget(**limits)))

    def told(self, results: Results) -> Result:
        """The result of a run of one statement."""
        [one] = told(results)
        return one

    def rows(self, sql: str, params: Any = ()) -> bytes:
        """The JSON of one statement's rows."""
        return self.read((sql, params))[0].rows


def _statements(sql: tuple[str | tuple[str, Any], ...]) -> list[Statement]:
    return [Statement(one) if isinstance(one, str) else Statement(*one) for one in sql]


@pytest.fixture(params=["stock", "native"])
def engine_name(request: pytest.FixtureRequest) -> str:
    """Every test of an engine runs on each; a file's own fixture of this name picks one."""
    name: str = request.param
    return name


@pytest.fixture
def engine(engine_name: str) -> Engine:
    return engine_of(engine_name)


@pytest.fixture
def other_engine(engine: Engine) -> Engine:
    """The one that `engine` is not."""
    return engine_of("stock" if engine.rows_read_exact else "native")


@pytest.fixture
def file(engine: Engine, tmp_path: Path) -> Iterator[File]:
    path = tmp_path / "databases" / "aa" / "sqlite_aa" / "1.sqlite"
    engine.create(path)
    opened = File(engine.open_writer(path), engine.open_reader(path))
    yield opened
    opened.reader.close()
    opened.writer.close()


@pytest.fixture
def make_budget() -> Callable[..., Budget]:
    return budget


@pytest.fixture
async def node(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    """A process over an empty data folder."""
    monkeypatch.setattr(writes, "SHORT_WRITE_SECONDS_MAX", 0.2)
    async with sqlite_node(tmp_path, engine) as node:
        yield node


@pytest.fixture
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.kill()
