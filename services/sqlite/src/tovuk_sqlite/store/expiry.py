"""How far back a history goes, and what of it nobody can ask for any more."""

from collections.abc import Mapping

from tovuk_sqlite.store import rebuild, segments
from tovuk_sqlite.store.archive import Archive


def earliest_ms(archive: Archive, database_id: str, first: int = 0) -> int | None:
    """The earliest moment that can be rebuilt, of the generations from `first` on."""
    for number in rebuild.generations(archive, database_id):
        if number >= first:
            for group in rebuild.groups(archive, database_id, number):
                if group.bases:
                    return group.bases[0].from_ms
    return None


def expire(archive: Archive, database_id: str, ended: Mapping[int, int], until_ms: int) -> None:
    """Remove what no moment after `until_ms` needs. `ended` says when generations were replaced."""
    # By the one after it, whose base stands for its end.
    leaned_on = False
    for number in reversed(rebuild.generations(archive, database_id)):
        if ended.get(number, until_ms + 1) <= until_ms and not leaned_on:
            archive.remove_folder(segments.folder(database_id, number))
            continue
        groups = rebuild.groups(archive, database_id, number)
        bases = [(group.number, base) for group in groups for base in group.bases]
        usable = [(group, base) for group, base in bases if base.from_ms <= until_ms]
        leaned_on = any(base.leans for _, base in usable[-1:] or bases[:1])
        kept = usable[-1][0] if usable else 0
        for group in groups:
            if group.number < kept:
                archive.remove_folder(segments.folder(database_id, number, group.number))
