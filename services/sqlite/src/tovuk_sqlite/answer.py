"""Answers as JSON, and what to do next."""

import re
import time
from typing import NamedTuple

import msgspec

from tovuk_sqlite.store.base import Plan, Results, Statement

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


def single(results: Results, facts: Facts, cursor: str | None = None) -> bytes:
    """The answer to one statement."""
    beginning = memoryview(results.content)[:-1]
    return b"".join((beginning, b',"cursor":%b,%b}' % (_encode(cursor), _facts(facts))))


def batch(results: Results, facts: Facts) -> bytes:
    """The answer to many: each one's result, and totals."""
    totals = (b'{"statements":%d,"rowsRead":%d,"rowsWritten":%d,"vmSteps":%d,"fullscanSteps":%d,"changes":%d}') % (
        len(results.fullscan_steps),
        results.rows_read,
        results.rows_written,
        results.vm_steps,
        sum(results.fullscan_steps),
        results.changes,
    )
    return b'{"results":[%b],"totals":%b,%b}' % (results.content, totals, _facts(facts))


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


def _facts(facts: Facts) -> bytes:
    return b'"rowsReadExact":%b,"storageBytes":%d,"durationMs":%.3f,"nextActions":%b' % (
        b"true" if facts.rows_read_exact else b"false",
        facts.storage_bytes,
        (time.monotonic() - facts.began_s) * 1000,
        _encode(facts.next_actions),
    )
