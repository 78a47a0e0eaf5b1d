"""Plays power cuts over the writer's trace: what was synced stays, of the rest any part may, in torn pieces."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

SECTOR_BYTES = 512


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
    """The folder: names as programs see them, and names as the last sync of the folder left them."""

    seen: dict[str, Inode] = field(default_factory=dict)
    durable: dict[str, Inode] = field(default_factory=dict)

    def after_cut(self, chance: random.Random, folder: Path) -> None:
        """Write one of the states a power cut may leave into `folder`."""
        for name in self.seen.keys() | self.durable.keys():
            inode = chance.choice((self.seen, self.durable)).get(name)
            if inode is not None:
                (folder / name).write_bytes(inode.after_cut(chance))


def _put(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


def cuts(
    writer: ModuleType, trace: Path, before: dict[str, bytes], chance: random.Random, count: int
) -> Iterator[tuple[Disk, set[int]]]:
    """The disk, and what was acknowledged, at `count` moments of the trace; the last is its end.

    `before` is the folder as the traced process found it.
    """
    records = _records(writer, trace.read_bytes())
    first = next(place for place, (kind, *_) in enumerate(records) if kind == b"A")
    places = [*sorted(chance.sample(range(first, len(records) - 1), count - 1)), len(records) - 1]
    inodes = {name: Inode(bytearray(data)) for name, data in before.items()}
    disk = Disk(dict(inodes), dict(inodes))
    open_files: dict[int, tuple[str, Inode]] = {}
    began: dict[int, int] = {}
    acknowledged: set[int] = set()
    for place, (kind, file, number, data) in enumerate(records):
        match kind:
            case b"O":
                open_files[file] = (data.decode(), disk.seen.setdefault(data.decode(), Inode()))
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
                    disk.durable = dict(disk.seen)
            case b"D":
                del disk.seen[data.decode()]
                if number:
                    disk.durable = dict(disk.seen)
            case b"Y":
                disk.durable = dict(disk.seen)
            case b"A":
                acknowledged.add(number)
        while places and place == places[0]:
            places.pop(0)
            yield disk, set(acknowledged)


def _records(writer: ModuleType, raw: bytes) -> list[tuple[bytes, int, int, bytes]]:
    header = writer.Trace.HEADER
    records, at = [], 0
    while at + header.size <= len(raw):
        kind, file, number, length = header.unpack_from(raw, at)
        at += header.size + length
        # The kill may have cut the last record.
        if at <= len(raw):
            records.append((kind, file, number, raw[at - length : at]))
    return records
