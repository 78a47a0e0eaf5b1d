"""The right of this process to its shard: claimed at control, for a time, and not used a moment longer.

The time counts from the sending of a claim, by the boot clock, which goes on while the process or the machine stands
still. Another machine's process may take the shard over only when that time is surely over (docs/adr/0009).
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from tovuk_kit import tasks
from tovuk_kit.clock import Clock
from tovuk_kit.errors import Outcome, OutcomeUnknown, TovukError
from tovuk_sqlite.clients.control import ShardClaims
from tovuk_sqlite.errors import ShardNotOwned

#: A claim is renewed this often while it holds.
_RENEWALS: Final = 6
#: How much longer than it holds another's claim is watched: clocks run at different speeds.
_WATCH_FACTOR: Final = 1.25
#: Seconds until a claim that failed, or found another's, is sent again.
RETRY_S: Final = 0.2
_RETRY_AFTER_MS: Final = 1_000

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Other:
    """Another's claim, and when it is over if it is not renewed; by our boot clock."""

    claim: tuple[int, int]
    over_ms: int


class Ownership:
    """One shard's, of this process."""

    def __init__(self, claims: ShardClaims, clock: Clock, *, lasts_ms: int) -> None:
        self._claims = claims
        self._clock = clock
        self._lasts_ms = lasts_ms
        self._ends_ms = -1
        self._other: _Other | None = None
        #: What claims fail with, which is told once.
        self._failure = ""
        self._renewing: asyncio.Task[None] | None = None
        #: Rises with every owner of the shard.
        self.fencing = 0

    @property
    def holds(self) -> bool:
        """Whether the shard is this process's."""
        return self._clock.boot_ms() < self._ends_ms

    def check(self) -> None:
        """Raises ShardNotOwned where the shard is not this process's, or no longer."""
        if not self.holds:
            raise ShardNotOwned(retry_after_ms=_RETRY_AFTER_MS)

    def number(self) -> int:
        """The fencing number of this owner. Raises ShardNotOwned."""
        self.check()
        return self.fencing

    @contextmanager
    def throughout(self) -> Iterator[None]:
        """Around a call, up to its answer.

        Raises ShardNotOwned before it, and OutcomeUnknown after one that the ownership did not outlast: what it wrote
        may not be there for the shard's next owner.
        """
        self.check()
        yield
        if not self.holds:
            raise self.too_late()

    @staticmethod
    def too_late() -> OutcomeUnknown:
        """The answer to a call that the ownership did not outlast."""
        return OutcomeUnknown(outcome=Outcome.UNKNOWN, service="sqlite")

    async def acquire(self) -> None:
        """Wait until the shard is this process's; from then on it is renewed."""
        await self._claim_until_held()
        self._renewing = asyncio.get_running_loop().create_task(self._renew())

    async def claim(self) -> bool:
        """Claim or renew once; whether the shard is this process's."""
        sent_ms = self._clock.boot_ms()
        other = self._other
        ended = other.claim if other is not None and sent_ms >= other.over_ms else (0, 0)
        try:
            stands = await self._claims.claim(self._lasts_ms, ended)
        except TovukError as error:
            if str(error) != self._failure:
                self._failure = str(error)
                _log.warning("the shard could not be claimed: %s", error)
            return False
        self._failure = ""
        if stands.owned:
            if stands.fencing != self.fencing:
                _log.info("the shard is ours, with fencing number %d", stands.fencing)
            self.fencing = stands.fencing
            self._ends_ms = sent_ms + self._lasts_ms
            self._other = None
            return True
        self._ends_ms = -1
        claim = stands.fencing, stands.renewals
        if other is None or other.claim != claim:
            _log.info("the shard is another process's; waiting until its claim has ended")
            self._other = _Other(claim, self._clock.boot_ms() + int(stands.lasts_ms * _WATCH_FACTOR))
        return False

    async def close(self) -> None:
        """Give the shard up, so that its next process need not wait."""
        if self._renewing is not None:
            await tasks.end([self._renewing])
        self._ends_ms = -1
        with suppress(TovukError):
            await self._claims.release()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lasts_ms / _RENEWALS / 1_000)
            await self._claim_until_held()

    async def _claim_until_held(self) -> None:
        while not await self.claim():  # noqa: ASYNC110 control is asked; nobody tells
            await asyncio.sleep(RETRY_S)
