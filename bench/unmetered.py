"""`tovuk-kv` without meters, to measure what these cost: `python -m bench.unmetered`, with the service's own settings.

Nothing is leased, counted, flushed or reported, and the SQLite engine's transactions write neither usage rows nor
levels and check no epoch. Everything else is the service's own code. For measuring alone: it enforces no cap.
"""

import runpy
from collections.abc import Sequence

import tovuk_kit.metering
from tovuk_kit.holding import Holder, Lease
from tovuk_kit.leases import Meters
from tovuk_kit.meters import MeterName
from tovuk_kit.usage import UsageStore
from tovuk_kv.store import sqlite
from tovuk_kv.store.base import Mutation, Namespace


class NoMeters(Meters):
    """Lets everything pass and remembers nothing."""

    async def start(self, stores: Sequence[UsageStore]) -> None:
        """No heartbeat, no reports; the epochs are only numbers."""
        self._leases = [Lease(Holder(index, store, 1), "", "kv_reads") for index, store in enumerate(stores)]

    def take(self, store: int, account_id: str, meter: MeterName, units: int = 1) -> Lease | None:
        return self._leases[store]

    async def acquire(
        self, store: int, account_id: str, meter: MeterName, units: int = 1, *, wait: bool = True
    ) -> Lease:
        return self._leases[store]

    def spent(self, lease: Lease, units: int = 1) -> None:
        pass

    def release(self, lease: Lease, units: int = 1) -> None:
        pass

    def count(self, lease: Lease, service_id: str, resource_id: str, units: int = 1) -> None:
        pass

    def level_changed(self, store: int, account_id: str, meter: MeterName) -> None:
        pass

    async def make_room(self, store: int, account_id: str, meter: MeterName, want_bytes: int) -> None:
        pass

    async def close(self) -> None:
        pass


class UncountedGroup(sqlite._Group):
    """A transaction's shared part without usage rows and levels."""

    def move_level(self, namespace: Namespace, delta: int) -> int:
        return 0

    def count(self, mutation: Mutation) -> None:
        pass


def remove_meters() -> None:
    """Replaces the meters in this process; before the service is wired."""
    for module, name, replacement in (
        (tovuk_kit.metering, "Meters", NoMeters),
        (sqlite, "_Group", UncountedGroup),
        (sqlite, "is_live", lambda *_: True),
    ):
        assert hasattr(module, name), f"{module.__name__} has no {name} any more"
        setattr(module, name, replacement)


if __name__ == "__main__":
    remove_meters()
    runpy.run_module("tovuk_kv.main", run_name="__main__")
