"""A database over HTTP answers as SQLite itself does: rows, changes and errors, statement by statement."""

import base64
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from bare_sqlite import BareSqlite, Told
from sql_statements import Statement, Statements
from tenant_database import TenantDatabase

_STATEMENTS = 250
#: Of the requests, batches of several statements.
_BATCH_SHARE = 0.1


def _sent(params: Sequence[Any] | Mapping[str, Any]) -> Any:
    if isinstance(params, Mapping):
        return {name: _value(value) for name, value in params.items()}
    return [_value(value) for value in params]


def _value(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _answered(answer: Any) -> list[Told]:
    if answer.is_success:
        body = answer.json()
        return [_result(result) for result in body.get("results", [body])]
    error = answer.json()
    assert answer.status_code in {400, 409}, answer.text
    index, _, detail = error["message"].removeprefix("Statement ").partition(" ")
    if error["code"] == "sqlite_parameters_invalid":
        return [Told(code=error["code"])]
    detail = detail.removeprefix("is not SQL that SQLite understands, ").removesuffix(".")
    return [Told(code=error["code"], detail=detail, statement=int(index))]


def _result(result: Any) -> Told:
    rows = tuple(tuple((type(v).__name__, str(v) if isinstance(v, dict) else v) for v in row) for row in result["rows"])
    return Told(tuple(result["columns"]), rows, result["changes"], result["lastInsertRowid"])


def _comparable(told: Sequence[Told], requests: Sequence[Statement]) -> list[Any]:
    """Where a statement leaves the order of its rows open, any order will do."""
    found: list[Any] = []
    for one, (sql, _) in zip(told, requests, strict=len(told) == len(requests)):
        rows = list(one.rows) if "ORDER BY" in sql else sorted(one.rows, key=repr)
        rowid = one.last_insert_rowid if sql.startswith(("INSERT", "REPLACE")) else 0
        found.append((one.columns, rows, one.changes, rowid, one.code, one.detail))
    return found


@pytest.mark.seeds(short=4, full=20)
def test_generated_statements_answer_as_they_do_on_bare_sqlite(database: TenantDatabase, seed: int) -> None:
    rng = random.Random(seed)
    statements, bare = Statements(rng), BareSqlite()
    kinds: Counter[str] = Counter()
    for _ in range(_STATEMENTS):
        size = rng.randint(2, 6) if rng.random() < _BATCH_SHARE else 1
        request = [statements.next() for _ in range(size)]
        expected = bare.run(request)
        statements.done(ok=not expected[-1].code)
        answer = (
            database.send([{"sql": sql, "params": _sent(params)} for sql, params in request])
            if size > 1
            else database.send(request[0][0], _sent(request[0][1]))
        )
        found = _answered(answer)
        assert _comparable(found, request) == _comparable(expected, request), (request, answer.text[:1000])
        kinds[expected[-1].code or request[-1][0].split()[0]] += 1
    assert kinds["sqlite_constraint_failed"] and kinds["sqlite_statement_failed"], kinds
    assert kinds["SELECT"] > kinds.total() / 5 and kinds["INSERT"] > kinds.total() / 20, kinds
