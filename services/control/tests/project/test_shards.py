from dataclasses import replace

import pytest

from tovuk_control.errors import DatabaseNotFound, InvalidRequest, ShardNotFound, ShardOfOtherFolder, ShardOfOtherOwner
from tovuk_control.project.registry import Registry
from tovuk_control.project.service import Services
from tovuk_control.project.shards import Shards
from tovuk_control.store.accounts import Account
from tovuk_control.store.services import Service
from tovuk_control.store.shards import Move, Placement, Shard
from tovuk_kit.clock import FakeClock
from tovuk_kit.ids import new_id

NOBODY = (0, 0)
FIRST = Shard("shard-1", "unix:/1", "folder-1", "lock-1", "process-1", 0, 0, 30_000, 0)
#: The same folder on another machine.
ELSEWHERE = replace(FIRST, address="unix:/2", lock_id="lock-2", holder="process-2")


@pytest.fixture
async def api(services: Services, ada: Account) -> Service:
    return await services.create(ada.id, "api", "rust_worker", {})


async def new_database(registry: Registry, service: Service, shard: str, name: str = "DB") -> str:
    database_id = new_id("sqlite")
    await registry.reserve(service.account_id, service.id, "sqlite_database", database_id, name, shard=shard)
    return database_id


async def test_a_holder_renews_its_claim_under_the_same_fencing_number(shards: Shards) -> None:
    owned, first = await shards.claim(FIRST, NOBODY)
    assert owned and (first.fencing, first.renewals) == (1, 1)
    owned, second = await shards.claim(FIRST, NOBODY)
    assert owned and (second.fencing, second.renewals) == (1, 2)


async def test_another_machine_gets_a_shard_only_when_it_saw_the_claim_end(shards: Shards) -> None:
    await shards.claim(FIRST, NOBODY)
    owned, stands = await shards.claim(ELSEWHERE, NOBODY)
    assert not owned and stands.holder == "process-1"
    # The holder lives: what was seen is over.
    await shards.claim(FIRST, NOBODY)
    owned, again = await shards.claim(ELSEWHERE, (stands.fencing, stands.renewals))
    assert not owned
    owned, taken = await shards.claim(ELSEWHERE, (again.fencing, again.renewals))
    assert owned and taken.fencing == 2 and taken.address == "unix:/2"
    owned, _ = await shards.claim(FIRST, NOBODY)
    assert not owned, "the process that was given up has its shard back"


async def test_a_wrong_wall_clock_ends_no_claim(shards: Shards, clock: FakeClock) -> None:
    await shards.claim(FIRST, NOBODY)
    clock.skew(10**9)
    assert not (await shards.claim(ELSEWHERE, NOBODY))[0]


async def test_the_next_process_on_a_folder_takes_over_at_once_with_a_higher_number(shards: Shards) -> None:
    await shards.claim(FIRST, NOBODY)
    owned, taken = await shards.claim(replace(FIRST, holder="process-2"), NOBODY)
    assert owned and taken.fencing == 2


async def test_a_takeover_is_told_and_a_renewal_is_not(shards: Shards, published: list[tuple[str, bytes]]) -> None:
    for holder in ("process-1", "process-1", "process-2"):
        await shards.claim(replace(FIRST, holder=holder), NOBODY)
    assert published == [("tovuk.changed.shards", b"")] * 2


async def test_a_shard_that_was_given_up_is_free_at_once(shards: Shards) -> None:
    await shards.claim(FIRST, NOBODY)
    await shards.release("shard-1", "somebody else")
    assert not (await shards.claim(ELSEWHERE, NOBODY))[0]
    await shards.release("shard-1", "process-1")
    owned, taken = await shards.claim(ELSEWHERE, NOBODY)
    assert owned and taken.fencing == 2


async def test_a_shards_databases_cannot_be_claimed_with_another_folder(
    shards: Shards, registry: Registry, api: Service
) -> None:
    empty = replace(ELSEWHERE, store="folder-2")
    _, stands = await shards.claim(FIRST, NOBODY)
    database_id = await new_database(registry, api, "shard-1")
    with pytest.raises(ShardOfOtherFolder):
        await shards.claim(empty, (stands.fencing, stands.renewals))
    await registry.release(api.id, "sqlite_database", database_id)
    assert (await shards.claim(empty, (stands.fencing, stands.renewals)))[0]


