"""Copies reach the disk as they grow, a little at a time: others' commits wait behind every sync."""

import io
import os
import time
from pathlib import Path

import pytest

from tovuk_sqlite.store import copies

MIB = 1024 * 1024


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes a file had each time it was synced."""
    seen: list[int] = []
    sync = os.fsync

    def noting(fd: int) -> None:
        seen.append(os.fstat(fd).st_size)
        sync(fd)

    monkeypatch.setattr("os.fsync", noting)
    return seen


def test_a_file_that_is_copied_is_synced_piece_by_piece(tmp_path: Path, synced: list[int]) -> None:
    content = os.urandom(3 * MIB + 5)
    with (tmp_path / "copy").open("wb") as file:
        copies.pour(io.BytesIO(content), file)
    assert (tmp_path / "copy").read_bytes() == content
    assert synced == [MIB, 2 * MIB, 3 * MIB, 3 * MIB + 5]


def test_a_file_is_synced_while_it_is_made(tmp_path: Path, synced: list[int]) -> None:
    path, end = tmp_path / "copy", time.monotonic() + 30
    with copies.syncing(path):
        for size in (1, 2, 3):
            with path.open("ab", buffering=0) as file:
                file.write(b"x")
            while size not in synced:
                assert time.monotonic() < end
                time.sleep(0.001)


def test_a_file_that_was_never_made_is_none_of_its_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no copy"), copies.syncing(tmp_path / "copy"):
        raise ValueError("no copy")
    assert not (tmp_path / "copy").exists()
