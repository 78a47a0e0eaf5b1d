"""Levels, such as bytes stored: room for a store to grow, given and taken back. Source: metering.md 8.

`believed` is never below the allowance a store has: it rises before the store hears of it, and sinks only after the
store has lowered its own. So the allowances together never exceed the limit, unless the bytes themselves already do.
"""

from dataclasses import dataclass

from tovuk_kit.usage import UNLIMITED
from tovuk_metering.limits import SHARES_PER_HOLDER, WAIT_MAX_MS
from tovuk_metering.meter import notices
from tovuk_metering.meter.bounds import Refused, Wait, hard_bounds, is_known, refusal, wait
from tovuk_metering.meter.turn import Turn
from tovuk_metering.store import holders, levels
from tovuk_metering.store.holders import Holder
from tovuk_metering.store.levels import Level


@dataclass(frozen=True, slots=True)
class Word:
    """What a store says of its own level: its bytes and their sequence, and the allowance it applied last."""

    store: str
    account_id: str
    meter: str
    version: int
    bytes: int
    allowance: int
    seq: int


@dataclass(frozen=True, slots=True)
class Allowance:
    """How far a store may let its level grow."""

    version: int
    bytes: int
    unlimited: bool


def allow(turn: Turn, word: Word, want_bytes: int, asking_ms: int) -> Allowance | Wait | Refused:
    """Room for the store's level to reach `want_bytes`, a pause, or a refusal.

    A refusal rests on words that were asked for within the last `asking_ms`, so that what was deleted before is room.
    A pause also while control has not told the account's plan.
    """
    turn.lock(word.account_id)
    if not is_known(turn, word.account_id):
        return Wait(WAIT_MAX_MS)
    bounds = hard_bounds(turn, word.account_id, word.meter)
    level = _hear(turn, word)
    if word.version < level.version:
        levels.put(turn.tx, level)
        return _allowance(level)
    limit = min((bound.units for bound in bounds), default=None)
    # Only a newer version makes the store take an allowance, even one that it had before.
    if limit is None:
        return _raise(turn, level, UNLIMITED)
    if want_bytes <= level.claim:
        return _raise(turn, level, level.claim)
    others = [o for o in levels.of_account(turn.tx, word.account_id, word.meter) if o.store != word.store]
    free = limit - sum(other.claim for other in others) - level.claim
    need = want_bytes - level.claim
    if need <= free:
        share = free // (SHARES_PER_HOLDER * holders.count_live(turn.tx, Holder(word.store, 0).service))
        return _raise(turn, level, level.claim + min(free, max(need, share)))
    levels.put(turn.tx, level)
    stale = [other for other in others if other.claim and not _is_fresh(turn, other, asking_ms)]
    if not stale and limit - sum(other.bytes for other in others) < want_bytes:
        binding = [bound for bound in bounds if bound.units - sum(other.bytes for other in others) < want_bytes]
        notices.reached(turn, word.account_id, binding)
        return refusal(turn, binding)
    return wait(turn, _recall(turn, stale or [other for other in others if other.spare]))


def trim(turn: Turn, word: Word) -> bool:
    """The store has lowered its allowance to `word.allowance`. False when a newer allowance is on its way to it."""
    turn.lock(word.account_id)
    level = _hear(turn, word)
    current = word.version >= level.version
    if current:
        # The store looked at its bytes after it was asked, how long after nobody knows. Setting a cap waits for this to
        # change; wall time alone might stand still or go back.
        level.trimmed_at_ms = max(level.recalled_at_ms or turn.now_ms, level.trimmed_at_ms + 1)
        level.recalled_at_ms = 0
    levels.put(turn.tx, level)
    return current


def recall_for_limits(turn: Turn, account_id: str, meter: str) -> list[Level]:
    """Ask back what might break the meter's limits, after one of them was set; the levels asked, as they were."""
    limit = min((bound.units for bound in hard_bounds(turn, account_id, meter)), default=None)
    found = levels.of_account(turn.tx, account_id, meter)
    if limit is None or sum(level.claim for level in found) <= limit:
        return []
    # Also where no room is known to be spare: bytes removed since the last report have left some.
    asked = [level for level in found if level.believed]
    _recall(turn, asked)
    return asked


def _hear(turn: Turn, word: Word) -> Level:
    """The level as metering believes it after the store's word."""
    level = levels.get(turn.tx, word.account_id, word.meter, word.store)
    if level is None:
        level = Level(word.account_id, word.meter, word.store, version=word.version, believed=word.allowance)
    if word.seq > level.seq:
        level.seq, level.bytes = word.seq, word.bytes
    if word.version > level.version:
        # This database lost what it granted: the store knows better.
        level.version, level.believed = word.version, word.allowance
    elif word.version == level.version:
        # Under one version a store only lowers its allowance.
        level.believed = min(level.believed, word.allowance)
    return level


def _raise(turn: Turn, level: Level, believed: int) -> Allowance:
    level.version += 1
    level.believed = believed
    levels.put(turn.tx, level)
    return _allowance(level)


def _allowance(level: Level) -> Allowance:
    return Allowance(level.version, 0 if level.unlimited else level.believed, level.unlimited)


def _is_fresh(turn: Turn, level: Level, within_ms: int) -> bool:
    """Whether the store's bytes are known well enough to refuse another's growth. One without a holder stands still."""
    if level.recalled_at_ms == 0 and 0 <= turn.now_ms - level.trimmed_at_ms <= within_ms:
        return True
    return not holders.in_state(turn.tx, "live", {level.store})


def _recall(turn: Turn, asked: list[Level]) -> int:
    """Ask for spare room; returns since when the first of them is asked."""
    for level in asked:
        if level.recalled_at_ms == 0:
            level.recalled_at_ms = turn.now_ms
            levels.put(turn.tx, level)
            turn.hurry()
    return min((level.recalled_at_ms for level in asked), default=turn.now_ms)
