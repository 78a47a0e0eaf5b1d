"""Count leases: grant, recall, trim, close. Source: metering.md 1, 4, 5.

A request carries the version of the lease it knows. Metering changes a lease only for the current version and numbers
every change, so that a repeat after a lost answer changes nothing and gets the current state.
"""

from dataclasses import dataclass

from tovuk_kit.meters import METERS, UNITS_MAX, Counting
from tovuk_metering.limits import SHARES_PER_HOLDER, WAIT_MAX_MS
from tovuk_metering.meter import notices
from tovuk_metering.meter.bounds import Bound, Refused, Wait, hard_bounds, is_known, refusal, wait
from tovuk_metering.meter.calendar import ends_ms
from tovuk_metering.meter.turn import Turn
from tovuk_metering.store import holders, leases, windows
from tovuk_metering.store.holders import Holder
from tovuk_metering.store.leases import Lease

#: The pause told to a holder that was given up: its next heartbeat tells it so.
_LOST_WAIT = Wait(100)


@dataclass(frozen=True, slots=True)
class State:
    """A lease as its holder is to know it."""

    lease_id: int
    version: int = 0
    granted: int = 0
    unlimited: bool = False
    ends_in_ms: int = 0
    closed: bool = False
    day: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """A holder needs `want` units more than its lease has; `lease_id` and `version` are 0 when it has none."""

    holder: Holder
    account_id: str
    meter: str
    lease_id: int
    version: int
    want: int


def acquire(turn: Turn, ask: Ask) -> State | Wait | Refused:
    """More units, a pause because units may come back, or a final refusal: no unit is left with anyone.

    A pause also while control has not told the account's plan, which takes it a moment after the account was made.
    """
    turn.lock(ask.account_id)
    if not is_known(turn, ask.account_id):
        return Wait(WAIT_MAX_MS)
    bounds = hard_bounds(turn, ask.account_id, ask.meter)
    if not _may_hold(turn, ask.holder):
        return _LOST_WAIT if ask.lease_id == 0 else State(ask.lease_id, closed=True)
    open_leases = leases.of_month(turn.tx, ask.account_id, turn.month, ask.meter)
    lease = leases.by_id(turn.tx, ask.lease_id) if ask.lease_id else _of_today(turn, ask.holder, open_leases)
    if ask.lease_id:
        if lease is None or (lease.holder, lease.account_id, lease.meter) != (ask.holder, ask.account_id, ask.meter):
            return State(ask.lease_id, closed=True)
        lease.seen = True
    elif lease is not None and lease.seen:
        # The holder knows it and asks for another: it has ended this one, whose last report is on its way.
        return wait(turn, turn.now_ms)
    if lease is not None and (lease.lease_id != ask.lease_id or lease.version != ask.version or lease.day != turn.day):
        lease.offered_at_ms = turn.now_ms
        leases.update(turn.tx, lease)
        return _state(turn, lease)
    if not bounds:
        # A new version each time: a trim of the last one may still be under way, and must not be believed any more.
        return _state(turn, _extend(turn, ask, lease, units=0, unlimited=True))
    if lease is not None and lease.unlimited:
        # It may use what it likes until it has answered the recall.
        return wait(turn, _recall(turn, [lease]))
    return _grant_share(turn, ask, lease, bounds, open_leases)


def trim(turn: Turn, holder: Holder, lease_id: int, version: int, keep: int) -> State:
    """Free what the holder promises never to use."""
    found = leases.by_id(turn.tx, lease_id)
    if found is not None:
        turn.lock(found.account_id)
        found = leases.by_id(turn.tx, lease_id)
    if found is None or found.holder != holder:
        return State(lease_id, closed=True)
    found.seen = True
    if found.version == version:
        found.granted = max(found.applied, keep if found.unlimited else min(keep, found.granted))
        found.unlimited = False
        found.recalled_at_ms = 0
        found.version += 1
    leases.update(turn.tx, found)
    return _state(turn, found)


def close_dead(turn: Turn, holder: Holder) -> None:
    """Close what a dead holder still has, all its totals being applied.

    What a buffered meter's lease has left may have been used without a trace: it is burnt. A transactional meter's
    left no effect and is free again.
    """
    for account_id in sorted({lease.account_id for lease in leases.of_holder(turn.tx, holder)}):
        turn.lock(account_id)
    touched = set()
    for lease in leases.of_holder(turn.tx, holder):
        if METERS[lease.meter].counting is Counting.BUFFERED and not lease.unlimited and lease.outstanding:
            windows.add(turn.tx, lease.account_id, lease.meter, lease.windows, burnt=lease.outstanding)
            touched.add((lease.account_id, lease.meter))
        leases.close(turn.tx, lease.lease_id)
    for account_id, meter in sorted(touched):
        notices.look(turn, account_id, meter)


