"""Time, injected: wall time for records, boot time for leases."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks. Wall time may jump; boot time never does and runs on while the machine sleeps."""

    def wall_ms(self) -> int:
        """Unix milliseconds."""
        ...

    def boot_ms(self) -> int:
        """Milliseconds since some fixed moment, monotonic."""
        ...


class SystemClock:
    """The machine's clocks."""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def boot_ms(self) -> int:
        # Monotonic time stands still while a machine sleeps, and a holder must notice that it slept.
        return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)) // 1_000_000


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self, wall_ms: int = 1_800_000_000_000) -> None:
        self._wall_ms = wall_ms
        self._boot_ms = 0

    def wall_ms(self) -> int:
        return self._wall_ms

    def boot_ms(self) -> int:
        return self._boot_ms

    def advance(self, milliseconds: int) -> None:
        """Move both clocks forward."""
        self._wall_ms += milliseconds
        self._boot_ms += milliseconds

    def skew(self, milliseconds: int) -> None:
        """Move wall time alone, as a wrong or corrected clock does."""
        self._wall_ms += milliseconds
