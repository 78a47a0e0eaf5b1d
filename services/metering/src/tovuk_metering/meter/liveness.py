"""Who was heard of, and when, by the clock that never jumps. In memory: a restart gives everyone a fresh grace."""

from tovuk_kit.clock import Clock
from tovuk_metering.limits import BEAT_OVERDUE_MS, HOLDER_GIVEN_UP_MS
from tovuk_metering.store.holders import Holder


class Liveness:
    """Heartbeats since this process began."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.boot_ms()
        self._heard: dict[Holder, int] = {}
        self._behind: dict[Holder, int] = {}

    def heard(self, holder: Holder, behind_ms: int = 0) -> None:
        """A heartbeat arrived; `behind_ms` is the age of the oldest usage the holder still has to report."""
        self._heard[holder] = self._clock.boot_ms()
        self._behind[holder] = behind_ms

    def forget(self, holder: Holder) -> None:
        """The holder was given up."""
        self._heard.pop(holder, None)
        self._behind.pop(holder, None)

    def silent_ms(self, holder: Holder) -> int:
        """Since the last heartbeat, or since this process began."""
        return self._clock.boot_ms() - self._heard.get(holder, self._began)

    def is_over(self, holder: Holder) -> bool:
        """Whether the holder has surely stopped charging, and may be given up."""
        return self.silent_ms(holder) >= HOLDER_GIVEN_UP_MS

    def behind_ms(self, holder: Holder) -> int:
        """How far what is billed may lag behind what the holder has served."""
        # Between two heartbeats nothing is known; only a heartbeat that is overdue counts.
        return self._behind.get(holder, 0) + max(0, self.silent_ms(holder) - BEAT_OVERDUE_MS)
