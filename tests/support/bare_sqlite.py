"""SQLite itself, in this process, told in the words of the API: what a database over HTTP is to be equal to."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import apsw

#: What the API calls a constraint, by SQLite's extended code.
_CONSTRAINTS: Final = {
    apsw.SQLITE_CONSTRAINT_UNIQUE: "unique",
    apsw.SQLITE_CONSTRAINT_PRIMARYKEY: "primary_key",
    apsw.SQLITE_CONSTRAINT_ROWID: "primary_key",
    apsw.SQLITE_CONSTRAINT_NOTNULL: "not_null",
    apsw.SQLITE_CONSTRAINT_FOREIGNKEY: "foreign_key",
    apsw.SQLITE_CONSTRAINT_CHECK: "check",
    apsw.SQLITE_CONSTRAINT_TRIGGER: "trigger",
    apsw.SQLITE_CONSTRAINT_DATATYPE: "datatype",
}
_SYNTAX: Final = ("syntax error", "incomplete input", "unrecognized token")


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a statement: its result, or its error's code and text; `statement` is its index."""

    columns: tuple[str, ...] = ()
    rows: tuple[Any, ...] = ()
    changes: int = 0
    last_insert_rowid: int = 0
    code: str = ""
    detail: str = ""
    statement: int = 0


class BareSqlite:
    """One database in memory, with the settings that a tenant's database has."""

    def __init__(self) -> None:
        self._sql = apsw.Connection(":memory:")
        self._sql.execute("PRAGMA foreign_keys = ON").fetchall()
        self._sql.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)

    def run(self, statements: Sequence[tuple[str, Sequence[Any] | Mapping[str, Any]]]) -> list[Told]:
        """The results, or the one error: all of the statements or none, as a request is."""
        self._sql.execute("BEGIN")
        self._sql.set_last_insert_rowid(0)
        told: list[Told] = []
        try:
            for sql, params in statements:
                told.append(self._one(sql, params))
            self._sql.execute("COMMIT")
        except (apsw.Error, KeyError) as error:
            if self._sql.in_transaction:
                self._sql.execute("ROLLBACK")
            return [_error(error, len(told))]
        return told

    def _one(self, sql: str, params: Sequence[Any] | Mapping[str, Any]) -> Told:
        before = self._sql.total_changes()
        columns: list[str] = []
        cursor = self._sql.cursor()

        def started(cursor: apsw.Cursor, _sql: str, _bindings: object) -> bool:
            columns.extend(name for name, _ in cursor.get_description())
            return True

        cursor.exec_trace = started
        rows = tuple(
            as_json(row) for row in cursor.execute(sql, params if isinstance(params, Mapping) else tuple(params))
        )
        changes = self._sql.changes() if self._sql.total_changes() != before else 0
        return Told(tuple(columns), rows, changes, self._sql.last_insert_rowid() if changes else 0)


def as_json(row: Sequence[Any]) -> tuple[Any, ...]:
    """A row as the API tells it, each value with its type: 1 is not 1.0."""
    return tuple(map(_value, row))


def _value(value: Any) -> Any:
    if isinstance(value, bytes):
        value = {"base64": base64.b64encode(value).decode()}
    elif isinstance(value, float) and math.isinf(value):
        value = {"real": "inf" if value > 0 else "-inf"}
    return type(value).__name__, str(value) if isinstance(value, dict) else value


def _error(error: Exception, statement: int) -> Told:
    detail = str(error)
    if isinstance(error, apsw.ConstraintError):
        kind = _CONSTRAINTS[error.extendedresult]
        return Told(
            code="sqlite_constraint_failed", detail=f"breaks a {kind} constraint: {detail}", statement=statement
        )
    if isinstance(error, apsw.BindingsError | KeyError):
        return Told(code="sqlite_parameters_invalid", statement=statement)
    if isinstance(error, apsw.SQLError) and any(words in detail for words in _SYNTAX):
        offset = getattr(error, "error_offset", -1)
        return Told(code="sqlite_syntax_error", detail=f"at byte {offset}: {detail}", statement=statement)
    return Told(code="sqlite_statement_failed", detail=f"failed: {detail}", statement=statement)
