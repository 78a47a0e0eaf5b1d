"""The port to where backups are kept: objects under names with slashes, never changed once they are there.

Methods block, and may be called from any thread. They raise StoreUnavailable and StorageFull.
"""

from pathlib import Path
from typing import Protocol


class ObjectMissing(Exception):
    """There is no object of this name."""


class Archive(Protocol):
    """Objects. What is put is durable on return, and whole or not there at all."""

    def put(self, name: str, content: bytes) -> None:
        """Keep the bytes; again is no harm."""
        ...

    def put_file(self, name: str, path: Path) -> None:
        """Keep a copy of the file's bytes; again is no harm."""
        ...

    def get(self, name: str) -> bytes:
        """The bytes. Raises ObjectMissing."""
        ...

    def get_file(self, name: str, path: Path) -> None:
        """Write the bytes into a new file, durably. Raises ObjectMissing."""
        ...

    def names(self, folder: str) -> list[str]:
        """The last parts of the names right below a folder, in order."""
        ...

    def remove(self, name: str) -> None:
        """Remove an object; no harm where there is none."""
        ...

    def remove_folder(self, folder: str) -> None:
        """Remove every object below a folder."""
        ...
