"""What a process holds, and how a lease leaves its hands."""

import pytest
from scripted import ACCOUNT, ScriptedStore

from tovuk.metering.v1 import metering_pb2 as wire
from tovuk_kit.holding import Holder, Holdings, Lease
from tovuk_kit.usage import UNLIMITED


@pytest.fixture
def holder() -> Holder:
    return Holder(0, ScriptedStore(), 1)


def lease_of(holder: Holder) -> Lease:
    lease = holder.leases[ACCOUNT, "kv_writes"] = Lease(holder, ACCOUNT, "kv_writes")
    lease.adopt(wire.LeaseState(lease_id=7, version=1, granted=10, ends_in_ms=100, day="2026-11-21"), sent_at=50)
    return lease


def test_a_lease_counts_its_end_from_the_sending_of_the_request(holder: Holder) -> None:
    assert lease_of(holder).ends_at == 150


def test_a_lease_without_a_limit_has_units_without_end(holder: Holder) -> None:
    lease = lease_of(holder)
    lease.adopt(wire.LeaseState(lease_id=7, version=2, unlimited=True), sent_at=0)
    assert lease.limit == UNLIMITED


def test_a_lease_that_metering_has_closed_gives_nothing_more(holder: Holder) -> None:
    lease = lease_of(holder)
    lease.adopt(wire.LeaseState(lease_id=7, version=2, granted=10, closed=True), sent_at=0)
    assert (lease.closed, lease.limit) == (True, 0)


def test_a_lease_ends_once(holder: Holder) -> None:
    lease = lease_of(holder)
    Holdings.end(lease)
    Holdings.end(lease)
    assert (holder.leases, holder.ending) == ({}, [lease])
    assert lease.dirty


def test_the_end_of_a_lease_leaves_its_successor_in_hand(holder: Holder) -> None:
    old = lease_of(holder)
    new = lease_of(holder)
    Holdings.end(old)
    assert list(holder.leases.values()) == [new]


def test_a_lease_of_a_dead_epoch_is_left_to_those_who_bury_it(holder: Holder) -> None:
    lease = lease_of(holder)
    holder.epoch = 2
    Holdings.end(lease)
    assert (lease.closed, holder.ending) == (True, [])


def test_a_holder_without_a_heartbeat_may_charge_nothing(holder: Holder) -> None:
    assert not holder.may_charge(None, 0)
    assert not holder.may_charge(lease_of(holder), 0)


def test_limited_and_unlimited_leases_are_valid_for_their_own_time(holder: Holder) -> None:
    lease = lease_of(holder)
    holder.valid_until, holder.unlimited_until = 10, 20
    assert (holder.may_charge(lease, 9), holder.may_charge(lease, 10)) == (True, False)
    lease.unlimited = True
    assert (holder.may_charge(lease, 19), holder.may_charge(lease, 20)) == (True, False)


def test_a_level_that_changes_again_is_dirty_again(holder: Holder) -> None:
    held = Holdings()
    held.level_changed(holder, ACCOUNT, "kv_storage_bytes")
    (mark,) = held.levels.values()
    mark.dirty, mark.seq = False, 3
    held.level_changed(holder, ACCOUNT, "kv_storage_bytes")
    assert (mark.dirty, mark.seq) == (True, 3)


def test_calls_about_one_account_and_meter_share_a_lock() -> None:
    held = Holdings()
    assert held.lock((0, ACCOUNT, "kv_writes")) is held.lock((0, ACCOUNT, "kv_writes"))
