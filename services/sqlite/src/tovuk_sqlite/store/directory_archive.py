"""The archive as files in a directory."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from tovuk_kit.files import make_folder, sync_folder
from tovuk_kit.sqlite_errors import translated
from tovuk_sqlite.store import copies
from tovuk_sqlite.store.archive import ObjectMissing

#: The folder of files that are being written; no object's name begins so.
_UNFINISHED = ".unfinished"


class DirectoryArchive:
    """The Archive below one directory, which several shards may share."""

    def __init__(self, root: Path, store_id: str) -> None:
        """What a killed process of this store left unfinished is removed; the store has no other process."""
        self._root = root
        self._unfinished = root / _UNFINISHED / store_id
        shutil.rmtree(self._unfinished, ignore_errors=True)

    def put(self, name: str, content: bytes) -> None:
        self._put(name, lambda file: file.write(content))

    def put_file(self, name: str, path: Path) -> None:
        def write(file: BinaryIO) -> None:
            with path.open("rb") as source:
                copies.pour(source, file)

        self._put(name, write)

    def get(self, name: str) -> bytes:
        with _faults():
            return (self._root / name).read_bytes()

    def get_file(self, name: str, path: Path) -> None:
        with _faults(), (self._root / name).open("rb") as source, path.open("xb") as file:
            copies.pour(source, file)

    def names(self, folder: str) -> list[str]:
        with _faults():
            try:
                return sorted(path.name for path in (self._root / folder).iterdir())
            except FileNotFoundError:
                return []

    def remove(self, name: str) -> None:
        with _faults():
            (self._root / name).unlink(missing_ok=True)

    def remove_folder(self, folder: str) -> None:
        with _faults(), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._root / folder)

    def _put(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        path = self._root / name
        unfinished = self._unfinished / secrets.token_hex(8)
        with copies.faults():
            unfinished.parent.mkdir(parents=True, exist_ok=True)
            make_folder(path.parent)
            try:
                with unfinished.open("xb") as file:
                    write(file)
                    file.flush()
                    os.fsync(file.fileno())
                unfinished.replace(path)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
            sync_folder(path.parent)


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectMissing(error.filename) from error
    except OSError as error:
        raise translated(error) from error
