"""Durable names: what was synced, as the kernel was asked for it."""

import os
import stat
from pathlib import Path

import pytest

from tovuk_kit import files


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files and folders that were synced, in order."""
    seen: list[Path] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        fsync(handle)
        seen.append(Path(f"/proc/self/fd/{handle}").readlink())

    monkeypatch.setattr(os, "fsync", noted)
    return seen


def test_every_level_that_is_made_is_synced_in_its_parent(tmp_path: Path, synced: list[Path]) -> None:
    files.make_folder(tmp_path / "a" / "b" / "c", 0o700)
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    assert stat.S_IMODE((tmp_path / "a" / "b" / "c").stat().st_mode) == 0o700


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path: Path, synced: list[Path]) -> None:
    (tmp_path / "a").mkdir(0o750)
    files.make_folder(tmp_path / "a", 0o700)
    assert synced == []
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o750


def test_a_file_in_the_way_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(NotADirectoryError):
        files.make_folder(tmp_path / "a" / "b")


def test_a_private_file_replaces_a_public_one_of_that_name(tmp_path: Path, synced: list[Path]) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    files.write_private(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    assert synced == [tmp_path / ".secret.new", tmp_path]
