"""Caps stay exact when a day, or a month, ends while the processes' clocks differ."""

import asyncio
import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from composition import Composition
from load import Load, Request
from tenant import Tenant

from tovuk_kit.testing import redis_server

#: Seconds of metering's day that are left when the first process starts: to start, and to use a cap up at this rate.
_START_S = 10.0
_UNITS_PER_S = 300
#: After which everyone has noticed that a new day has begun.
_NOTICED_S = 1.5


@dataclass(frozen=True)
class Evening:
    """A composition whose metering sees midnight at `midnight`, by this machine's monotonic clock."""

    composition: Composition
    midnight: float
    month_ends: bool

    @property
    def left_s(self) -> float:
        """Seconds until midnight."""
        return self.midnight - time.monotonic()

    def is_over(self) -> bool:
        """Whether the next day has begun for everyone."""
        return self.left_s < -_NOTICED_S


def _library() -> str:
    """libfaketime, which lies to one process about the time of day, and not about time that has passed."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if found:
        return str(found[0])
    message = "libfaketime is missing: apt-get install faketime"
    return pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)


@pytest.fixture
def evening(replicas: int, tmp_path: Path, size: Any, rng: random.Random) -> Iterator[Evening]:
    """Shortly before midnight; each process is wrong about the time by seconds or by half an hour, either way."""
    left_s = _START_S + size.cap / _UNITS_PER_S
    month_ends = rng.random() < 0.5
    day = (datetime.now(UTC) + timedelta(days=40)).replace(hour=0, minute=0, second=0, microsecond=0)
    midnight = day.replace(day=1 if month_ends else 15).timestamp()
    to_evening_s = midnight - left_s - time.time()
    names = ("control", "gateway", *(f"kv-{index}" for index in range(max(1, replicas))))
    skews_s = {name: rng.choice((rng.uniform(-3, 3), rng.uniform(-1800, 1800))) for name in names}
    clocks = {
        name: {
            "LD_PRELOAD": _library(),
            "FAKETIME": f"{to_evening_s + skew_s:+.3f}s",
            "DONT_FAKE_MONOTONIC": "1",
        }
        for name, skew_s in {"metering": 0.0, **skews_s}.items()
    }
    seen_at = time.monotonic() + left_s
    with ExitStack() as stack:
        url = stack.enter_context(redis_server()) if replicas else ""
        started = stack.enter_context(
            Composition.started(tmp_path, redis_url=url, replicas=max(1, replicas), own_settings=clocks)
        )
        yield Evening(started, seen_at, month_ends)


async def test_each_day_has_exactly_its_cap(evening: Evening, seed: int, size: Any, rng: random.Random) -> None:
    meter = rng.choice(("kv_writes", "kv_deletes", "kv_reads"))
    method = {"kv_writes": "PUT", "kv_deletes": "DELETE", "kv_reads": "GET"}[meter]
    busy, steady = (Tenant.made(evening.composition.url, evening.composition.token) for _ in range(2))

    def load_of(tenant: Tenant) -> tuple[Load, Any]:
        body = {"value": "v"} if method == "PUT" else None
        return (
            Load(tenant.url, tenant.token, rng),
            lambda: Request(method, f"{tenant.kv}/values/k{rng.randrange(500)}", body),
        )

    for tenant in (busy, steady):
        tenant.put_cap(meter, size.cap)
    used_up, requests = load_of(busy)
    trickle, steady_requests = load_of(steady)
    # Half of the cap by midnight, the rest is left with whoever holds it then.
    pace_s = 16 * 2 * max(evening.left_s, 1) / size.cap
    passing = asyncio.create_task(trickle.run(steady_requests, connections=16, enough=evening.is_over, pace_s=pace_s))
    await used_up.run(requests)
    assert evening.left_s > 0, "the day was over before its cap was used up"
    assert used_up.done == size.cap
    await used_up.run(requests, enough=evening.is_over)
    await used_up.run(requests)
    assert used_up.done == 2 * size.cap
    busy.wait_until_metered(meter, size.cap)
    assert busy.metered(meter, "month") == size.cap * (1 if evening.month_ends else 2)
    await passing
    await trickle.run(steady_requests)
    steady.wait_until_metered(meter, size.cap)
    assert size.cap < trickle.done <= 2 * size.cap
    if not evening.month_ends:
        assert steady.metered(meter, "month") == trickle.done
