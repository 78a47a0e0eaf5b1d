"""What the archive has of a database that moves, brought into another shard's archive before the database goes there.

Objects never change, so what is there already is not sent again, and all but the newest can be sent while the database
is used. Meanwhile nobody puts objects together.
"""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from tovuk_sqlite.clients.shard import Arriving, OtherShard
from tovuk_sqlite.limits import CHUNK_BYTES
from tovuk_sqlite.store import copies, generation, rebuild, segments
from tovuk_sqlite.store.archive import Archive, ObjectMissing
from tovuk_sqlite.store.backups import objects

#: So many of the newest groups of a history may still get objects: a base comes after segments of its group, and of
#: the next.
_GROWING_GROUPS: Final = 2
#: The archive's folder of notes; no database has this id. What ends the name of a claim; no shard's name ends so.
_COMING: Final = "coming"
_CLAIM: Final = ".claim"


class Mirror:
    """The objects of one database in one attempt to move it."""

    def __init__(self, archive: Archive, other: OtherShard, arriving: Arriving, number: int, data_dir: Path) -> None:
        """`number` is the generation that the database is at here."""
        self._archive = archive
        self._other = other
        self._arriving = arriving
        self._database_id = arriving.database.id
        self._number = number
        self._data_dir = data_dir
        #: Folders that get nothing more, and all of which is there.
        self._done: set[str] = set()
        #: All of the generations before is there.
        self._old_done = False
        #: Names in other folders that are there.
        self._there: set[str] = set()

    async def begin(self) -> bool:
        """Begin the attempt; whether the two archives are two. Raises TovukError."""
        folder, probe = f"{self._database_id}/probe", f"probe/{secrets.token_hex(16)}"
        await asyncio.to_thread(self._archive.put, f"{self._database_id}/{probe}", b"")
        try:
            return not await self._other.begin(self._arriving, probe)
        finally:
            await asyncio.to_thread(self._archive.remove_folder, folder)

    async def send(self) -> None:
        """Send what is not there; again, only what has been added since. Raises TovukError."""
        for folder, grows in await asyncio.to_thread(self._folders):
            names = await asyncio.to_thread(self._archive.names, folder)
            new = [name for name in names if f"{folder}/{name}" not in self._there]
            if new:
                for name in await self._other.missing(self._arriving, self._inside(folder), new):
                    await self._send(f"{folder}/{name}")
            if grows:
                self._there.update(f"{folder}/{name}" for name in new)
            else:
                self._there.difference_update(f"{folder}/{name}" for name in names)
                self._done.add(folder)
        self._old_done = True

    def _folders(self) -> list[tuple[str, bool]]:
        """Those that may hold what is not there, and whether more may come into them."""
        found = [(objects(self._database_id), True)]
        numbers = [] if self._old_done else rebuild.generations(self._archive, self._database_id)
        for number in {self._number, *numbers}:
            groups = list(map(int, self._archive.names(segments.folder(self._database_id, number))))
            growing = groups[-_GROWING_GROUPS:] if number == self._number else []
            found += [(segments.folder(self._database_id, number, group), group in growing) for group in groups]
        return [(folder, grows) for folder, grows in found if folder not in self._done]

    async def _send(self, name: str) -> None:
        part = generation.moving_object(self._data_dir, self._database_id)
        try:
            try:
                sha256 = await asyncio.to_thread(self._fetch, name, part)
            except ObjectMissing:
                # It has expired meanwhile.
                return
            await self._other.put(self._arriving, self._inside(name), part.stat().st_size, sha256, _chunks(part))
        finally:
            await asyncio.to_thread(part.unlink, missing_ok=True)

    def _fetch(self, name: str, part: Path) -> str:
        with copies.faults():
            part.parent.mkdir(parents=True, exist_ok=True)
            self._archive.get_file(name, part)
            return copies.sha256(part)

    def _inside(self, name: str) -> str:
        return name.removeprefix(f"{self._database_id}/")


class Notes:
    """Which databases come with their objects, as an archive says. Every method blocks, and raises StoreUnavailable.

    A shard claims a database, and notes it where no other one has claimed it, before the first object comes. While the
    note is there, the objects are nobody's but that shard's: where its folder knows nothing of the database, they are
    left over.
    """

    def __init__(self, archive: Archive, shard: str) -> None:
        self._archive = archive
        self._shard = shard

    def own(self) -> dict[str, bool]:
        """What this shard has claimed, and whether it has noted it."""
        # Where both are there, the note comes last.
        return dict(sorted((database_id, noted) for database_id, shard, noted in self._all() if shard == self._shard))

    def claim(self, database_id: str) -> bool:
        """Claim the database; whether no other shard has: of two that claim at once, one at least sees both."""
        self._archive.put(f"{self._name(database_id)}{_CLAIM}", b"")
        return all(shard == self._shard for claimed, shard, _ in self._all() if claimed == database_id)

    def note(self, database_id: str) -> None:
        """Note what is claimed."""
        self._archive.put(self._name(database_id), b"")

    def remove(self, database_id: str) -> None:
        """Nothing of the database is left over any more."""
        self._archive.remove(self._name(database_id))
        self._archive.remove(f"{self._name(database_id)}{_CLAIM}")

    def _all(self) -> list[tuple[str, str, bool]]:
        names = [name.partition("-") for name in self._archive.names(_COMING)]
        return [
            (database_id, shard.removesuffix(_CLAIM), not shard.endswith(_CLAIM)) for database_id, _, shard in names
        ]

    def _name(self, database_id: str) -> str:
        return f"{_COMING}/{database_id}-{self._shard}"


class Received:
    """An object on its way into this shard's archive."""

    def __init__(self, part: Path) -> None:
        self._part = part
        self._digest = hashlib.sha256()
        self._size = 0

    async def take(self, chunks: AsyncIterator[bytes]) -> None:
        """Write what comes. Raises StorageFull, StoreUnavailable."""
        with copies.faults():
            self._part.parent.mkdir(parents=True, exist_ok=True)
            with self._part.open("xb") as file:
                async for data in chunks:
                    await asyncio.to_thread(file.write, data)
                    self._digest.update(data)
                    self._size += len(data)

    def is_whole(self, size_bytes: int, sha256: str) -> bool:
        """Whether all came, and as it was."""
        return (self._size, self._digest.hexdigest()) == (size_bytes, sha256)


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield data
