"""Answers as JSON, and what to do next."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from tovuk_sqlite.store.base import Plan, Result, Statement

_encode = msgspec.json.encode
_COMPARED = re.compile(
    r"""(?:\b(?:where|and|or|on|by)\s+|,\s*)(?:\w+\.)?"?(\w+)"?\s*(?:=|<|>|\bin\b|\blike\b|\bbetween\b)""", re.I
)


def single(result: Result, facts: dict[str, Any]) -> bytes:
    """The answer to one statement."""
    return _result(result)[:-1] + b"," + _encode(facts)[1:]


def batch(results: Sequence[Result], facts: dict[str, Any]) -> bytes:
    """The answer to many: each one's result, and totals."""
    totals = {
        "statements": len(results),
        "rowsRead": sum(result.rows_read for result in results),
        "rowsWritten": sum(result.rows_written for result in results),
        "vmSteps": sum(result.vm_steps for result in results),
        "fullscanSteps": sum(result.fullscan_steps for result in results),
        "changes": sum(result.changes for result in results),
    }
    return b'{"results":[' + b",".join(map(_result, results)) + b"]," + _encode({"totals": totals, **facts})[1:]


def estimate(plan: Plan, *, exact: bool) -> bytes:
    """The answer to a question how a statement would run."""
    content = {
        "estimate": True,
        "plan": plan.steps,
        "scans": bool(plan.scans),
        "scannedTables": plan.scans,
        "estimatedRowsRead": plan.rows_estimated,
        "rowsReadExact": exact,
        "nextActions": ["Send the statement without estimate to run it."],
    }
    return _encode(content)


def advice(statement: Statement, plan: Plan) -> list[str]:
    """What would avoid the whole scans of a plan."""
    columns = list(dict.fromkeys(match[1] for match in _COMPARED.finditer(statement.sql)))
    if not columns:
        return [f"This statement scanned the whole table {table}; a WHERE on an indexed column would avoid it."
                for table in plan.scans]  # fmt: skip
    names = ", ".join(columns[:3])
    return [
        f"This statement scanned the whole table {table}; an index on ({names}) may avoid it." for table in plan.scans
    ]


def _result(result: Result) -> bytes:
    head = _encode(
        {
            "rowCount": result.row_count,
            "rowsRead": result.rows_read,
            "rowsWritten": result.rows_written,
            "vmSteps": result.vm_steps,
            "fullscanSteps": result.fullscan_steps,
            "changes": result.changes,
            "lastInsertRowid": result.last_insert_rowid,
        }
    )
    return b'{"columns":' + _encode(result.columns) + b',"rows":' + result.rows + b"," + head[1:]