def recall_for_limits(turn: Turn, account_id: str, meter: str) -> list[Lease]:
    """Ask back what might break the meter's limits, after one of them was set; the leases asked, as they were."""
    open_leases = leases.of_month(turn.tx, account_id, turn.month, meter)
    asked: dict[int, Lease] = {}
    for bound in hard_bounds(turn, account_id, meter):
        within = [lease for lease in open_leases if bound.window in lease.windows]
        gone = windows.tally(turn.tx, account_id, meter, bound.window).gone
        if any(lease.unlimited for lease in within) or gone + sum(lease.outstanding for lease in within) > bound.units:
            asked |= {lease.lease_id: lease for lease in within if lease.unlimited or lease.outstanding}
    _recall(turn, list(asked.values()))
    return list(asked.values())


def _may_hold(turn: Turn, holder: Holder) -> bool:
    """Whether the holder lives. One never heard of does from now on; one given up never does again."""
    state = holders.state_of(turn.tx, holder)
    if state is None:
        holders.put(turn.tx, holder, "live", turn.now_ms)
        turn.liveness.heard(holder)
    return state is None or state == "live"


def _of_today(turn: Turn, holder: Holder, open_leases: list[Lease]) -> Lease | None:
    return next((lease for lease in open_leases if lease.holder == holder and lease.day == turn.day), None)


def _state(turn: Turn, lease: Lease) -> State:
    return State(
        lease.lease_id,
        lease.version,
        lease.granted,
        lease.unlimited,
        max(0, ends_ms(lease.day) - turn.now_ms),
        False,
        lease.day,
    )


def _grant_share(
    turn: Turn, ask: Ask, lease: Lease | None, bounds: list[Bound], open_leases: list[Lease]
) -> State | Wait | Refused:
    """Grant what is free, ask back what others hold, or refuse."""
    gone = {bound: windows.tally(turn.tx, ask.account_id, ask.meter, bound.window).gone for bound in bounds}
    binding = [bound for bound in bounds if bound.units - gone[bound] < ask.want]
    if binding:
        # Even if everything came back it would not fit.
        notices.reached(turn, ask.account_id, binding)
        return refusal(turn, binding)
    free = min(bound.units - gone[bound] - _held(open_leases, bound) for bound in bounds)
    if free >= ask.want:
        share = free // (SHARES_PER_HOLDER * holders.count_live(turn.tx, ask.holder.service))
        return _state(turn, _extend(turn, ask, lease, units=min(free, max(ask.want, share)), unlimited=False))
    holding = [held for held in open_leases if held.unlimited or held.outstanding]
    others = [held for held in holding if lease is None or held.lease_id != lease.lease_id]
    # When only the asker's own units are in the way they are asked back too: a request that wants more than is left
    # beside them shows that it cannot be met only once what it does not use is back.
    return wait(turn, _recall(turn, others or holding))


def _held(open_leases: list[Lease], bound: Bound) -> int:
    """Units of a limit's window that are in the hands of holders; without end while one is unlimited."""
    within = [lease for lease in open_leases if bound.window in lease.windows]
    return UNITS_MAX + 1 if any(lease.unlimited for lease in within) else sum(lease.outstanding for lease in within)


def _extend(turn: Turn, ask: Ask, lease: Lease | None, *, units: int, unlimited: bool) -> Lease:
    if lease is None:
        lease = Lease(leases.new_id(), ask.holder, ask.account_id, ask.meter, turn.day)
        lease.granted, lease.unlimited, lease.offered_at_ms = units, unlimited, turn.now_ms
        leases.insert(turn.tx, lease)
    else:
        lease.version += 1
        lease.granted += units
        lease.unlimited = unlimited
        leases.update(turn.tx, lease)
    return lease


def _recall(turn: Turn, asked: list[Lease]) -> int:
    """Ask leases back; returns since when the first of them is asked."""
    for lease in asked:
        if lease.recalled_at_ms == 0:
            lease.recalled_at_ms = turn.now_ms
            leases.update(turn.tx, lease)
            turn.hurry()
    return min((lease.recalled_at_ms for lease in asked), default=turn.now_ms)
