"""The ledger balances: what is metered is what the store holds, whatever is killed, and though NATS is wiped."""

import asyncio
import random
from collections import Counter
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
from composition import Composition
from load import Load, Outcome, Request
from tenant import Tenant

#: Operations of one load, whose attempts are remembered one by one.
_ROUND = 5_000


class _Mixture:
    """Requests of every kind; each key is written, or deleted, by one request alone, so the store shows its effect."""

    def __init__(self, tenant: Tenant, rng: random.Random, doomed: list[str]) -> None:
        self._tenant = tenant
        self._rng = rng
        self._doomed = iter(doomed)
        self._numbers = count()

    def __call__(self) -> Request:
        kv = self._tenant.kv
        kind = self._rng.random()
        if kind < 0.35:
            key = self._new_key()
            return Request("PUT", f"{kv}/values/{key}", {"value": key}, name="kv_writes")
        if kind < 0.40:
            entries = [{"key": self._new_key(), "value": "bulk"} for _ in range(self._rng.randrange(2, 12))]
            return Request("PUT", f"{kv}/bulk", {"entries": entries}, units=len(entries), name="kv_writes")
        if kind < 0.50 and (key := next(self._doomed, "")):
            return Request("DELETE", f"{kv}/values/{key}", name="kv_deletes")
        if kind < 0.53:
            return Request("GET", f"{kv}/keys?limit=10", name="kv_lists")
        if kind < 0.56:
            keys = [f"w{self._rng.randrange(1000)}" for _ in range(self._rng.randrange(1, 20))]
            return Request("POST", f"{kv}/bulk", {"keys": keys}, units=len(keys), name="kv_reads")
        return Request("GET", f"{kv}/values/w{self._rng.randrange(5000)}", name="kv_reads")

    def _new_key(self) -> str:
        return f"w{next(self._numbers)}"


async def _murder(composition: Composition, rng: random.Random, every_s: float) -> None:
    """Kill a random process each time, for ever, and once let NATS lose all it had."""
    victims = ["nats", "control", "metering", "gateway", *composition.replicas]
    wipe_at = rng.randrange(2)
    for number in count():
        await asyncio.sleep(every_s * rng.uniform(0.7, 1.3))
        if number == wipe_at:
            composition.wipe_nats()
            continue
        victim = rng.choice(victims)
        composition.kill(victim)
        composition.start(victim)


@pytest.mark.once
async def test_what_is_metered_is_what_was_done(
    composition: Composition, tenant: Tenant, seed: int, size: Any, rng: random.Random
) -> None:
    # Redis with four processes is slower on a small machine, and the short form is to be short.
    operations = size.mixed_operations if size.cap >= 10_000 or len(composition.replicas) == 1 else 5_000
    doomed = [f"d{number}" for number in range(operations // 5)]
    tenant.put_many(doomed)
    mixture = _Mixture(tenant, rng, doomed)
    done, sent, lost = Counter(kv_writes=len(doomed)), Counter(kv_writes=len(doomed)), Counter[str]()
    acknowledged_keys: set[str] = set()
    murder = asyncio.create_task(_murder(composition, rng, 5.0 if size.cap >= 10_000 else 1.2))
    for _ in range(operations // _ROUND):
        load = Load(tenant.url, tenant.token, rng)
        await load.run(mixture, enough=lambda load=load: load.done >= _ROUND)  # type: ignore[misc]
        for attempt in load.attempts:
            request = attempt.request
            sent[request.name] += request.units
            if attempt.outcome is Outcome.DONE:
                done[request.name] += request.units
                acknowledged_keys |= _keys(request)
            else:
                lost[request.name] += request.units
    murder.cancel()
    with suppress(asyncio.CancelledError):
        await murder
    composition.wait_until_ready()
    metered = {meter: tenant.settled(meter) for meter in ("kv_lists", "kv_reads", "kv_writes", "kv_deletes")}
    stored = tenant.keys().keys()
    written = len(doomed) + sum(1 for key in stored if key.startswith("w"))
    deleted = len(doomed) - sum(1 for key in stored if key.startswith("d"))
    assert acknowledged_keys <= stored
    assert (metered["kv_writes"], metered["kv_deletes"]) == (written, deleted)
    assert done["kv_writes"] <= written <= sent["kv_writes"]
    assert done["kv_deletes"] <= deleted <= sent["kv_deletes"]
    for meter in ("kv_reads", "kv_lists"):
        # A read that was lost on the way may have been answered by two replicas.
        assert metered[meter] <= done[meter] + 2 * lost[meter]
    assert tenant.in_breakdown("kv_writes") == written
    assert tenant.in_breakdown("kv_deletes") == deleted


def _keys(request: Request) -> set[str]:
    if request.name != "kv_writes":
        return set()
    if "entries" in request.body:
        return {entry["key"] for entry in request.body["entries"]}
    return {request.body["value"]}
