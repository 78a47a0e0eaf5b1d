"""What every engine promises, by one suite over both."""

import asyncio
from typing import Any

import pytest

from tovuk_kit.errors import TovukError
from tovuk_kit.ids import new_id
from tovuk_kit.usage import UNLIMITED, Fenced, UsageRow
from tovuk_kv.store.base import (
    Delete,
    Deleted,
    Growth,
    KeyEntry,
    Namespace,
    NameTaken,
    NeedsRoom,
    Put,
    Record,
    Refusal,
    Stored,
    Tombstoned,
)

METER = "kv_storage_bytes"


async def test_a_value_is_read_back_with_all_that_was_stored_with_it(kv: Any) -> None:
    namespace = await kv.namespace()
    stored = await kv.put(namespace, b"a/b", b"\x00\xff value", metadata=b'{"a":1}', expires_at=2_000_000_000)
    assert isinstance(stored, Stored) and stored.expires_at == 2_000_000_000
    assert await kv.get(namespace, b"a/b") == Record(
        stored.version, "text", b'{"a":1}', 2_000_000_000, 8, b"\x00\xff value"
    )


async def test_a_put_replaces_the_whole(kv: Any) -> None:
    namespace = await kv.namespace()
    first = await kv.put(namespace, b"k", b"old", metadata=b"{}", expires_at=2_000_000_000)
    second = await kv.put(namespace, b"k", b"", encoding="base64")
    assert second.version > first.version
    assert await kv.get(namespace, b"k") == Record(second.version, "base64", b"", 0, 0, b"")
    assert await kv.stored() == 1


async def test_an_absent_key_reads_and_deletes_as_absent(kv: Any) -> None:
    namespace = await kv.namespace()
    assert await kv.get(namespace, b"k") is None
    assert await kv.delete(namespace, b"k") == Deleted(existed=False)
    assert await kv.used() == 1


async def test_versions_rise_across_a_deletion(kv: Any) -> None:
    namespace = await kv.namespace()
    first = await kv.put(namespace, b"k", b"1")
    assert await kv.delete(namespace, b"k") == Deleted(existed=True)
    second = await kv.put(namespace, b"k", b"1")
    assert second.version > first.version


async def test_a_key_is_absent_from_the_moment_it_expires_and_its_bytes_come_back_with_the_sweep(kv: Any) -> None:
    namespace = await kv.namespace()
    expires_at = kv.now_ms // 1000 + 30
    await kv.put(namespace, b"k", b"value", expires_at=expires_at)
    await kv.put(namespace, b"other", b"stays")
    kv.now_ms = expires_at * 1000 - 1
    assert isinstance(await kv.get(namespace, b"k"), Record)
    kv.now_ms += 1
    assert await kv.get(namespace, b"k") is None
    assert await kv.store.open_value(namespace, b"k", kv.now_ms) is None
    assert [entry.key for entry in await kv.store.page(namespace, b"", None, 10, kv.now_ms)] == [b"other"]
    assert await kv.put(namespace, b"k", b"v", if_match="*") is Refusal.PRECONDITION
    assert await kv.stored() == 6 + 10
    swept = await kv.store.sweep(kv.now_ms)
    assert swept.keys == 1
    assert {account for _, account in swept.levels} == {"account_1"}
    assert await kv.stored() == 10
    assert (await kv.store.sweep(kv.now_ms)).keys == 0


