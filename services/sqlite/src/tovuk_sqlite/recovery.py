"""A shard whose folder is lost, rebuilt in another one from what was shipped: at most the last second is missing.

Each database is made whole before the catalog has it, so a process that is killed goes on with the next run. One that
was shipped and is damaged in the archive holds up no other: it is told what is left of it, and comes back as that only
where the loss is accepted.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tovuk_kit.clock import Clock
from tovuk_kit.files import make_folder
from tovuk_sqlite.clients.control import Placed
from tovuk_sqlite.errors import BackupDamaged
from tovuk_sqlite.store import backups, copies, generation, rebuild, segments
from tovuk_sqlite.store.archive import Archive, ObjectMissing
from tovuk_sqlite.store.backups import Backup, BackupRows, Kept
from tovuk_sqlite.store.base import Database, Engine
from tovuk_sqlite.store.catalog import SqliteCatalog
from tovuk_sqlite.store.salvage import Salvage, salvages
from tovuk_sqlite.store.segments import Damaged, Group

#: Of what is said to be wrong with a file.
_PROBLEM_CHARACTERS_MAX: Final = 200

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DataLoss:
    """What is damaged of a database, and the newest state that is whole."""

    database: Database
    problem: str
    #: Everything that was committed until then is in that state; 0 where nothing is whole.
    at_ms: int
    #: The backup that is that state; empty where the history gives it.
    backup_id: str

    def said(self, *, accepted: bool) -> str:
        """It, in one line."""
        moment = datetime.fromtimestamp(self.at_ms / 1_000, UTC).isoformat(timespec="milliseconds")
        moment = moment.replace("+00:00", "Z")
        state = f"its backup {self.backup_id} of {moment}" if self.backup_id else moment
        if not self.at_ms:
            left = "it comes back empty" if accepted else "nothing that is whole is left of it"
        else:
            left = f"it {'is' if accepted else 'can be'} put back to {state}"
        return f"{self.database.id} ({self.database.name} of {self.database.service_id}): {self.problem}; {left}"


async def recover(
    catalog: SqliteCatalog,
    engine: Engine,
    archive: Archive,
    data_dir: Path,
    placed: Sequence[Placed],
    clock: Clock,
    tell: Callable[[DataLoss], None],
    *,
    accept_data_loss: bool = False,
) -> bool:
    """Rebuild what lies at the shard and is not in the catalog, durably, one after the other; whether all is there.

    Losses are told when all that is whole is there, and each before it is accepted. Ours the shard must be: nobody
    else may ship meanwhile. Raises StoreUnavailable, StorageFull.
    """
    rows = BackupRows(catalog.file)

    async def put(lost: _Lost, size: int, until_ms: int = rebuild.EVER) -> None:
        await rows.put(lost.database.id, lost.shipped.kept(clock.wall_ms(), until_ms))
        await catalog.create(lost.database, size)
        _log.info("database %s is rebuilt", lost.database.id)

    damaged: list[tuple[_Lost, str]] = []
    for told in placed:
        if catalog.get(told.id) is not None:
            continue
        lost = await asyncio.to_thread(_Lost, engine, archive, data_dir, told)
        try:
            size = await asyncio.to_thread(lost.rebuild)
        except _NotWhole as error:
            damaged.append((lost, str(error)))
        else:
            await put(lost, size)
    unaccepted = False
    for lost, problem in damaged:
        loss = await asyncio.to_thread(lost.salvage, problem)
        if loss is not None:
            tell(loss)
            if not accept_data_loss:
                unaccepted = True
                await asyncio.to_thread(lost.discard)
                continue
        until_ms = loss.at_ms if loss is not None and loss.at_ms else rebuild.EVER
        await put(lost, await asyncio.to_thread(lost.finish), until_ms)
    return not unaccepted


@dataclass(frozen=True, slots=True)
class _Shipped:
    """What the archive has of a database."""

    #: The generations that have begun, the newest first.
    generations: Mapping[int, Sequence[Group]]
    #: The newest first.
    backups: Sequence[Backup]

    @property
    def newest(self) -> int:
        """The generation whose end is the newest state; 0 where there is none."""
        return max(self.generations, default=0)

    @property
    def next(self) -> int:
        """The number that the database's next generation has."""
        numbers = [*self.generations, *(backup.generation for backup in self.backups)]
        # Of the one between the lost process may have made a base, or be about to, if it is not as lost as it looks.
        return max(numbers) + 2 if numbers else 1

    @property
    def strangers(self) -> list[str]:
        """Names in that generation's history that it gives to nothing: what should lie there may lie under them."""
        groups = self.generations.get(self.newest, ())
        return [f"{self.newest:06}/{group.number:012}/{name}" for group in groups for name in group.strangers]

    def kept(self, now_ms: int, until_ms: int) -> Kept:
        """What a database that is as it was at `until_ms` can be put back to: no moment after that one.

        A generation of which no end is known ended with its last commit.
        """
        ends = {number: rebuild.last_ms(groups) for number, groups in self.generations.items()}
        if ends:
            # The lost machine's clock may have been ahead.
            ends[self.newest] = max(ends[self.newest], now_ms)
        return Kept(self.backups, [], {number: min(ended_ms, until_ms) for number, ended_ms in ends.items()})