@pytest.mark.parametrize("wrong", [{"name": "Shard 1"}, {"address": ""}, {"holder": ""}, {"lasts_ms": 0}])
async def test_a_claim_that_says_too_little_is_refused(shards: Shards, wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        await shards.claim(replace(FIRST, **wrong), NOBODY)  # type: ignore[arg-type]


async def test_shards_are_listed_by_the_databases_they_hold(
    shards: Shards, registry: Registry, api: Service, clock: FakeClock
) -> None:
    await shards.claim(FIRST, NOBODY)
    await new_database(registry, api, "shard-1")
    clock.advance(30_000)
    await shards.claim(replace(FIRST, name="shard-2", store="folder-2", lock_id="lock-2"), NOBODY)
    assert [(shard.name, live, databases) for shard, live, databases in await shards.all()] == [
        ("shard-2", True, 0),
        ("shard-1", False, 1),
    ]


async def test_a_database_is_found_by_id_and_name_while_it_is_reserved(
    shards: Shards, registry: Registry, api: Service
) -> None:
    await shards.claim(FIRST, NOBODY)
    database_id = await new_database(registry, api, "shard-1")
    assert await shards.locate(api.id, "DB") == Placement(database_id, "shard-1", confirmed=False)
    await registry.confirm(api.id, "sqlite_database", database_id)
    assert await shards.locate(api.id, database_id) == Placement(database_id, "shard-1", confirmed=True)
    assert await shards.placements(api.id) == [Placement(database_id, "shard-1", confirmed=True)]
    await registry.release(api.id, "sqlite_database", database_id)
    assert await shards.placements(api.id) == []
    for ref in ("DB", database_id, "\0"):
        with pytest.raises(DatabaseNotFound):
            await shards.locate(api.id, ref)


async def test_databases_and_nothing_else_are_reserved_at_shards_that_exist(
    shards: Shards, registry: Registry, api: Service
) -> None:
    await shards.claim(FIRST, NOBODY)
    for kind, shard in (("sqlite_database", ""), ("sqlite_database", "shard-9"), ("kv_namespace", "shard-1")):
        with pytest.raises(InvalidRequest):
            await registry.reserve(api.account_id, api.id, kind, new_id("x"), "DB", shard=shard)


async def test_a_shard_settles_its_own_claims_only(
    shards: Shards, registry: Registry, api: Service, clock: FakeClock
) -> None:
    await shards.claim(FIRST, NOBODY)
    await shards.claim(replace(FIRST, name="shard-2", store="folder-2", lock_id="lock-2"), NOBODY)
    database_id = await new_database(registry, api, "shard-1")
    clock.advance(60_000)
    assert [claim.id for claim in await registry.unsettled("sqlite_database", "shard-1")] == [database_id]
    assert await registry.unsettled("sqlite_database", "shard-2") == []


async def two_shards(shards: Shards) -> None:
    await shards.claim(FIRST, NOBODY)
    await shards.claim(replace(FIRST, name="shard-2", store="folder-2", lock_id="lock-2", address="unix:/2"), NOBODY)


async def test_a_database_moves_when_its_shard_says_so_and_others_are_told(
    shards: Shards, registry: Registry, api: Service, published: list[tuple[str, bytes]]
) -> None:
    await two_shards(shards)
    database_id = await new_database(registry, api, "shard-1")
    with pytest.raises(DatabaseNotFound):
        await shards.move(database_id, "shard-2")
    await registry.confirm(api.id, "sqlite_database", database_id)
    with pytest.raises(ShardNotFound):
        await shards.move(database_id, "shard-9")
    move = await shards.move(database_id, "shard-2")
    assert move == Move(database_id, "shard-1", "shard-2", "unix:/2")
    assert await shards.moves("shard-1") == [move]
    assert await shards.locate(api.id, "DB") == Placement(database_id, "shard-1", confirmed=True, moving_to="shard-2")
    published.clear()
    for _ in range(2):
        assert await shards.commit_move(move, 1) == "shard-2"
    assert published[0] == (f"tovuk.changed.placements.{api.id}", b"")
    assert await shards.moves("shard-1") == []
    assert await shards.locate(api.id, "DB") == Placement(database_id, "shard-2", confirmed=True)


async def test_neither_a_move_that_was_called_off_nor_one_of_a_former_owner_is_made(
    shards: Shards, registry: Registry, api: Service
) -> None:
    await two_shards(shards)
    database_id = await new_database(registry, api, "shard-1")
    await registry.confirm(api.id, "sqlite_database", database_id)
    move = await shards.move(database_id, "shard-2")
    await shards.claim(replace(FIRST, holder="process-2"), NOBODY)
    with pytest.raises(ShardOfOtherOwner):
        await shards.commit_move(move, 1)
    # Its shard calls it off; the operator would say the same with `move`.
    assert await shards.commit_move(replace(move, to="shard-1"), 2) == "shard-1"
    assert await shards.moves("shard-1") == []
    assert await shards.commit_move(move, 2) == "shard-1"


async def test_what_lies_at_a_shard_is_listed_with_the_folder_it_lay_in(
    shards: Shards, registry: Registry, api: Service
) -> None:
    await two_shards(shards)
    database_id = await new_database(registry, api, "shard-1")
    await new_database(registry, api, "shard-1", "UNCONFIRMED")
    await registry.confirm(api.id, "sqlite_database", database_id)
    store, (database,) = await shards.databases("shard-1")
    assert (store, database.id, database.name, database.service_id) == ("folder-1", database_id, "DB", api.id)
    with pytest.raises(ShardNotFound):
        await shards.databases("shard-9")
