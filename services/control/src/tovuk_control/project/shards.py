"""Shards: which process owns each, and which databases lie there.

A claim is bound in time without any clock of control's. The holder counts from the sending of its request; whoever
wants to take over watches the claim by its own clock, and takes it only if it is then still the one that was seen.
"""

import re
from dataclasses import replace
from typing import Final

from tovuk_control.errors import DatabaseNotFound, InvalidRequest, ShardNotFound, ShardOfOtherFolder, ShardOfOtherOwner
from tovuk_control.limits import MOVES_PAGE, SHARD_CLAIM_MS_MAX
from tovuk_control.project.changes import Publish, placements_changed, shards_changed
from tovuk_control.store import shards as table
from tovuk_control.store.resources import Resource
from tovuk_control.store.shards import Move, Placement, Shard
from tovuk_kit.clock import Clock
from tovuk_kit.database import Database, Tx

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


class Shards:
    """Claims of shards by their processes, and where databases lie."""

    def __init__(self, database: Database, clock: Clock, publish: Publish) -> None:
        self._database = database
        self._clock = clock
        self._publish = publish

    async def claim(self, wanted: Shard, ended: tuple[int, int]) -> tuple[bool, Shard]:
        """Whether the shard is the caller's from now on, and the claim that stands.

        `wanted` says who asks; its counters and time are ignored. `ended` is the claim of another, by its fencing
        number and renewals, that the caller has seen to end. Raises InvalidRequest, ShardOfOtherFolder.
        """
        if _NAME.fullmatch(wanted.name) is None or not all((wanted.address, wanted.store, wanted.lock_id)):
            raise InvalidRequest(reason="a claim needs a shard's name, an address, a folder and its lock")
        if not wanted.holder or not 0 < wanted.lasts_ms <= SHARD_CLAIM_MS_MAX:
            raise InvalidRequest(reason="a claim needs a holder and a time it holds")
        now_ms = self._clock.wall_ms()

        def work(tx: Tx) -> tuple[bool, Shard]:
            tx.lock(f"shard:{wanted.name}")
            stands = table.get(tx, wanted.name)
            if stands is None:
                claimed = replace(wanted, fencing=1, renewals=1, renewed_at_ms=now_ms)
            elif stands.holder == wanted.holder:
                renewals = stands.renewals + 1
                claimed = replace(wanted, fencing=stands.fencing, renewals=renewals, renewed_at_ms=now_ms)
            else:
                # The lock is one process's: whoever has it knows that the holder before is dead.
                free = not stands.holder or stands.lock_id == wanted.lock_id
                if not free and (stands.fencing, stands.renewals) != ended:
                    return False, stands
                if stands.store != wanted.store and table.holds_databases(tx, wanted.name):
                    raise ShardOfOtherFolder(shard=wanted.name)
                claimed = replace(wanted, fencing=stands.fencing + 1, renewals=1, renewed_at_ms=now_ms)
            table.put(tx, claimed)
            return True, claimed

        owned, stands = await self._database.write(work)
        if owned and stands.renewals == 1:
            shards_changed(self._publish)
        return owned, stands

    async def release(self, name: str, holder: str) -> None:
        """The process serves the shard no more; nothing happens where it is not the holder."""

        def work(tx: Tx) -> None:
            tx.lock(f"shard:{name}")
            stands = table.get(tx, name)
            if stands is not None and stands.holder == holder:
                table.put(tx, replace(stands, holder=""))

        await self._database.write(work)

    async def all(self) -> list[tuple[Shard, bool, int]]:
        """Every shard, whether it was claimed lately, and its databases; the one with the fewest first."""
        now_ms = self._clock.wall_ms()
        found = await self._database.read(table.all_with_databases)
        return [
            (shard, bool(shard.holder) and now_ms - shard.renewed_at_ms < shard.lasts_ms, databases)
            for shard, databases in found
        ]

    async def locate(self, service_id: str, ref: str) -> Placement:
        """Where the service's database of this id or name lies. Raises DatabaseNotFound."""
        placement = None
        if "\0" not in ref:
            placement = await self._database.read(lambda tx: table.located(tx, service_id, ref))
        if placement is None:
            raise DatabaseNotFound
        return placement

    async def placements(self, service_id: str) -> list[Placement]:
        """Where each database of the service lies, those that are being created included."""
        return await self._database.read(lambda tx: table.of_service(tx, service_id))

    async def move(self, database_id: str, to: str) -> Move:
        """Note that a database is to move to a shard; to its own, that it stays.

        Raises DatabaseNotFound, ShardNotFound.
        """

        def work(tx: Tx) -> Move:
            tx.lock(f"placement:{database_id}")
            found = table.of_database(tx, database_id)
            if found is None or not found[1].confirmed:
                raise DatabaseNotFound
            target = table.get(tx, to)
            if target is None:
                raise ShardNotFound
            placement = found[1]
            table.put_placement(tx, replace(placement, moving_to="" if to == placement.shard else to))
            return Move(database_id, placement.shard, to, target.address)

        return await self._database.write(work)

    async def databases(self, name: str) -> tuple[str, list[Resource]]:
        """The id of the folder the shard was claimed with, and the databases that lie there. Raises ShardNotFound."""

        def work(tx: Tx) -> tuple[str, list[Resource]]:
            shard = table.get(tx, name)
            if shard is None:
                raise ShardNotFound
            return shard.store, table.databases_of(tx, name)

        return await self._database.read(work)

    async def moves(self, shard: str) -> list[Move]:
        """What is to leave the shard, its first hundred."""
        return await self._database.read(lambda tx: table.moves(tx, shard, MOVES_PAGE))

    async def commit_move(self, move: Move, fencing: int) -> str:
        """Where the database lies from now on: at `move.to`, if it was to go there, else where it was.

        A move from a shard to itself calls off whatever was to be made. Raises DatabaseNotFound, and ShardOfOtherOwner
        where the shard it leaves has another owner than that of `fencing`.
        """

        def work(tx: Tx) -> tuple[str, str]:
            tx.lock(f"shard:{move.shard}")
            tx.lock(f"placement:{move.database_id}")
            owner, found = table.get(tx, move.shard), table.of_database(tx, move.database_id)
            if owner is None or owner.fencing != fencing:
                raise ShardOfOtherOwner
            if found is None:
                raise DatabaseNotFound
            service_id, placement = found
            if placement.shard == move.shard and move.to in (move.shard, placement.moving_to):
                placement = replace(placement, shard=move.to, moving_to="")
                table.put_placement(tx, placement)
            return service_id, placement.shard

        service_id, shard = await self._database.write(work)
        placements_changed(self._publish, service_id)
        return shard
