"""Heartbeats: who lives, who is given up and buried, and what each holder is told. Source: metering.md 5, 7.

A holder is live, then given up (it may have leases, but must not charge), then buried (its leases are closed). Between
the two, a living holder of the same store fences the epoch and reports its last totals.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from tovuk_metering.limits import LEASE_UNSEEN_MS
from tovuk_metering.meter import leases as protocol
from tovuk_metering.meter.turn import Turn, Turns
from tovuk_metering.store import holders, leases, levels
from tovuk_metering.store.holders import Holder
from tovuk_metering.store.leases import Lease


@dataclass(frozen=True, slots=True)
class LeaseMark:
    """The newest report of a lease, and whether it was final."""

    lease_id: int
    seq: int
    final: bool


@dataclass(frozen=True, slots=True)
class LevelMark:
    """The newest report of a level."""

    store: str
    account_id: str
    meter: str
    seq: int


@dataclass(frozen=True, slots=True)
class Beat:
    """What a process says once a second, and at once after a notice."""

    holders: Sequence[Holder]
    unconfirmed: Sequence[LeaseMark] = ()
    unconfirmed_levels: Sequence[LevelMark] = ()
    behind_ms: int = 0
    buried: Sequence[Holder] = ()
    exclusive: bool = False
    leases: Collection[int] = ()


@dataclass(slots=True)
class Orders:
    """What the process is told."""

    confirmed: list[LeaseMark] = field(default_factory=list)
    confirmed_levels: list[LevelMark] = field(default_factory=list)
    recalled: list[int] = field(default_factory=list)
    recalled_levels: list[LevelMark] = field(default_factory=list)
    dead: list[Holder] = field(default_factory=list)
    lost: list[Holder] = field(default_factory=list)


async def answer(turns: Turns, beat: Beat) -> Orders:
    """Take a heartbeat in and say what is to be done."""
    for holder in beat.holders:
        # Before anything else: time must not run on for a holder that has spoken.
        turns.liveness.heard(holder, beat.behind_ms)
    if await turns.read(lambda turn: changes(turn, beat)):
        await turns.write(lambda turn: settle(turn, beat))
    told = await turns.read(lambda turn: orders(turn, beat))
    for holder in told.lost:
        turns.liveness.forget(holder)
    return told


def changes(turn: Turn, beat: Beat) -> bool:
    """Whether `settle` would change anything; most heartbeats only ask."""
    states = holders.states(turn.tx, {holder.store for holder in (*beat.holders, *beat.buried)})
    if any(holder not in states for holder in beat.holders):
        return True
    if any(states.get(holder) == "given_up" for holder in beat.buried):
        return True
    return any(
        _is_shown(lease, beat) or _was_never_received(turn, lease, beat)
        for lease in leases.of_holders(turn.tx, set(beat.holders))
    )


def settle(turn: Turn, beat: Beat) -> None:
    """Register new holders, bury dead ones, and take back leases whose grant was never received."""
    for holder in sorted(beat.buried):
        if holders.state_of(turn.tx, holder) == "given_up":
            protocol.close_dead(turn, holder)
            holders.put(turn.tx, holder, "buried", turn.now_ms)
    for holder in sorted(beat.holders):
        if holders.state_of(turn.tx, holder) is None:
            _register(turn, holder, exclusive=beat.exclusive)
    for lease in leases.of_holders(turn.tx, set(beat.holders)):
        if _is_shown(lease, beat):
            leases.mark_seen(turn.tx, lease.lease_id)
        elif _was_never_received(turn, lease, beat):
            # It may be handed out again at this moment, under the account's lock.
            turn.lock(lease.account_id)
            now = leases.by_id(turn.tx, lease.lease_id)
            if now is not None and _was_never_received(turn, now, beat):
                leases.close(turn.tx, lease.lease_id)


def orders(turn: Turn, beat: Beat) -> Orders:
    """What to tell the process, from what is durable."""
    told = Orders()
    marked = leases.by_ids(turn.tx, {mark.lease_id for mark in beat.unconfirmed})
    for mark in beat.unconfirmed:
        lease = marked.get(mark.lease_id)
        if lease is None or (not mark.final and lease.applied >= mark.seq):
            told.confirmed.append(mark)
    for level_mark in beat.unconfirmed_levels:
        level = levels.get(turn.tx, level_mark.account_id, level_mark.meter, level_mark.store)
        if level is not None and level.applied_seq >= level_mark.seq:
            told.confirmed_levels.append(level_mark)
    states = holders.states(turn.tx, {holder.store for holder in beat.holders})
    living = {holder for holder in beat.holders if states.get(holder) == "live"}
    told.lost = [holder for holder in beat.holders if holder not in living]
    told.recalled = [lease.lease_id for lease in leases.of_holders(turn.tx, living) if lease.recalled_at_ms]
    stores = {holder.store for holder in living}
    told.recalled_levels = [
        LevelMark(level.store, level.account_id, level.meter, level.seq) for level in levels.recalled(turn.tx, stores)
    ]
    told.dead = sorted(holder for holder, state in states.items() if state == "given_up" and holder.store in stores)
    return told


def lapsed(turn: Turn) -> list[Holder]:
    """Live holders that were not heard of for so long that they have stopped charging."""
    return [holder for holder in holders.in_state(turn.tx, "live") if turn.liveness.is_over(holder)]


def give_up(turn: Turn, gone: Collection[Holder]) -> None:
    """Have the dead reported and buried by the living."""
    for holder in sorted(gone):
        # A heartbeat may have come while this turn waited for its transaction.
        if turn.liveness.is_over(holder) and holders.state_of(turn.tx, holder) == "live":
            holders.put(turn.tx, holder, "given_up", turn.now_ms)
            turn.hurry()


def _register(turn: Turn, holder: Holder, *, exclusive: bool) -> None:
    state: holders.State = "live"
    if exclusive:
        if holder.epoch < holders.newest_epoch(turn.tx, holder.store):
            # A heartbeat of an incarnation that is already gone.
            state = "given_up"
        for other in holders.in_state(turn.tx, "live", {holder.store}):
            if other.epoch < holder.epoch:
                holders.put(turn.tx, other, "given_up", turn.now_ms)
    holders.put(turn.tx, holder, state, turn.now_ms)


def _is_shown(lease: Lease, beat: Beat) -> bool:
    """Whether the holder shows for the first time that it knows the lease."""
    return not lease.seen and lease.lease_id in beat.leases


def _was_never_received(turn: Turn, lease: Lease, beat: Beat) -> bool:
    """Whether the lease's grant must have been lost: no answer is under way for so long."""
    return not lease.seen and lease.lease_id not in beat.leases and turn.now_ms - lease.offered_at_ms >= LEASE_UNSEEN_MS
