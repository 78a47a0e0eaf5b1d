"""The SQL that is asked of a database, in the product's own form of a query: `{sql, params}` or `{statements}`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bench.client import Client, UnexpectedAnswer, raw_request
from bench.workload import (
    ENTRIES,
    SQL_OPERATIONS,
    TABLE_ROWS,
    VALUE_BYTES,
    WRITE_KEYS,
    Operation,
    slices,
    value_of,
)

#: Tables: one that is read, one that single inserts and one that batches write.
SCHEMA: Final = (
    "CREATE TABLE entry (id INTEGER PRIMARY KEY, number INTEGER NOT NULL, value TEXT NOT NULL)",
    "CREATE TABLE inserted (id INTEGER PRIMARY KEY, key TEXT NOT NULL, value TEXT NOT NULL)",
    "CREATE TABLE batched (id INTEGER PRIMARY KEY, key TEXT NOT NULL, value TEXT NOT NULL)",
)
FILL: Final = (
    f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {TABLE_ROWS}) "
    f"INSERT INTO entry SELECT i, i * 7919 % 1000, substr(i || ':' || hex(zeroblob({VALUE_BYTES // 2})), 1, "
    f"{VALUE_BYTES}) FROM n"
)
SELECT: Final = "SELECT value FROM entry WHERE id = ?"
INSERT: Final = "INSERT INTO inserted (key, value) VALUES (?, ?)"
INSERT_OF_BATCH: Final = "INSERT INTO batched (key, value) VALUES (?, ?)"
AGGREGATE: Final = (
    "SELECT number % 10, count(*), sum(number), avg(id), min(value), max(value) FROM entry "
    "WHERE number <> 13 GROUP BY number % 10"
)
TRANSFER: Final = "SELECT id, number, value FROM entry"
#: The rows that point selects ask for.
SELECTED_IDS: Final = tuple(range(1, TABLE_ROWS, TABLE_ROWS // 2_000))


def stored_value(row_id: int) -> str:
    """The value of a row of `entry`."""
    return f"{row_id}:".ljust(VALUE_BYTES, "0")


@dataclass(frozen=True, slots=True)
class SqlDialect:
    """Queries at one path, answered as `{rows: [[…]]}`, batches as `{results: [{rows}]}`."""

    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    operations: frozenset[Operation] = frozenset(SQL_OPERATIONS)

    def fill(self, client: Client) -> None:
        for sql in (*SCHEMA, FILL):
            self._rows(client, sql)

    def requests(self, operation: Operation) -> list[bytes]:
        match operation:
            case "select":
                bodies: list[dict[str, Any]] = [_single(SELECT, row_id) for row_id in SELECTED_IDS]
            case "insert":
                bodies = [_single(INSERT, key, value_of(key)) for key in WRITE_KEYS]
            case "batch":
                bodies = [
                    {"statements": [_single(INSERT_OF_BATCH, key, value_of(key)) for key in keys]}
                    for keys in slices(WRITE_KEYS)
                ]
            case "aggregate":
                bodies = [_single(AGGREGATE)]
            case "transfer":
                bodies = [_single(TRANSFER)]
            case _:
                raise ValueError(operation)
        return [raw_request("POST", self.path, self.headers, _json(body)) for body in bodies]

    def check(self, client: Client, operation: Operation, written: int) -> None:
        match operation:
            case "select":
                self._expect(client, [[stored_value(SELECTED_IDS[7])]], SELECT, SELECTED_IDS[7])
            case "insert":
                self._expect_written(client, "inserted", written)
            case "batch":
                self._expect_written(client, "batched", written * ENTRIES)
            case "aggregate":
                counted = sum(row[1] for row in self._rows(client, AGGREGATE))
                self._expect(client, [[counted]], "SELECT count(*) FROM entry WHERE number <> 13")
            case "transfer":
                self._expect(client, [[TABLE_ROWS, TABLE_ROWS]], "SELECT count(*), max(id) FROM entry")
            case _:
                raise ValueError(operation)

    def _expect(self, client: Client, rows: list[list[Any]], sql: str, *params: object) -> None:
        found = self._rows(client, sql, *params)
        if found != rows:
            raise UnexpectedAnswer(f"{sql} answered {found!r:.200}, not {rows!r:.200}")

    def _expect_written(self, client: Client, table: str, least: int) -> None:
        [[count, damaged]] = self._rows(
            client, f"SELECT count(*), count(*) FILTER (WHERE length(value) <> {VALUE_BYTES}) FROM {table}"
        )
        if count < least or damaged:
            raise UnexpectedAnswer(f"{table} holds {count} rows of {least} acknowledged, {damaged} of them damaged")

    def _rows(self, client: Client, sql: str, *params: object) -> list[list[Any]]:
        rows: list[list[Any]] = client.json("POST", self.path, _single(sql, *params))["rows"]
        return rows


def _single(sql: str, *params: object) -> dict[str, Any]:
    return {"sql": sql, "params": params}


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
