"""Statements on their way to the service, and their answers on the way back."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tovuk.sqlite.v1 import frames
from tovuk_gateway.routes import sqlite_statements
from tovuk_kit.errors import Outcome, OutcomeUnknown, RemoteError, ServiceUnavailable, TovukError

TARGET = ("account", "service", "DB", "free")


def _op(**content: Any) -> Any:
    return sqlite_statements.op_of(*TARGET, json.dumps(content).encode())


@pytest.mark.parametrize("sql", ["select 1", "SELECT 1", "values (1)"])
def test_what_cannot_write_may_be_sent_twice(sql: str) -> None:
    assert isinstance(_op(sql=sql), frames.Read)


@pytest.mark.parametrize(
    "sql", ["insert into t values (1)", "with x as (select 1) insert into t select * from x", " select 1", "pragma x"]
)
def test_what_may_write_is_sent_once(sql: str) -> None:
    assert isinstance(_op(sql=sql), frames.Write)


def test_parameters_travel_as_values_of_sql() -> None:
    op = _op(sql="select ?, ?, ?, ?", params=[{"base64": "AP8="}, {"real": "inf"}, True, None])
    assert op.statements == [("select ?, ?, ?, ?", [b"\x00\xff", float("inf"), 1, None])]
    assert [type(_op(sql="select ?", params=sent).statements[0][1][0]) for sent in ([True], [1.0])] == [int, float]
    assert _op(sql="select :a", params={"$a": True}).statements == [("select :a", {"a": 1})]
    assert (op.account, op.service, op.database, op.plan, op.batch) == (*TARGET, False)


def test_a_batch_is_one_operation() -> None:
    op = _op(statements=[{"sql": "insert into t values (?)", "params": [1]}, {"sql": "select 1"}])
    assert isinstance(op, frames.Write) and op.batch
    assert op.statements == [("insert into t values (?)", [1]), ("select 1", [])]
    assert isinstance(_op(statements=[{"sql": "select 1"}, {"sql": "values (1)"}]), frames.Read)


def test_a_further_page_goes_the_long_way() -> None:
    assert _op(sql="select 1", cursor="x") is None


VALUES = st.recursive(
    st.sampled_from([None, True, 0, -(2**63), 2**63, 1.5, float("inf"), "é", "inf", "AP8=", "?"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["base64", "real", "x"]), inner),
    max_leaves=4,
)
PARAMS = VALUES | st.lists(VALUES, max_size=2) | st.dictionaries(st.sampled_from(["a", ":b", "$c"]), VALUES, max_size=2)
CURSORS = st.sampled_from([None, "", "x", 1])
STATEMENTS = st.fixed_dictionaries({"sql": st.just("select 1")}, optional={"params": PARAMS})
BODIES = (
    st.fixed_dictionaries({"sql": st.just("select 1")}, optional={"params": PARAMS, "cursor": CURSORS})
    | st.fixed_dictionaries({"statements": st.lists(STATEMENTS, max_size=2)}, optional={"cursor": CURSORS})
    | st.fixed_dictionaries(
        {}, optional={"sql": VALUES, "params": PARAMS, "cursor": CURSORS, "statements": VALUES | st.lists(VALUES)}
    )
)


@given(content=BODIES, estimate=st.booleans())
def test_fields_that_nobody_asked_for_change_nothing(content: dict[str, Any], estimate: bool) -> None:
    """They lead to another way of reading the body."""
    told = []
    for sent in (content, {**content, "more": []}):
        try:
            told.append(repr(sqlite_statements.query_of(json.dumps(sent).encode(), estimate=estimate)))
        except TovukError as error:
            told.append(f"{error.code} {error.params}")
    assert told[0] == told[1]


def test_an_answer_is_the_services_own_bytes() -> None:
    answer = sqlite_statements.answer_of(frames.Done(1, b'{"rows":[]}'))
    assert answer is not None and (answer.status, answer.body) == (200, b'{"rows":[]}')
    assert sqlite_statements.answer_of(frames.NotShort(1)) is None


def test_what_failed_is_raised_as_it_was_told() -> None:
    with pytest.raises(OutcomeUnknown):
        sqlite_statements.answer_of(OutcomeUnknown())


def test_what_another_shard_may_do_is_not_answered_here() -> None:
    assert sqlite_statements.answer_of(ServiceUnavailable()) is None
    not_owned = RemoteError("sqlite_shard_not_owned", {}, Outcome.NOT_DONE, 1_000)
    assert sqlite_statements.answer_of(not_owned) is None
