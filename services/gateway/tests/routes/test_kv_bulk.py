"""Bulk requests as JSON, in both directions."""

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tovuk.kv.v1 import frames
from tovuk_gateway import limits
from tovuk_gateway.errors import BulkInvalid
from tovuk_gateway.routes.kv_bulk import (
    MESSAGE_BYTES,
    MESSAGE_ENTRIES_MAX,
    Entries,
    ValuesWriter,
    bytes_to_hold,
    keys_of,
)


def _raws(items: list[Any]) -> list[msgspec.Raw]:
    return [msgspec.Raw(json.dumps(item).encode()) for item in items]


def _sent(entries: Entries) -> list[list[frames.BulkEntry]]:
    return [frames.decode_bulk_entries(payload) for payload in entries.batches()]


def test_entries_travel_many_in_a_message_of_a_bounded_size() -> None:
    entries = Entries(_raws([{"key": f"k{n}", "value": "v" * 100} for n in range(1000)]))
    messages = _sent(entries)
    assert [entry.key for message in messages for entry in message] == [b"k%d" % n for n in range(1000)]
    assert max(map(len, messages)) == MESSAGE_ENTRIES_MAX
    entries = Entries(_raws([{"key": f"k{n}", "value": "v" * 60_000} for n in range(20)]))
    assert all(sum(len(e.value) for e in message) < MESSAGE_BYTES + 60_000 for message in _sent(entries))
    assert _sent(entries) == _sent(entries)


def test_a_large_value_is_cut_and_stays_in_its_place() -> None:
    big = "ab" * MESSAGE_BYTES + "c"
    messages = _sent(
        Entries(_raws([{"key": "a", "value": "1"}, {"key": "b", "value": big}, {"key": "c", "value": ""}]))
    )
    parts = [entry for message in messages for entry in message]
    assert [(part.key, part.more) for part in parts] == [
        (b"a", False),
        (b"b", True),
        (b"b", True),
        (b"b", False),
        (b"c", False),
    ]
    assert b"".join(part.value for part in parts[1:4]) == big.encode()
    assert all(len(part.value) <= MESSAGE_BYTES for part in parts)


@pytest.mark.parametrize(
    "wrong",
    [
        7,
        {},
        {"key": 1, "value": ""},
        {"key": "", "value": ""},
        {"key": "..", "value": ""},
        {"key": "k"},
        {"key": "k", "value": "!", "encoding": "base64"},
        {"key": "k", "value": "", "metadata": []},
        {"key": "k", "value": "", "expirationTtlSeconds": 0},
        {"key": "k", "value": "", "expirationTtlSeconds": 29},
        {"key": "k", "value": "", "expiration": -1},
    ],
)
def test_the_first_wrong_entry_ends_the_stream_and_is_named(wrong: Any) -> None:
    entries = Entries(_raws([{"key": "a", "value": "1"}, wrong, 8]))
    assert sum(map(len, _sent(entries))) < len(entries)
    with pytest.raises(BulkInvalid) as raised:
        entries.raise_wrong()
    assert raised.value.params["index"] == "1"


def test_an_expiration_of_zero_is_past_and_not_never() -> None:
    ((entry,),) = _sent(Entries(_raws([{"key": "k", "value": "", "expiration": 0}])))
    assert (entry.expires_at, entry.ttl_seconds) == (1, 0)


@pytest.mark.parametrize("wrong", [1, "", ".", None, ["k"]])
def test_a_key_that_is_none_is_named(wrong: Any) -> None:
    with pytest.raises(BulkInvalid) as raised:
        keys_of(_raws(["k", wrong]))
    assert raised.value.params["index"] == "1"


def test_a_compressed_body_is_held_for_what_it_may_come_to() -> None:
    assert bytes_to_hold({"content-length": "1000"}) == 1000
    assert bytes_to_hold({"content-length": "1000", "content-encoding": "gzip"}) > 1_000_000
    assert bytes_to_hold({"content-length": "99999999", "content-encoding": "gzip"}) == limits.BULK_BODY_BYTES_MAX
    assert bytes_to_hold({}) == limits.BULK_BODY_BYTES_MAX


@given(
    st.lists(
        st.none() | st.tuples(st.sampled_from(["text", "base64"]), st.text(st.characters(exclude_categories=["Cs"])))
    ),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_values_come_out_the_same_however_they_are_cut_and_grouped(
    values: list[tuple[str, str] | None], part_bytes: int, group: int
) -> None:
    wire: list[frames.BulkValue | None] = []
    for value in values:
        if value is None:
            wire.append(None)
            continue
        encoding, text = value
        raw = text.encode()
        starts = list(range(0, len(raw), part_bytes)) or [0]
        wire += [frames.BulkValue(raw[at : at + part_bytes], encoding, b"", 0, 7, at != starts[-1]) for at in starts]
    writer = ValuesWriter([f"k{n}".encode() for n in range(len(values))])
    out = b"".join(writer.write(wire[at : at + group]) for at in range(0, len(wire), group)) or writer.write([])
    assert writer.complete
    entries = json.loads(out)["entries"]
    assert len(entries) == len(values)
    for index, (entry, value) in enumerate(zip(entries, values, strict=True)):
        if value is None:
            assert entry is None
            continue
        encoding, text = value
        assert (entry["key"], entry["encoding"], entry["etag"]) == (f"k{index}", encoding, '"7"')
        assert (entry["value"] if encoding == "text" else base64.b64decode(entry["value"]).decode()) == text
