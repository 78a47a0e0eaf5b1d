"""Plays power cuts over a trace of a folder: what was synced stays, of the rest any part may, in torn pieces.

A trace is a sequence of records: HEADER (kind, file, number, bytes of data) and data. Kinds: O opened (data: its name
within the folder), W written at `number`, T truncated to `number`, B and E a sync's begin and end (`number`: which),
D removed (`number`: and its folder synced), M a folder made, R renamed (old name, NUL, new name), Y a folder synced,
A something was acknowledged.
"""

import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

SECTOR_BYTES = 512
HEADER = struct.Struct("<cIQI")


class Record(NamedTuple):
    """One thing that happened. Only some kinds have a file, a number, data."""

    kind: bytes
    file: int = 0
    number: int = 0
    data: bytes = b""


@dataclass
class Inode:
    """A file's synced bytes, and what was done since: place in the trace, offset, data (None: a truncation)."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, int, bytes | None]] = field(default_factory=list)

    def sync(self, until: int) -> None:
        """Make durable what was done before place `until` of the trace."""
        for place, offset, data in self.pending:
            if place < until:
                _put(self.durable, offset, data)
        self.pending = [change for change in self.pending if change[0] >= until]

    def after_cut(self, chance: random.Random) -> bytes:
        """One of the contents a power cut may leave."""
        content = bytearray(self.durable)
        share = chance.choice((0.0, 0.5, 0.9, 1.0))
        for _, offset, data in self.pending:
            if data is None:
                if chance.random() < share:
                    _put(content, offset, None)
                continue
            for start in range(0, len(data), SECTOR_BYTES):
                if chance.random() < share:
                    sector = data[start : start + SECTOR_BYTES]
                    torn = chance.random() < 0.02
                    _put(content, offset + start, sector[: chance.randrange(len(sector))] if torn else sector)
        return bytes(content)


@dataclass
class Disk:
    """The folder: names as programs see them, and names as the last sync of each folder left them; None is a folder."""

    seen: dict[str, Inode | None] = field(default_factory=dict)
    durable: dict[str, Inode | None] = field(default_factory=dict)

    def sync_folder(self, folder: str) -> None:
        """Make the names in a folder durable."""
        for name in [name for name in self.seen.keys() | self.durable.keys() if _parent(name) == folder]:
            if name in self.seen:
                self.durable[name] = self.seen[name]
            else:
                del self.durable[name]

    def after_cut(self, chance: random.Random, folder: Path) -> None:
        """Write one of the states a power cut may leave into `folder`."""
        for name in sorted(self.seen.keys() | self.durable.keys()):
            names = chance.choice((self.seen, self.durable))
            if name not in names or not (folder / name).parent.exists():
                continue
            inode = names[name]
            if inode is None:
                (folder / name).mkdir()
            else:
                (folder / name).write_bytes(inode.after_cut(chance))


def _parent(name: str) -> str:
    parent = str(PurePosixPath(name).parent)
    return "" if parent == "." else parent


def _put(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


def cuts(
    records: Sequence[Record], before: dict[str, bytes], chance: random.Random, count: int
) -> Iterator[tuple[Disk, set[int]]]:
    """The disk, and what was acknowledged, at `count` moments of the trace; the last is its end.

    `before` is the folder as the traced process found it.
    """
    first = next(place for place, record in enumerate(records) if record.kind == b"A")
    places = [*sorted(chance.sample(range(first, len(records) - 1), count - 1)), len(records) - 1]
    inodes: dict[str, Inode | None] = {name: Inode(bytearray(data)) for name, data in before.items()}
    disk = Disk(dict(inodes), dict(inodes))
    open_files: dict[int, tuple[str, Inode]] = {}
    began: dict[int, int] = {}
    acknowledged: set[int] = set()
    for place, (kind, file, number, data) in enumerate(records):
        match kind:
            case b"O":
                inode = disk.seen.setdefault(data.decode(), Inode())
                assert inode is not None
                open_files[file] = (data.decode(), inode)
            case b"W":
                open_files[file][1].pending.append((place, number, data))
            case b"T":
                open_files[file][1].pending.append((place, number, None))
            case b"B":
                began[number] = place
            case b"E":
                name, inode = open_files[file]
                inode.sync(began.pop(number))
                # SQLite syncs the folder with the first sync of a journal or WAL (SQLite's os_unix.c, DIRSYNC).
                if name.endswith(("-wal", "-journal")) and disk.durable.get(name) is not inode:
                    disk.sync_folder(_parent(name))
            case b"D":
                del disk.seen[data.decode()]
                if number:
                    disk.sync_folder(_parent(data.decode()))
            case b"M":
                disk.seen[data.decode()] = None
            case b"R":
                old, new = data.decode().split("\0")
                disk.seen[new] = disk.seen.pop(old)
            case b"Y":
                disk.sync_folder(data.decode())
            case b"A":
                acknowledged.add(number)
        while places and place == places[0]:
            places.pop(0)
            yield disk, set(acknowledged)


def read_records(raw: bytes) -> list[Record]:
    """The trace; a last record that the process's end cut short is left out."""
    records, at = [], 0
    while at + HEADER.size <= len(raw):
        kind, file, number, length = HEADER.unpack_from(raw, at)
        at += HEADER.size + length
        if at <= len(raw):
            records.append(Record(kind, file, number, raw[at - length : at]))
    return records
