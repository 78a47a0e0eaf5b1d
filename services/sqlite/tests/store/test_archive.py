"""What every archive promises: one suite over a directory and an S3 server of the test's own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from s3_server import S3Server

from tovuk_kit.errors import StoreUnavailable
from tovuk_sqlite.store.archive import Archive, ObjectMissing
from tovuk_sqlite.store.directory_archive import DirectoryArchive
from tovuk_sqlite.store.s3_archive import S3Archive


@pytest.fixture(params=["directory", "s3"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    if request.param == "directory":
        return DirectoryArchive(tmp_path / "archive", "store")
    return S3Archive.at(request.getfixturevalue("s3").url)


@pytest.fixture
def cut_off(request: pytest.FixtureRequest, archive: Archive, tmp_path: Path) -> Callable[[], None]:
    """Makes the archive fail."""
    if isinstance(archive, S3Archive):
        server: S3Server = request.getfixturevalue("s3")
        return server.kill

    def no_directory() -> None:
        shutil.rmtree(tmp_path / "archive", ignore_errors=True)
        (tmp_path / "archive").write_text("")

    return no_directory


def test_what_is_put_is_got_and_put_again_is_no_harm(archive: Archive) -> None:
    for _ in range(2):
        archive.put("a/b-1", b"content")
    archive.put("a/empty", b"")
    assert (archive.get("a/b-1"), archive.get("a/empty")) == (b"content", b"")


def test_a_file_of_many_parts_is_put_and_got(archive: Archive, tmp_path: Path) -> None:
    content = os.urandom(1_000_000) * 40
    (tmp_path / "there").write_bytes(content)
    archive.put_file("a/large", tmp_path / "there")
    archive.get_file("a/large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content
    assert archive.get("a/large") == content


def test_what_was_never_put_is_missing(archive: Archive, tmp_path: Path) -> None:
    archive.put("a/b", b"content")
    for name in ("a/c", "b"):
        with pytest.raises(ObjectMissing):
            archive.get(name)
        with pytest.raises(ObjectMissing):
            archive.get_file(name, tmp_path / "back")


def test_names_are_those_right_below_a_folder_in_order(archive: Archive) -> None:
    for name in ("a/3", "a/1", "a/2/x", "a/2/y", "ab/1"):
        archive.put(name, b"")
    assert archive.names("a") == ["1", "2", "3"]
    assert archive.names("a/2") == ["x", "y"]
    assert archive.names("none") == []


def test_more_names_than_one_answer_holds_are_all_listed(archive: Archive) -> None:
    names = [f"{number:06}" for number in range(1_100)]
    for name in names:
        archive.put(f"a/{name}", b"")
    assert archive.names("a") == names
    archive.remove_folder("a")
    assert archive.names("a") == []


def test_what_is_removed_is_missing_and_removed_again_is_no_harm(archive: Archive) -> None:
    for name in ("a/1", "a/2/x", "b/1"):
        archive.put(name, b"")
    for _ in range(2):
        archive.remove("b/1")
        archive.remove_folder("a")
    assert archive.names("a") == archive.names("b") == []


def test_a_broken_archive_is_told_as_such_by_every_verb(
    archive: Archive, cut_off: Callable[[], None], tmp_path: Path
) -> None:
    archive.put("a/b", b"content")
    (tmp_path / "there").write_bytes(b"content")
    cut_off()
    for verb in (
        lambda: archive.put("a/c", b""),
        lambda: archive.put_file("a/c", tmp_path / "there"),
        lambda: archive.get("a/b"),
        lambda: archive.get_file("a/b", tmp_path / "back"),
        lambda: archive.names("a"),
        lambda: archive.remove("a/b"),
        lambda: archive.remove_folder("a"),
    ):
        with pytest.raises(StoreUnavailable):
            verb()


_PUTS = """
import sys
from pathlib import Path
from tovuk_sqlite.store.directory_archive import DirectoryArchive
DirectoryArchive(Path(sys.argv[1]), "store").put_file("a/b", Path(sys.argv[2]))
"""


def test_what_a_killed_process_did_not_finish_is_nowhere_once_the_next_begins(tmp_path: Path) -> None:
    root, endless = tmp_path / "archive", tmp_path / "endless"
    os.mkfifo(endless)
    process = subprocess.Popen([sys.executable, "-c", _PUTS, str(root), str(endless)])
    with endless.open("wb") as file:
        file.write(bytes(1_000_000))
        while not _files(root):
            assert process.poll() is None
        process.kill()
        process.wait()
    left = _files(root)
    archive = DirectoryArchive(root, "another")
    assert _files(root) == left != []
    archive = DirectoryArchive(root, "store")
    assert _files(root) == archive.names("a") == []


def _files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def test_an_s3_server_that_comes_back_is_used_again(s3: S3Server) -> None:
    archive = S3Archive.at(s3.url)
    archive.put("a/b", b"content")
    s3.kill()
    with pytest.raises(StoreUnavailable):
        archive.get("a/b")
    s3.start()
    assert archive.get("a/b") == b"content"


def test_a_wrong_key_is_not_mistaken_for_something_missing(s3: S3Server) -> None:
    S3Archive.at(s3.url).put("a/b", b"content")
    wrong = S3Archive.at(s3.url.replace("secret%2F%2B", "guessed"))
    with pytest.raises(StoreUnavailable):
        wrong.get("a/b")
    with pytest.raises(StoreUnavailable):
        wrong.put("a/c", b"")
