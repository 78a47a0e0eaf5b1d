"""Ownership against control's own noun, every process and machine with clocks of its own."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tovuk_control.project.shards import Shards
from tovuk_control.store.shards import Shard
from tovuk_kit import migrations
from tovuk_kit.clock import FakeClock
from tovuk_kit.engines import open_database
from tovuk_kit.errors import OutcomeUnknown, ServiceUnavailable
from tovuk_sqlite.clients.control import StandingClaim
from tovuk_sqlite.errors import ShardNotOwned
from tovuk_sqlite.ownership import Ownership

LASTS_MS = 30_000
#: What a takeover watches the claim for.
WATCHED_MS = 37_500


class Claims:
    """A process's way to control, which may be cut, or slow by its own clock."""

    def __init__(self, shards: Shards, clock: FakeClock, holder: str, lock: str) -> None:
        self._shards = shards
        self._clock = clock
        self._who = Shard("shard-1", f"unix:/{holder}", "folder", lock, holder, 0, 0, LASTS_MS, 0)
        self.cut = False
        self.travels_ms = 0

    async def claim(self, lasts_ms: int, ended: tuple[int, int]) -> StandingClaim:
        if self.cut:
            raise ServiceUnavailable(service="control")
        owned, stands = await self._shards.claim(self._who, ended)
        self._clock.advance(self.travels_ms)
        return StandingClaim(owned, stands.fencing, stands.renewals, stands.lasts_ms)

    async def release(self) -> None:
        await self._shards.release(self._who.name, self._who.holder)


class Process:
    def __init__(self, shards: Shards, holder: str, lock: str) -> None:
        self.clock = FakeClock()
        self.claims = Claims(shards, self.clock, holder, lock)
        self.ownership = Ownership(self.claims, self.clock, lasts_ms=LASTS_MS)


@pytest_asyncio.fixture
async def process(tmp_path: Path) -> AsyncIterator[Callable[[str, str], Process]]:
    """Makes a process with a name and the lock it holds."""
    database = await open_database(f"sqlite:///{tmp_path}/control.db", migrations.load("tovuk_control.store"))
    # The wall clock of an instance of control stands still: nothing may depend on it.
    shards = Shards(database, FakeClock(), lambda _, __: None)
    yield lambda holder, lock: Process(shards, holder, lock)
    await database.close()


async def test_ownership_ends_by_itself_however_long_the_claims_answer_took(
    process: Callable[[str, str], Process],
) -> None:
    one = process("one", "lock-1")
    one.claims.travels_ms = 4_000
    assert await one.ownership.claim()
    one.clock.advance(LASTS_MS - 4_000 - 1)
    one.ownership.check()
    one.clock.advance(1)
    with pytest.raises(ShardNotOwned):
        one.ownership.check()


async def test_a_renewal_that_fails_prolongs_nothing(process: Callable[[str, str], Process]) -> None:
    one = process("one", "lock-1")
    await one.ownership.claim()
    one.clock.advance(LASTS_MS // 2)
    one.claims.cut = True
    assert not await one.ownership.claim()
    assert one.ownership.holds
    one.clock.advance(LASTS_MS // 2)
    assert not one.ownership.holds
    one.claims.cut = False
    assert await one.ownership.claim()
    assert one.ownership.fencing == 1


async def test_no_two_machines_ever_own_a_shard_and_the_second_one_has_the_higher_number(
    process: Callable[[str, str], Process],
) -> None:
    one, two = process("one", "lock-1"), process("two", "lock-2")
    await one.ownership.claim()
    assert not await two.ownership.claim()
    one.claims.cut = True
    for _ in range(WATCHED_MS // 500):
        assert not (one.ownership.holds and two.ownership.holds)
        assert not await two.ownership.claim()
        one.clock.advance(500)
        two.clock.advance(500)
    assert not one.ownership.holds
    assert await two.ownership.claim()
    assert two.ownership.fencing == 2
    one.claims.cut = False
    assert not await one.ownership.claim()
    assert not one.ownership.holds


async def test_a_renewal_seen_meanwhile_makes_a_takeover_wait_again(process: Callable[[str, str], Process]) -> None:
    one, two = process("one", "lock-1"), process("two", "lock-2")
    await one.ownership.claim()
    await two.ownership.claim()
    two.clock.advance(WATCHED_MS)
    await one.ownership.claim()
    assert not await two.ownership.claim()
    two.clock.advance(WATCHED_MS - 1)
    assert not await two.ownership.claim()
    two.clock.advance(1)
    assert await two.ownership.claim()


async def test_a_process_that_slept_while_another_took_over_owns_nothing_when_it_wakes(
    process: Callable[[str, str], Process],
) -> None:
    one, two = process("one", "lock-1"), process("two", "lock-2")
    await one.ownership.claim()
    await two.ownership.claim()
    two.clock.advance(WATCHED_MS)
    assert await two.ownership.claim()
    one.clock.advance(WATCHED_MS)
    with pytest.raises(ShardNotOwned):
        one.ownership.check()


async def test_what_ended_after_its_ownership_has_an_unknown_outcome(process: Callable[[str, str], Process]) -> None:
    one = process("one", "lock-1")
    await one.ownership.claim()
    with one.ownership.throughout():
        one.clock.advance(LASTS_MS - 1)
    with pytest.raises(OutcomeUnknown), one.ownership.throughout():
        one.clock.advance(1)
    with pytest.raises(ShardNotOwned), one.ownership.throughout():
        pytest.fail("it began")


async def test_the_folders_next_process_does_not_wait_and_neither_does_another_after_an_orderly_end(
    process: Callable[[str, str], Process],
) -> None:
    await process("one", "lock-1").ownership.claim()
    next_one = process("two", "lock-1")
    assert await next_one.ownership.claim()
    assert next_one.ownership.fencing == 2
    await next_one.ownership.close()
    assert not next_one.ownership.holds
    elsewhere = process("three", "lock-2")
    assert await elsewhere.ownership.claim()
    assert elsewhere.ownership.fencing == 3


async def test_what_claims_fail_with_is_told_once_an_outage(
    process: Callable[[str, str], Process], caplog: pytest.LogCaptureFixture
) -> None:
    one = process("one", "lock")
    for _ in range(2):
        one.claims.cut = True
        for _ in range(3):
            assert not await one.ownership.claim()
        one.claims.cut = False
        assert await one.ownership.claim()
    assert caplog.text.count("could not be claimed") == 2
