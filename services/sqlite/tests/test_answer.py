"""The answer's JSON, to the byte: clients of every version read it."""

import re
import time

import pytest

from tovuk_sqlite.answer import Facts, advice, batch, estimate, single
from tovuk_sqlite.store.base import Plan, Results, Statement

GOLDEN = (
    '"columns":["a","b\\""],"rows":[[1,"x"]],"rowCount":1,"rowsRead":2,"rowsWritten":3,"vmSteps":4,"fullscanSteps":5'
    ',"changes":6,"lastInsertRowid":7'
)
ONE = Results(b"{%b}" % GOLDEN.encode(), 2, 3, 4, [5], 6, 1, False)
TWO = Results(b"{%b},{%b}" % (GOLDEN.encode(), GOLDEN.encode()), 4, 6, 8, [5, 5], 12, 1, False)


def _told(body: bytes) -> str:
    return re.sub(r'"durationMs":\d+\.\d{3}', '"durationMs":0', body.decode())


def _facts(**changes: object) -> Facts:
    return Facts(True, 4096, time.monotonic(), ["Do x."])._replace(**changes)


def test_one_statements_answer() -> None:
    facts = '"rowsReadExact":true,"storageBytes":4096,"durationMs":0,"nextActions":["Do x."]'
    assert _told(single(ONE, _facts())) == f'{{{GOLDEN},"cursor":null,{facts}}}'
    assert '"cursor":"abc"' in _told(single(ONE, _facts(), "abc"))
    assert '"rowsReadExact":false' in _told(single(ONE, _facts(rows_read_exact=False)))


def test_a_batchs_answer_has_totals() -> None:
    totals = '{"statements":2,"rowsRead":4,"rowsWritten":6,"vmSteps":8,"fullscanSteps":10,"changes":12}'
    facts = '"rowsReadExact":true,"storageBytes":4096,"durationMs":0,"nextActions":["Do x."]'
    expected = f'{{"results":[{{{GOLDEN}}},{{{GOLDEN}}}],"totals":{totals},{facts}}}'
    assert _told(batch(TWO, _facts())) == expected


def test_an_estimates_answer() -> None:
    assert estimate(Plan(("SCAN t",), ("t",), 9), exact=True).decode() == (
        '{"estimate":true,"plan":["SCAN t"],"scans":true,"scannedTables":["t"],"estimatedRowsRead":9'
        ',"rowsReadExact":true,"nextActions":["Send the statement without estimate to run it."]}'
    )


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("select * from t where b = 7", "an index on (b) may avoid it"),
        ("select * from t where t.b > ? and c in (1)", "an index on (b, c) may avoid it"),
        ("select * from t", "a WHERE on an indexed column would avoid it"),
    ],
)
def test_advice_names_the_columns_that_are_compared(sql: str, said: str) -> None:
    assert advice(Statement(sql), Plan((), ("t",), 0)) == [f"This statement scanned the whole table t; {said}."]