async def test_the_next_write_gives_an_expired_keys_bytes_back(kv: Any) -> None:
    namespace = await kv.namespace()
    await kv.put(namespace, b"k", b"long value", expires_at=kv.now_ms // 1000 + 30)
    kv.now_ms += 30_000
    assert isinstance(await kv.put(namespace, b"k", b"v", if_none_match="*"), Stored)
    assert await kv.stored() == 2
    assert (await kv.store.sweep(kv.now_ms)).keys == 0


async def test_a_put_that_is_past_its_expiry_is_a_write_that_leaves_nothing(kv: Any) -> None:
    namespace = await kv.namespace()
    await kv.put(namespace, b"k", b"old")
    assert isinstance(await kv.put(namespace, b"k", b"new", expires_at=1), Stored)
    assert await kv.get(namespace, b"k") is None
    assert await kv.stored() == 0
    assert await kv.used() == 2


@pytest.mark.parametrize(
    ("if_match", "if_none_match", "holds"),
    [("*", "", True), ("1,{v}", "", True), ("0", "", False), ("", "*", False), ("", "{v}", False), ("", "0", True)],
)
async def test_conditions_are_judged_against_the_present_version(
    kv: Any, if_match: str, if_none_match: str, holds: bool
) -> None:
    namespace = await kv.namespace()
    await kv.put(namespace, b"other", b"")
    version = (await kv.put(namespace, b"k", b"old")).version
    used = await kv.used()
    result = await kv.put(
        namespace, b"k", b"new", if_match=if_match.format(v=version), if_none_match=if_none_match.format(v=version)
    )
    assert isinstance(result, Stored) if holds else result is Refusal.PRECONDITION
    assert await kv.used() == used + holds
    assert (await kv.get(namespace, b"k")).value == (b"new" if holds else b"old")


async def test_an_absent_key_meets_if_none_match_and_no_if_match(kv: Any) -> None:
    namespace = await kv.namespace()
    assert await kv.delete(namespace, b"k", if_match="*") is Refusal.PRECONDITION
    assert await kv.put(namespace, b"k", b"v", if_match="1") is Refusal.PRECONDITION
    assert isinstance(await kv.put(namespace, b"k", b"v", if_none_match="*"), Stored)


async def test_mutations_of_one_call_are_taken_in_order_and_each_on_its_own(kv: Any) -> None:
    namespace = await kv.namespace()
    results = await kv.apply(
        [
            kv.charged(namespace, Put(b"k", b"1", "text", b"", "", "")),
            kv.charged(namespace, Put(b"k", b"2", "text", b"", "", "*")),
            kv.charged(namespace, Delete(b"k", "*", "")),
            kv.charged(namespace, Put(b"k", b"3", "text", b"", "", "*")),
        ]
    )
    assert [type(result) for result in results] == [Stored, Refusal, Deleted, Stored]
    assert (await kv.get(namespace, b"k")).value == b"3"
    assert await kv.used() == 3


async def test_a_put_beyond_the_allowance_does_nothing_and_says_what_it_needs(kv: Any) -> None:
    namespace = await kv.namespace(allowance=10)
    assert isinstance(await kv.put(namespace, b"k", b"123456789"), Stored)
    assert await kv.put(namespace, b"k", b"1234567890") == NeedsRoom(11)
    assert isinstance(await kv.put(namespace, b"k", b"abcdefghi"), Stored), "an equal overwrite passes at a full cap"
    assert (await kv.get(namespace, b"k")).value == b"abcdefghi"
    assert await kv.used() == 2
    assert await kv.stored() == 10


async def test_what_follows_a_crowded_put_of_the_same_key_waits_with_it(kv: Any) -> None:
    namespace = await kv.namespace(allowance=5)
    results = await kv.apply(
        [
            kv.charged(namespace, Put(b"k", b"123456", "text", b"", "", "")),
            kv.charged(namespace, Put(b"k", b"1", "text", b"", "", "")),
        ]
    )
    assert [type(result) for result in results] == [NeedsRoom, NeedsRoom]
    assert await kv.get(namespace, b"k") is None


async def test_stored_bytes_are_key_value_and_metadata_by_namespace(kv: Any) -> None:
    first, second = await kv.namespace("A"), await kv.namespace("B")
    await kv.put(first, "ä".encode(), b"123", metadata=b'{"x":1}')
    await kv.put(second, b"k", b"")
    assert await kv.stored() == 2 + 3 + 7 + 1
    lines = [line for usage in kv.store.usage_stores for line in (await usage.level("account_1", METER)).lines]
    assert sorted(lines) == sorted([("service_1", first.id, 12), ("service_1", second.id, 1)])


async def test_room_is_held_for_the_highest_point_on_the_way(kv: Any) -> None:
    namespace = await kv.namespace()
    await kv.put(namespace, b"k", b"123456789")
    partition = kv.store.partition("service_1", b"k")
    usage = kv.store.usage_stores[partition]
    allowance = (await usage.level("account_1", METER)).allowance
    held = await kv.store.hold_room(namespace, [(b"k", 50), (b"k", 4), (b"k", 30)])
    assert held == {partition: Growth(40, 10, allowance)}
    await kv.store.let_room_go("account_1", held)
    assert await kv.store.hold_room(namespace, [(b"k", 9), (b"k", 10)]) == {}
    many = [(f"k{number}".encode(), 100) for number in range(1000)]
    held = await kv.store.hold_room(namespace, many)
    assert sum(growth.bytes for growth in held.values()) == 100_000
    await kv.store.let_room_go("account_1", held)


async def test_lists_are_in_byte_order_with_prefix_start_and_limit(kv: Any) -> None:
    namespace = await kv.namespace()
    keys = sorted(f"{a}{b:02}".encode() for a in ("p/", "p0", "ä", "p") for b in range(25))
    await kv.apply([kv.charged(namespace, Put(key, b"v", "text", b"", "", "")) for key in keys])
    other = await kv.namespace("OTHER")
    await kv.put(other, b"p/00", b"foreign")

    async def page(prefix: bytes, after: bytes | None, limit: int) -> list[bytes]:
        return [entry.key for entry in await kv.store.page(namespace, prefix, after, limit, kv.now_ms)]

    assert await page(b"", None, 1000) == keys
    assert await page(b"p/", None, 7) == [key for key in keys if key.startswith(b"p/")][:7]
    assert await page(b"p", keys[40], 10) == [key for key in keys[41:] if key.startswith(b"p")][:10]
    assert await page(b"", b"p/99", 3) == [key for key in keys if key > b"p/99"][:3]
    assert await page(b"zz", None, 10) == []


async def test_a_listed_key_carries_what_was_stored_with_it(kv: Any) -> None:
    namespace = await kv.namespace()
    stored = await kv.put(namespace, b"k", b"12345", metadata=b'{"a":1}', expires_at=2_000_000_000)
    assert await kv.store.page(namespace, b"", None, 10, kv.now_ms) == [
        KeyEntry(b"k", b'{"a":1}', 2_000_000_000, stored.version, 5)
    ]


async def test_lists_pass_over_many_expired_keys(kv: Any) -> None:
    namespace = await kv.namespace()
    puts = []
    for number in range(600):
        put = Put(f"k{number:04}".encode(), b"", "text", b"", "", "")
        put.expires_at = kv.now_ms // 1000 + 30 if number < 590 else 0
        puts.append(kv.charged(namespace, put))
    await kv.apply(puts)
    kv.now_ms += 30_000
    page = await kv.store.page(namespace, b"", None, 5, kv.now_ms)
    assert [entry.key for entry in page] == [f"k{number:04}".encode() for number in range(590, 595)]
    while (await kv.store.sweep(kv.now_ms)).keys:
        pass
    assert await kv.stored() == 50


async def test_a_large_value_is_linked_whole_and_read_whole(kv: Any) -> None:
    namespace = await kv.namespace()
    value = bytes(range(256)) * 8192 + b"end"
    stored = await kv.put(namespace, b"big", await kv.upload(namespace, b"big", value), metadata=b"{}")
    assert await kv.get(namespace, b"big") == Record(stored.version, "text", b"{}", 0, len(value), None)
    assert await kv.read_large(namespace, b"big") == value
    assert await kv.stored() == 3 + len(value) + 2
    await kv.put(namespace, b"big", b"small")
    assert await kv.read_large(namespace, b"big") == b"small"
    assert await kv.stored() == 8


async def test_an_upload_that_is_never_linked_is_never_seen(kv: Any) -> None:
    namespace = await kv.namespace()
    upload = await kv.upload(namespace, b"big", b"x" * 300_000)
    assert await kv.get(namespace, b"big") is None
    assert await kv.put(namespace, b"big", upload, if_match="*") is Refusal.PRECONDITION
    await upload.abandon()
    assert await kv.get(namespace, b"big") is None
    assert await kv.stored() == 0


async def test_an_open_value_stays_whole_when_its_key_is_replaced_and_deleted(kv: Any) -> None:
    namespace = await kv.namespace()
    old = b"o" * 700_000
    await kv.put(namespace, b"big", await kv.upload(namespace, b"big", old))
    opened = await kv.store.open_value(namespace, b"big", kv.now_ms)
    await kv.put(namespace, b"big", await kv.upload(namespace, b"big", b"n" * 700_000))
    await kv.delete(namespace, b"big")
    await kv.store.maintain()
    assert b"".join([chunk async for chunk in opened.chunks()]) == old
    await opened.close()


async def test_readers_of_a_value_that_is_always_replaced_see_one_version_whole(kv: Any) -> None:
    namespace = await kv.namespace()
    await kv.put(namespace, b"big", await kv.upload(namespace, b"big", b"0" * 300_000))

    async def write() -> None:
        for number in range(1, 20):
            value = str(number % 10).encode() * 300_000
            assert isinstance(await kv.put(namespace, b"big", await kv.upload(namespace, b"big", value)), Stored)

    async def read() -> None:
        for _ in range(20):
            value = await kv.read_large(namespace, b"big")
            assert len(value) == 300_000 and len(set(value)) == 1

    await asyncio.gather(write(), read(), read())


async def test_a_namespace_is_found_by_id_and_name_within_its_service_alone(kv: Any) -> None:
    namespace = await kv.namespace()
    assert await kv.store.find("service_1", namespace.id) == namespace
    assert await kv.store.find("service_1", "CACHE") == namespace
    assert await kv.store.find("service_2", namespace.id) is None
    assert await kv.store.find("service_2", "CACHE") is None
    second = await kv.namespace("ABC")
    assert [found.id for found in await kv.store.namespaces("service_1")] == [second.id, namespace.id]
    assert await kv.store.namespaces("service_2") == []


async def test_creating_the_same_namespace_again_changes_nothing(kv: Any) -> None:
    namespace = await kv.namespace()
    await kv.store.create(namespace)
    assert len(await kv.store.namespaces("service_1")) == 1


async def test_two_namespaces_of_a_service_have_two_names(kv: Any) -> None:
    await kv.namespace()
    with pytest.raises(NameTaken):
        await kv.store.create(Namespace(new_id("kv"), "CACHE", "service_1", "account_1", 0))
    await kv.namespace(service="service_2")


async def test_a_dropped_namespace_is_gone_at_once_and_off_the_level_and_its_name_is_free(kv: Any) -> None:
    namespace = await kv.namespace()
    keys = [f"k{number}".encode() for number in range(1200)]
    await kv.apply([kv.charged(namespace, Put(key, b"value", "text", b"", "", "")) for key in keys])
    big = await kv.upload(namespace, b"big", b"x" * 300_000)
    assert isinstance(await kv.put(namespace, b"big", big), Stored)
    other = await kv.namespace("OTHER")
    await kv.put(other, b"k", b"v")
    lowered = await kv.store.drop(namespace)
    assert lowered == {kv.store.partition("service_1", key) for key in [*keys, b"big"]}
    assert await kv.stored() == 2
    assert await kv.store.find("service_1", "CACHE") is None
    assert await kv.get(namespace, keys[0]) is Refusal.GONE
    assert await kv.put(namespace, b"k", b"late") is Refusal.GONE
    assert await kv.delete(namespace, keys[0]) is Refusal.GONE
    assert await kv.store.page(namespace, b"", None, 10, kv.now_ms) is None
    assert await kv.store.open_value(namespace, b"big", kv.now_ms) is Refusal.GONE
    fresh = await kv.namespace()
    assert await kv.get(fresh, keys[0]) is None
    assert [dropped.id for dropped in await kv.store.dropped()] == [namespace.id]
    rounds = 0
    while not await kv.store.clear(namespace):
        rounds += 1
    assert rounds > 1, "cleared in slices"
    await kv.store.forget(namespace)
    assert await kv.store.dropped() == []
    assert await kv.stored() == 2
    assert (await kv.get(other, b"k")).value == b"v"


async def test_expired_keys_of_a_dropped_namespace_are_not_given_back_twice(kv: Any) -> None:
    namespace = await kv.namespace()
    await kv.put(namespace, b"k", b"value", expires_at=kv.now_ms // 1000 + 30)
    await kv.store.drop(namespace)
    kv.now_ms += 30_000
    await kv.store.sweep(kv.now_ms)
    assert await kv.stored() == 0


async def test_nothing_is_created_in_an_entombed_service(kv: Any) -> None:
    namespace = await kv.namespace()
    assert await kv.store.entomb("service_1") == [namespace]
    with pytest.raises(Tombstoned):
        await kv.store.create(Namespace(new_id("kv"), "LATE", "service_1", "account_1", 0))
    await kv.store.drop(namespace)
    assert await kv.store.entomb("service_1") == []


async def test_usage_is_added_with_the_effect_by_lease_service_and_namespace(kv: Any) -> None:
    namespace = await kv.namespace()
    partition = kv.store.partition("service_1", b"k")
    usage, epoch = kv.store.usage_stores[partition], kv.epochs[partition]
    await kv.apply([kv.charged(namespace, Put(b"k", b"v", "text", b"", "", "")) for _ in range(3)])
    await usage.add(epoch, [UsageRow(9, "service_1", namespace.id, 5), UsageRow(kv.LEASE, "s", "r", 1)])
    rows = await usage.usage(epoch, None)
    expected = [
        UsageRow(kv.LEASE, "s", "r", 1),
        UsageRow(kv.LEASE, "service_1", namespace.id, 3),
        UsageRow(9, "service_1", namespace.id, 5),
    ]
    assert sorted(rows, key=lambda row: (row.lease_id, row.service_id)) == expected
    assert await usage.usage(epoch, [9]) == [expected[2]]
    await usage.forget(epoch, [kv.LEASE])
    assert await usage.usage(epoch, None) == [expected[2]]
    await usage.forget(epoch, None)
    assert await usage.usage(epoch, None) == []


async def test_nothing_happens_under_a_fenced_epoch(kv: Any) -> None:
    namespace = await kv.namespace()
    partition = kv.store.partition("service_1", b"k")
    usage, epoch = kv.store.usage_stores[partition], kv.epochs[partition]
    await usage.fence(epoch)
    assert await kv.put(namespace, b"k", b"v") is Refusal.FENCED
    assert await kv.delete(namespace, b"k") is Refusal.FENCED
    with pytest.raises(Fenced):
        await usage.add(epoch, [UsageRow(1, "s", "r", 1)])
    assert await kv.used() == 0
    await kv.begin()
    assert kv.epochs[partition] > epoch
    assert isinstance(await kv.put(namespace, b"k", b"v"), Stored)


async def test_allowances_follow_versions_and_trims(kv: Any) -> None:
    usage = kv.store.usage_stores[0]
    await usage.set_allowance("a", METER, 2, 100)
    await usage.set_allowance("a", METER, 2, 200)
    await usage.set_allowance("a", METER, 1, 300)
    assert (await usage.level("a", METER)).allowance == 100
    await usage.set_allowance("a", METER, 3, UNLIMITED)
    assert (await usage.level("a", METER)).allowance == UNLIMITED
    trimmed = await usage.trim_allowance("a", METER)
    assert (trimmed.allowance, trimmed.bytes, trimmed.version) == (0, 0, 3)
    assert [level.account_id for level in await usage.levels()] == ["a"]
    assert (await usage.level("stranger", METER)).version == 0


async def test_each_change_of_a_level_raises_its_sequence(kv: Any) -> None:
    namespace = await kv.namespace()
    usage = kv.store.usage_stores[kv.store.partition("service_1", b"k")]
    sequences = [(await usage.level("account_1", METER)).seq]
    for value in (b"1", b"22", b""):
        await kv.put(namespace, b"k", value)
        sequences.append((await usage.level("account_1", METER)).seq)
    await kv.store.drop(namespace)
    sequences.append((await usage.level("account_1", METER)).seq)
    assert sequences == sorted(set(sequences))


async def test_store_names_are_unique(kv: Any) -> None:
    names = [usage.name for usage in kv.store.usage_stores]
    assert len(set(names)) == len(names)
    assert all(name.startswith("kv/") and name.endswith(f"/{index}") for index, name in enumerate(names))


@pytest.mark.breaks_the_store
async def test_every_verb_of_a_broken_store_raises_the_domain_error(kv: Any) -> None:
    namespace = await kv.namespace()
    await kv.put(namespace, b"k", b"v")
    await kv.break_it()
    for result in (
        await kv.get(namespace, b"k"),
        await kv.put(namespace, b"k", b"v"),
        await kv.delete(namespace, b"k"),
    ):
        assert isinstance(result, TovukError) and result.code in ("store_unavailable", "outcome_unknown")
    store, usage = kv.store, kv.store.usage_stores[0]
    for verb in (
        lambda: store.page(namespace, b"", None, 10, kv.now_ms),
        lambda: store.hold_room(namespace, [(b"k", 1)]),
        lambda: store.open_value(namespace, b"k", kv.now_ms),
        lambda: store.find("service_1", "CACHE"),
        lambda: store.namespaces("service_1"),
        lambda: store.create(Namespace(new_id("kv"), "B", "service_1", "account_1", 0)),
        lambda: store.drop(namespace),
        lambda: store.entomb("service_1"),
        store.dropped,
        lambda: store.clear(namespace),
        lambda: store.forget(namespace),
        lambda: store.sweep(kv.now_ms),
        store.check,
        usage.begin_epoch,
        lambda: usage.fence(1),
        lambda: usage.usage(1, None),
        lambda: usage.add(kv.epochs[0], [UsageRow(1, "s", "r", 1)]),
        lambda: usage.forget(1, [1]),
        lambda: usage.level("a", METER),
        usage.levels,
        lambda: usage.set_allowance("a", METER, 1, 1),
        lambda: usage.trim_allowance("a", METER),
    ):
        with pytest.raises(TovukError) as raised:
            await asyncio.wait_for(verb(), 10)
        assert raised.value.code in ("store_unavailable", "outcome_unknown")
