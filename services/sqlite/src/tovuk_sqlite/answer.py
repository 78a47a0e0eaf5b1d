"""Answers as JSON, and what to do next."""

import re
import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tovuk_sqlite.store.base import Plan, Result, Statement

_encode = msgspec.json.encode
_COMPARED = re.compile(
    r"""(?:\b(?:where|and|or|on|by)\s+|,\s*)(?:\w+\.)?"?(\w+)"?\s*(?:=|<|>|\bin\b|\blike\b|\bbetween\b)""", re.I
)


class Facts(NamedTuple):
    """What an answer says of the run as a whole; `began_s` by time.monotonic."""

    rows_read_exact: bool
    storage_bytes: int
    began_s: float
    next_actions: list[str]


def single(result: Result, facts: Facts, cursor: str | None = None) -> bytes:
    """The answer to one statement."""
    return b'{%b,"cursor":%b,%b}' % (_result(result), _encode(cursor), _facts(facts))


def batch(results: Sequence[Result], facts: Facts) -> bytes:
    """The answer to many: each one's result, and totals."""
    totals = {
        "statements": len(results),
        "rowsRead": sum(result.rows_read for result in results),
        "rowsWritten": sum(result.rows_written for result in results),
        "vmSteps": sum(result.vm_steps for result in results),
        "fullscanSteps": sum(result.fullscan_steps for result in results),
        "changes": sum(result.changes for result in results),
    }
    listed = b",".join(b"{%b}" % _result(result) for result in results)
    return b'{"results":[%b],"totals":%b,%b}' % (listed, _encode(totals), _facts(facts))


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
    return (
        b'"columns":%b,"rows":%b,"rowCount":%d,"rowsRead":%d,"rowsWritten":%d,"vmSteps":%d,"fullscanSteps":%d'
        b',"changes":%d,"lastInsertRowid":%d'
    ) % (
        _encode(result.columns),
        result.rows,
        result.row_count,
        result.rows_read,
        result.rows_written,
        result.vm_steps,
        result.fullscan_steps,
        result.changes,
        result.last_insert_rowid,
    )


def _facts(facts: Facts) -> bytes:
    return b'"rowsReadExact":%b,"storageBytes":%d,"durationMs":%.3f,"nextActions":%b' % (
        b"true" if facts.rows_read_exact else b"false",
        facts.storage_bytes,
        (time.monotonic() - facts.began_s) * 1000,
        _encode(facts.next_actions),
    )
