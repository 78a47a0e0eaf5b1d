import contextlib
import os
import random
import shutil
from pathlib import Path

import apsw
import pytest

from tovuk_sqlite.store import wal


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database whose WAL has some commits, the last of them of many frames."""
    path = tmp_path / "db"
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.execute("pragma journal_mode = wal; pragma wal_autocheckpoint = 0; create table t(x)").fetchall()
        for size in (10, 20_000, 5, 70_000):
            connection.execute("insert into t values (randomblob(?))", (size,))
    return path


def ours(path: Path, first: int = 0) -> int:
    fd = os.open(f"{path}-wal", os.O_RDONLY)
    try:
        header = wal.read_header(fd)
        if header is None:
            return 0
        checksum = header.checksum
        for frame, _ in wal.frames(wal.read_frames(fd, header, first - 1, 1) if first else b"", header):
            checksum = frame.checksum
        return wal.committed_frames(fd, header, first, checksum)
    finally:
        os.close(fd)


def sqlites(path: Path) -> int:
    """What SQLite itself finds when it opens a copy."""
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{path}.copy{suffix}")
    with contextlib.closing(apsw.Connection(f"{path}.copy")) as connection:
        connection.execute("select count(*) from sqlite_schema").fetchall()
        frames, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    return int(frames)


def test_committed_frames_are_those_that_sqlite_finds_wherever_the_wal_breaks(database: Path) -> None:
    chance = random.Random(2)
    whole = Path(f"{database}-wal").read_bytes()
    assert ours(database) == sqlites(database) > 20
    for number in range(40):
        broken = bytearray(whole)
        if number % 2:
            broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
        else:
            del broken[chance.randrange(len(broken)) :]
        Path(f"{database}-wal").write_bytes(broken)
        assert ours(database) == sqlites(database)


def test_frames_of_the_run_before_are_not_taken_for_this_ones(database: Path) -> None:
    with contextlib.closing(apsw.Connection(str(database))) as connection:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.execute("pragma wal_autocheckpoint = 0; select count(*) from t").fetchall()
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        before = _salts(database)
        connection.execute("insert into t values (1)")
    after = _salts(database)
    assert after.run == before.run + 1 and after.random != before.random
    assert ours(database) == sqlites(database) < 5


def test_what_is_known_to_be_good_is_not_read_again(database: Path) -> None:
    assert ours(database, first=9) == ours(database)


def _salts(database: Path) -> wal.Salts:
    fd = os.open(f"{database}-wal", os.O_RDONLY)
    try:
        salts = wal.read_salts(fd)
    finally:
        os.close(fd)
    assert salts is not None
    return salts
