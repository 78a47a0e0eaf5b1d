"""Each engine against a dict, by random walks of all operations, with the clock moving."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tovuk_kv.store.base import Deleted, NeedsRoom, Refusal, Stored

KEYS = st.sampled_from([b"a", b"a/b", b"b", "ä".encode(), b"z" * 512])
VALUES = st.sampled_from([b"", b"1", b"22", b"x" * 1000])
TTLS = st.sampled_from([0, 0, 30, 60, -1])
CONDITIONS = st.sampled_from(["", "", "*", "1", "current"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, VALUES, TTLS, CONDITIONS, CONDITIONS),
        st.tuples(st.just("large"), KEYS),
        st.tuples(st.just("delete"), KEYS, CONDITIONS),
        st.tuples(st.just("get"), KEYS),
        st.tuples(st.just("page"), st.sampled_from([b"", b"a", b"b"]), KEYS | st.none(), st.integers(1, 4)),
        st.tuples(st.just("wait"), st.integers(1, 40)),
        st.tuples(st.just("sweep")),
    ),
    max_size=25,
)
ALLOWANCE = 1600


class Model:
    """What a namespace holds, said with a dict: key → (version, value, expires_at)."""

    def __init__(self) -> None:
        self.entries: dict[bytes, tuple[int, bytes, int]] = {}
        self.used = 0
        self.newest: dict[bytes, int] = {}

    def live(self, key: bytes, now_s: int) -> tuple[int, bytes, int] | None:
        entry = self.entries.get(key)
        return entry if entry is not None and (not entry[2] or entry[2] > now_s) else None

    def size(self, key: bytes) -> int:
        return len(key) + len(self.entries[key][1]) if key in self.entries else 0

    def holds(self, key: bytes, now_s: int, if_match: str, if_none_match: str) -> bool:
        entry = self.live(key, now_s)
        version = str(entry[0]) if entry else ""
        matches = not if_match or (bool(version) and if_match in ("*", version))
        return matches and not (if_none_match and version and if_none_match in ("*", version))

    def has_room(self, partition: dict[bytes, int], key: bytes, size: int) -> bool:
        delta = size - self.size(key)
        level = sum(self.size(other) for other in self.entries if partition[other] == partition[key])
        return delta <= 0 or level + delta <= ALLOWANCE


@pytest.mark.parametrize("engine", ["sqlite", "redis"])
def test_an_engine_is_a_dict(engine: str, request: pytest.FixtureRequest, tmp_path_factory: Any, driver: Any) -> None:
    server = request.getfixturevalue("shared_redis") if engine == "redis" else None
    open_store = request.getfixturevalue("open_store")

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(STEPS)
    def walk(steps: list[Any]) -> None:
        asyncio.run(play(steps))

    async def play(steps: list[Any]) -> None:
        folder: Path = tmp_path_factory.mktemp("model")
        if server is not None:
            server.cli("FLUSHALL")
        kv = driver(await open_store(engine, folder, server))
        try:
            await kv.begin()
            await compare(kv, steps)
        finally:
            await kv.store.close()

    walk()


async def compare(kv: Any, steps: list[Any]) -> None:
    namespace = await kv.namespace(allowance=ALLOWANCE)
    model = Model()
    partition = {key: kv.store.partition("service_1", key) for key in (b"a", b"a/b", b"b", "ä".encode(), b"z" * 512)}
    for verb, *arguments in steps:
        now_s = kv.now_ms // 1000
        if verb == "put":
            key, value, ttl, wanted, unwanted = arguments
            current = str(model.newest.get(key, 0))
            if_match, if_none_match = wanted.replace("current", current), unwanted.replace("current", current)
            expires_at = ttl and now_s + ttl
            result = await kv.put(
                namespace, key, value, expires_at=expires_at, if_match=if_match, if_none_match=if_none_match
            )
            kept = ttl >= 0
            if not model.holds(key, now_s, if_match, if_none_match):
                assert result is Refusal.PRECONDITION
            elif kept and not model.has_room(partition, key, len(key) + len(value)):
                assert isinstance(result, NeedsRoom)
            else:
                assert isinstance(result, Stored) and result.version > model.newest.get(key, 0)
                model.used += 1
                model.newest[key] = result.version
                model.entries.pop(key, None)
                if kept:
                    model.entries[key] = (result.version, value, expires_at)
        elif verb == "large":
            upload = await kv.upload(namespace, arguments[0], b"y" * 70_000)
            assert isinstance(await kv.put(namespace, arguments[0], upload), NeedsRoom)
            await upload.abandon()
        elif verb == "delete":
            key, wanted = arguments
            if_match = wanted.replace("current", str(model.newest.get(key, 0)))
            result = await kv.delete(namespace, key, if_match=if_match)
            if not model.holds(key, now_s, if_match, ""):
                assert result is Refusal.PRECONDITION
            else:
                assert result == Deleted(existed=model.live(key, now_s) is not None)
                model.used += 1
                model.entries.pop(key, None)
        elif verb == "get":
            found, expected = await kv.get(namespace, arguments[0]), model.live(arguments[0], now_s)
            assert (found and (found.version, found.value, found.expires_at)) == expected
        elif verb == "page":
            prefix, after, limit = arguments
            page = await kv.store.page(namespace, prefix, after, limit, kv.now_ms)
            keys = [key for key in sorted(model.entries) if key.startswith(prefix) and model.live(key, now_s)]
            assert [entry.key for entry in page] == [key for key in keys if after is None or key > after][:limit]
        elif verb == "wait":
            kv.now_ms += arguments[0] * 1000
        else:
            while (await kv.store.sweep(kv.now_ms)).keys:
                pass
            model.entries = {key: entry for key, entry in model.entries.items() if model.live(key, now_s)}
        assert await kv.stored() == sum(model.size(key) for key in model.entries)
    assert await kv.used() == model.used
