"""Caps stay exact when a day, or a month, ends while the processes' clocks differ."""

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from composition import Composition
from load import Load, Request
from tenant import Tenant

from tovuk_kit.testing import redis_server

#: Seconds of metering's day that are left when the first process starts: to start, and to use a cap up at so many units
#: a second. A machine that has too much else to do for the first evening gets a longer one.
_EVENINGS = ((10.0, 300), (40.0, 100))
#: After which everyone has noticed that a new day has begun.
_NOTICED_S = 1.5
#: Bounds a load that lasts until the day is over.
_EVENING_MAX_S = 240.0


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


def _faked(skew_s: float) -> dict[str, str]:
    """Variables that make one process wrong about the time of day by so much.

    Its monotonic clock is moved as far, and runs as it should: with that one left alone, libfaketime miscounts the
    deadlines of waiting threads, and a process becomes forty times slower.
    """
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        message = "libfaketime is missing: apt-get install faketime"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    return {"LD_PRELOAD": str(found[0]), "FAKETIME": f"{skew_s:+.3f}s"}


Evenings = Callable[[float, float], AbstractContextManager[Evening]]


@pytest.fixture
def evenings(replicas: int, tmp_path_factory: pytest.TempPathFactory, size: Any, rng: random.Random) -> Evenings:
    """Makes an evening with so many seconds to start in, and time to use a cap up at so many units a second.

    Each process is wrong about the time by seconds or by half an hour, either way.
    """
    names = ("control", "gateway", *(f"kv-{index}" for index in range(max(1, replicas))))
    skews_s = {name: rng.choice((rng.uniform(-3, 3), rng.uniform(-1800, 1800))) for name in names}
    month_ends = rng.random() < 0.5

    @contextmanager
    def evening(start_s: float, units_per_s: float) -> Iterator[Evening]:
        left_s = start_s + size.cap / units_per_s
        day = (datetime.now(UTC) + timedelta(days=40)).replace(hour=0, minute=0, second=0, microsecond=0)
        to_evening_s = day.replace(day=1 if month_ends else 15).timestamp() - left_s - time.time()
        clocks = {name: _faked(to_evening_s + skew_s) for name, skew_s in {"metering": 0.0, **skews_s}.items()}
        midnight = time.monotonic() + left_s
        with ExitStack() as stack:
            url = stack.enter_context(redis_server()) if replicas else ""
            directory = tmp_path_factory.mktemp("evening")
            started = stack.enter_context(
                Composition.started(directory, redis_url=url, replicas=max(1, replicas), own_settings=clocks)
            )
            yield Evening(started, midnight, month_ends)

    return evening


def test_a_process_that_is_wrong_about_the_date_is_right_about_what_passes() -> None:
    code = "import time; a = time.monotonic(); time.sleep(0.2); print(time.monotonic() - a, time.time())"
    ran = subprocess.run([sys.executable, "-c", code], env={**os.environ, **_faked(86_400)}, capture_output=True)
    assert ran.returncode == 0, ran.stderr
    passed_s, said = map(float, ran.stdout.split())
    assert passed_s >= 0.2
    assert 86_300 < said - time.time() < 86_500


async def test_each_day_has_exactly_its_cap(evenings: Evenings, seed: int, size: Any, rng: random.Random) -> None:
    meter = rng.choice(("kv_writes", "kv_deletes", "kv_reads"))
    for start_s, units_per_s in _EVENINGS:
        with evenings(start_s, units_per_s) as evening:
            if await _each_day_has_its_cap(evening, meter, size.cap, rng):
                return
    pytest.fail("every day was over before its cap was used up")


async def _each_day_has_its_cap(evening: Evening, meter: str, cap: int, rng: random.Random) -> bool:
    """Use caps up before and after midnight; False when the day was over too early to show anything."""
    method = {"kv_writes": "PUT", "kv_deletes": "DELETE", "kv_reads": "GET"}[meter]
    busy, steady = (Tenant.made(evening.composition.url, evening.composition.token) for _ in range(2))

    def load_of(tenant: Tenant) -> tuple[Load, Any]:
        body = {"value": "v"} if method == "PUT" else None
        return (
            Load(tenant.url, tenant.token, rng),
            lambda: Request(method, f"{tenant.kv}/values/k{rng.randrange(500)}", body),
        )

    for tenant in (busy, steady):
        tenant.put_cap(meter, cap)
    used_up, requests = load_of(busy)
    trickle, steady_requests = load_of(steady)
    # Half of the cap by midnight, the rest is left with whoever holds it then.
    pace_s = 16 * 2 * max(evening.left_s, 1) / cap
    passing = asyncio.create_task(
        trickle.run(steady_requests, connections=16, enough=evening.is_over, pace_s=pace_s, within_s=_EVENING_MAX_S)
    )
    await used_up.run(requests, within_s=_EVENING_MAX_S)
    if evening.left_s <= 0:
        await passing
        return False
    assert used_up.done == cap
    await used_up.run(requests, enough=evening.is_over)
    await used_up.run(requests)
    assert used_up.done == 2 * cap
    busy.wait_until_metered(meter, cap)
    assert busy.metered(meter, "month") == cap * (1 if evening.month_ends else 2)
    await passing
    await trickle.run(steady_requests)
    steady.wait_until_metered(meter, cap)
    assert cap < trickle.done <= 2 * cap
    if not evening.month_ends:
        assert steady.metered(meter, "month") == trickle.done
    return True
