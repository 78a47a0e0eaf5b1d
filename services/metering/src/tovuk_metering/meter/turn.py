"""One turn of the protocol: a transaction, its moment, and what is to be told when it is committed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from tovuk_kit.clock import Clock
from tovuk_kit.database import Database, Tx
from tovuk_kit.errors import ServiceUnavailable
from tovuk_metering.meter.calendar import day_of
from tovuk_metering.meter.liveness import Liveness
from tovuk_metering.meter.prices import PriceBook
from tovuk_metering.store import serving

T = TypeVar("T")

#: Holders are to sync at once.
SYNC_SUBJECT = "tovuk.metering.sync"


@dataclass(slots=True)
class Turn:
    """What a step of the protocol works on. A step changes nothing but `tx` and `tell`, so that it may be run again."""

    tx: Tx
    now_ms: int
    book: PriceBook
    liveness: Liveness
    #: Subjects of the notices to publish once the transaction is durable.
    tell: set[str] = field(default_factory=set)

    @property
    def day(self) -> str:
        """The UTC day of this turn."""
        return day_of(self.now_ms)

    @property
    def month(self) -> str:
        """The UTC month of this turn."""
        return self.day[:7]

    def lock(self, account_id: str) -> None:
        """Keep every other turn away from the account's limits, leases and levels."""
        self.tx.lock(f"account/{account_id}")

    def hurry(self) -> None:
        """Have holders sync as soon as this is committed."""
        self.tell.add(SYNC_SUBJECT)

    def caps_changed(self, account_id: str) -> None:
        """Have refusals forgotten as soon as this is committed."""
        self.tell.add(f"tovuk.changed.caps.{account_id}")


class Turns:
    """Runs steps of the protocol as transactions, and tells afterwards."""

    def __init__(self, db: Database, clock: Clock, book: PriceBook, publish: Callable[[str], None]) -> None:
        """`publish` sends a notice without waiting. Nothing is served before `begin`."""
        self._db = db
        self._clock = clock
        self._publish = publish
        self._incarnation = 0
        self.book = book
        self.liveness = Liveness(clock)

    async def begin(self) -> None:
        """Take over from whichever process served this database before: it refuses from now on."""
        self._incarnation = await self._db.write(serving.take_over)
        self.liveness = Liveness(self._clock)

    async def write(self, step: Callable[[Turn], T]) -> T:
        """Run a step as one durable transaction. Raises ServiceUnavailable when another process has taken over."""

        result, subjects = await self._db.write(lambda tx: self._run(tx, step))
        for subject in sorted(subjects):
            self._publish(subject)
        return result

    async def read(self, step: Callable[[Turn], T]) -> T:
        """Run a step that changes nothing over one snapshot. Raises as `write`."""
        result, _ = await self._db.read(lambda tx: self._run(tx, step))
        return result

    async def is_serving(self) -> bool:
        """Whether this process is the one that serves the database."""
        return await self._db.read(lambda tx: serving.is_serving(tx, self._incarnation))

    def _run(self, tx: Tx, step: Callable[[Turn], T]) -> tuple[T, set[str]]:
        if not serving.is_serving(tx, self._incarnation):
            raise ServiceUnavailable(service="metering", retry_after_ms=1_000)
        turn = Turn(tx, self._clock.wall_ms(), self.book, self.liveness)
        return step(turn), turn.tell