def _shipped(archive: Archive, database_id: str) -> _Shipped:
    """What is there; of a generation that had not begun, what a restore has left is removed."""
    numbers = rebuild.generations(archive, database_id)[::-1]
    generations = {number: rebuild.groups(archive, database_id, number) for number in numbers}
    if len(numbers) > 1 and not any(group.segments or group.number for group in generations[numbers[0]]):
        archive.remove_folder(segments.folder(database_id, numbers[0]))
        del generations[numbers[0]]
    found = {}
    for name in archive.names(backups.objects(database_id)):
        backup = backups.described(database_id, name)
        if backup is None:
            _log.warning("%s is no backup of %s and is left alone", name, database_id)
        else:
            found[backup.id] = backup
    return _Shipped(generations, sorted(found.values(), key=lambda one: one.created_at_ms, reverse=True))


class _NotWhole(Exception):
    """A state is damaged; says how."""


class _Lost:
    """A database of the lost folder. Every method blocks."""

    def __init__(self, engine: Engine, archive: Archive, data_dir: Path, told: Placed) -> None:
        self._engine = engine
        self._archive = archive
        self.shipped = _shipped(archive, told.id)
        self.database = Database(
            told.id, told.name, told.service_id, told.account_id, told.created_at_ms, self.shipped.next
        )
        self._file = generation.path(data_dir, self.database)

    def rebuild(self) -> int:
        """Make the database's file of its newest state; its bytes. Raises _NotWhole."""
        if self.shipped.strangers:
            raise _NotWhole(f"{self.shipped.strangers[0]} is no object of its history")
        if not self.shipped.newest:
            raise _NotWhole("the archive has no history of it")
        with _damage():
            part = self._part()
            rebuild.rebuild(self._archive, self.database.id, self.shipped.newest, rebuild.EVER, 0, part)
            self._check(part)
        return self.finish()

    def salvage(self, problem: str) -> DataLoss | None:
        """Make an unfinished file of the newest state that is whole, or an empty one; what is lost with it."""
        for number, state in self._states():
            part = self._part()
            try:
                with _damage():
                    if isinstance(state, Backup):
                        backups.fetch(self._archive, state, part)
                    else:
                        state.make(part)
                    self._check(part)
            except _NotWhole as error:
                _log.warning("a state of %s is not whole: %s", self.database.id, error)
                continue
            if isinstance(state, Backup):
                return DataLoss(self.database, problem, state.created_at_ms, state.id)
            if not state.problem and number == self.shipped.newest and not self.shipped.strangers:
                _log.warning("of %s something is damaged, and nothing is lost: %s", self.database.id, problem)
                return None
            problems = dict.fromkeys(one for one in (problem, state.problem) if one)
            return DataLoss(self.database, ", ".join(problems), state.at_ms, "")
        part = self._part()
        self._engine.create(part)
        copies.clean(self._engine, part)
        return DataLoss(self.database, problem, 0, "")

    def finish(self) -> int:
        """Give the file its name, durably; its bytes."""
        with copies.faults():
            generation.finish(self._file)
            return self._file.stat().st_size

    def discard(self) -> None:
        """Remove the unfinished file."""
        self._part()

    def _states(self) -> Iterator[tuple[int, Salvage | Backup]]:
        """What the database can be put back to, the newest first, and of which generation it is."""
        left = list(self.shipped.backups)
        numbers = {*self.shipped.generations, *(backup.generation for backup in left)}
        for number in sorted(numbers, reverse=True):
            own = [backup for backup in left if backup.generation == number]
            whose = self.database.id, number
            for salvage in salvages(self._archive, whose, self.shipped.generations.get(number, ())):
                while own and own[0].created_at_ms > salvage.at_ms:
                    yield number, own.pop(0)
                yield number, salvage
            yield from ((number, backup) for backup in own)

    def _part(self) -> Path:
        with copies.faults():
            make_folder(self._file.parent)
            return generation.part(self._file)

    def _check(self, part: Path) -> None:
        # What is not whole cannot be opened, maybe, and so not be cleaned.
        copies.check(self._engine, part)
        copies.clean(self._engine, part)


@contextmanager
def _damage() -> Iterator[None]:
    """Tell what is damaged from what goes wrong with the disk or the archive."""
    try:
        with copies.faults():
            yield
    except Damaged as error:
        raise _NotWhole(str(error)) from error
    except ObjectMissing as error:
        raise _NotWhole("an object is missing") from error
    except rebuild.NoHistory as error:
        raise _NotWhole("its history has no base") from error
    except BackupDamaged as error:
        found = "it does not fit its checksum" if error.__cause__ is None else " ".join(str(error.__cause__).split())
        raise _NotWhole(f"it is not whole: {found[:_PROBLEM_CHARACTERS_MAX]}") from error
