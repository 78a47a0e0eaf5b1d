"""The bytes of the hot frames: two versions of a service that run side by side must read one another."""

import msgspec
import pytest

from tovuk.common.v1.frames import Failed
from tovuk.kv.v1 import frames
from tovuk.kv.v1.frames import (
    BulkEntry,
    BulkValue,
    Delete,
    Deleted,
    Get,
    KeyEntry,
    Large,
    List,
    NotModified,
    Page,
    Put,
    Stored,
    Value,
)
from tovuk.sqlite.v1 import frames as sqlite
from tovuk.sqlite.v1 import statements

OPERATIONS = [
    pytest.param(Get(1, "a", "s", "n", b"k", "e"), "91 97 a167 01 a161 a173 a16e c4016b a165", id="get"),
    pytest.param(
        Put(2, "a", "s", "n", b"k", b"\x00\xff", "text", b"{}", 3, 4, "e", "*"),
        "91 9d a170 02 a161 a173 a16e c4016b c40200ff a474657874 c4027b7d 03 04 a165 a12a",
        id="put",
    ),
    pytest.param(Delete(3, "a", "s", "n", b"k", ""), "91 97 a164 03 a161 a173 a16e c4016b a0", id="delete"),
    pytest.param(List(4, "a", "s", "n", b"p", 1000, "c"), "91 98 a16c 04 a161 a173 a16e c40170 cd03e8 a163", id="list"),
]

ANSWERS = [
    pytest.param(Value(1, b"v", "base64", b"", 5, 6), "91 97 a176 01 c40176 a6626173653634 c400 05 06", id="value"),
    pytest.param(NotModified(2, 70_000), "91 93 a16e 02 ce00011170", id="not_modified"),
    pytest.param(Large(3), "91 92 a14c 03", id="large"),
    pytest.param(Stored(4, 5, 0), "91 94 a173 04 05 00", id="stored"),
    pytest.param(Deleted(5, True), "91 93 a178 05 c3", id="deleted"),
    pytest.param(Page(6, [KeyEntry(b"k", b"", 0, 1, 2)], ""), "91 94 a16b 06 91 95 c4016b c400 00 01 02 a0", id="page"),
    pytest.param(
        Failed(7, "storage_full", {"a": "b"}, "not_done", -1),
        "91 96 a165 07 ac73746f726167655f66756c6c 81a161a162 a86e6f745f646f6e65 ff",
        id="failed",
    ),
]


SQLITE_OPERATIONS = [
    pytest.param(
        sqlite.Read(1, "a", "s", "d", "free", [("select ?", [1, b"\x00", "t", None, 0.5])], False),
        "91 98 a172 01 a161 a173 a164 a466726565 91 92 a873656c656374203f 95 01 c40100 a174 c0 cb3fe0000000000000 c2",
        id="read",
    ),
    pytest.param(
        sqlite.Write(2, "a", "s", "d", "pro", [("x", {"n": 1})] * 2, True),
        "91 98 a177 02 a161 a173 a164 a370726f 92 92 a178 81 a16e 01 92 a178 81 a16e 01 c3",
        id="write",
    ),
]

SQLITE_ANSWERS = [
    pytest.param(sqlite.Done(1, b"{}"), "91 93 a164 01 c4027b7d", id="done"),
    pytest.param(sqlite.NotShort(2), "91 92 a16c 02", id="not_short"),
    pytest.param(
        Failed(3, "internal_error", {}, "unknown", 1_000),
        "91 96 a165 03 ae696e7465726e616c5f6572726f72 80 a7756e6b6e6f776e cd03e8",
        id="failed",
    ),
]


def test_statements_have_the_bytes_they_always_had() -> None:
    sent: list[statements.Statement] = [("select ?", [1, b"\x00", "t", None, 0.5]), ("x", {"n": -(2**63)})]
    golden = "92 92 a873656c656374203f 95 01 c40100 a174 c0 cb3fe0000000000000 92 a178 81 a16e d38000000000000000"
    payload = bytes.fromhex(golden.replace(" ", ""))
    assert statements.encode(sent) == payload
    assert statements.decode(payload) == sent
    with pytest.raises(msgspec.ValidationError):
        statements.decode(bytes.fromhex("9191a178"))


@pytest.mark.parametrize(("item", "golden"), SQLITE_OPERATIONS)
def test_operation_of_sqlite_has_the_bytes_it_always_had(item: sqlite.Operation, golden: str) -> None:
    payload = bytes.fromhex(golden.replace(" ", ""))
    assert sqlite.encode([item]) == payload
    assert sqlite.decode_operations(payload) == [item]


@pytest.mark.parametrize(("item", "golden"), SQLITE_ANSWERS)
def test_answer_of_sqlite_has_the_bytes_it_always_had(item: sqlite.Answer, golden: str) -> None:
    payload = bytes.fromhex(golden.replace(" ", ""))
    assert sqlite.encode([item]) == payload
    assert sqlite.decode_answers(payload) == [item]


@pytest.mark.parametrize(("item", "golden"), OPERATIONS)
def test_operation_has_the_bytes_it_always_had(item: frames.Operation, golden: str) -> None:
    payload = bytes.fromhex(golden.replace(" ", ""))
    assert frames.encode([item]) == payload
    assert frames.decode_operations(payload) == [item]


@pytest.mark.parametrize(("item", "golden"), ANSWERS)
def test_answer_has_the_bytes_it_always_had(item: frames.Answer, golden: str) -> None:
    payload = bytes.fromhex(golden.replace(" ", ""))
    assert frames.encode([item]) == payload
    assert frames.decode_answers(payload) == [item]


def test_bulk_entries_and_values_have_the_bytes_they_always_had() -> None:
    entry = BulkEntry(b"k", b"v", "text", b"{}", 1, 2, True)
    payload = bytes.fromhex("9197c4016bc40176a474657874c4027b7d0102c3")
    assert frames.encode([entry]) == payload
    assert frames.decode_bulk_entries(payload) == [entry]
    value = BulkValue(b"v", "text", b"{}", 1, 2, False)
    payload = bytes.fromhex("92c096c40176a474657874c4027b7d0102c2")
    assert frames.encode([None, value]) == payload
    assert frames.decode_bulk_values(payload) == [None, value]


def test_every_operation_and_answer_has_a_golden_form() -> None:
    def types(cases: list[pytest.ParameterSet]) -> set[type]:
        return {type(case.values[0]) for case in cases}

    assert types(OPERATIONS) == set(frames.Operation.__args__)
    assert types(ANSWERS) == {*frames.Answer.__args__, Failed}


@pytest.mark.parametrize("payload", [b"", b"\x90\x00", b"\x91\x92\xa1z\x01", b"\x91\x92\xa1g\x01", b"\xc0"])
def test_anything_else_is_refused(payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        frames.decode_operations(payload)
    with pytest.raises(msgspec.DecodeError):
        frames.decode_answers(payload)


def test_unknown_trailing_fields_of_a_newer_version_are_read_over() -> None:
    assert frames.decode_answers(bytes.fromhex("9193a14c03c3")) == [Large(3)]
