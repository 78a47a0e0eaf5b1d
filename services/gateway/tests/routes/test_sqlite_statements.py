"""Statements on their way to the service, and their answers on the way back."""

import json
from typing import Any

import pytest

from tovuk.sqlite.v1 import frames
from tovuk_gateway.routes import sqlite_statements
from tovuk_kit.errors import Outcome, OutcomeUnknown, RemoteError, ServiceUnavailable

TARGET = ("account", "service", "DB", "free")


def _op(**content: Any) -> Any:
    return sqlite_statements.op_of(*TARGET, json.dumps(content).encode())


@pytest.mark.parametrize("sql", ["select 1", "SELECT 1", "values (1)"])
def test_what_cannot_write_may_be_sent_twice(sql: str) -> None:
    assert isinstance(_op(sql=sql), frames.Select)


@pytest.mark.parametrize(
    "sql", ["insert into t values (1)", "with x as (select 1) insert into t select * from x", " select 1", "pragma x"]
)
def test_what_may_write_is_sent_once(sql: str) -> None:
    assert isinstance(_op(sql=sql), frames.Statement)


def test_parameters_travel_as_values_of_sql() -> None:
    op = _op(sql="select ?, ?, ?, ?", params=[{"base64": "AP8="}, {"real": "inf"}, True, None])
    assert op.params == [b"\x00\xff", float("inf"), 1, None]
    assert _op(sql="select :a", params={"$a": 1}).params == {"a": 1}
    assert (op.account, op.service, op.database, op.plan) == TARGET


def test_a_batch_and_a_further_page_go_the_long_way() -> None:
    assert _op(statements=[{"sql": "select 1"}]) is None
    assert _op(sql="select 1", cursor="x") is None


def test_an_answer_is_the_services_own_bytes() -> None:
    answer = sqlite_statements.answer_of(frames.Done(1, b'{"rows":[]}'))
    assert answer is not None and (answer.status, answer.body) == (200, b'{"rows":[]}')
    assert sqlite_statements.answer_of(frames.NotShort(1)) is None


def test_what_failed_is_raised_as_it_was_told() -> None:
    with pytest.raises(RemoteError) as raised:
        sqlite_statements.answer_of(frames.Failed(1, "store_unavailable", {}, "unknown", 1_000))
    assert (raised.value.code, raised.value.outcome) == ("store_unavailable", Outcome.UNKNOWN)
    with pytest.raises(OutcomeUnknown):
        sqlite_statements.answer_of(OutcomeUnknown())


def test_what_another_shard_may_do_is_not_answered_here() -> None:
    assert sqlite_statements.answer_of(ServiceUnavailable()) is None
    assert sqlite_statements.answer_of(frames.Failed(1, "sqlite_shard_not_owned", {}, "not_done", 1_000)) is None
