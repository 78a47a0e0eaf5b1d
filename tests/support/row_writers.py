"""Requests that write rows which name their request, so that a database shows which of them it did, and how far."""

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count

from load import Load, Outcome, Request
from tenant_database import TenantDatabase

SHOW = "SELECT name, count(*) FROM t GROUP BY name"


def create_table(pad_bytes: int = 0) -> str:
    """The statement that makes the table; each row is as large."""
    return f"CREATE TABLE t (name TEXT NOT NULL, row INTEGER NOT NULL, pad BLOB DEFAULT (zeroblob({pad_bytes})))"


class RowWriters:
    """Makes requests: each in any of the databases, in any form a write has, of 1 to `rows_max` rows."""

    def __init__(self, databases: Sequence[TenantDatabase], rng: random.Random, rows_max: int) -> None:
        self._databases = databases
        self._rng = rng
        #: Of one request.
        self.rows_max = rows_max
        self._numbers = count()

    def __call__(self) -> Request:
        rng, name = self._rng, f"w{next(self._numbers)}"
        units = rng.choice((1, 1, 1, rng.randint(1, self.rows_max)))
        row = {"sql": "INSERT INTO t (name, row) VALUES (?, 1)", "params": [name]}
        if units == 1:
            body = row
        elif rng.random() < 0.5:
            body = {"statements": [row] * units}
        else:
            rows = json.dumps(list(range(units)))
            body = {"sql": "INSERT INTO t (name, row) SELECT ?, value FROM json_each(?)", "params": [name, rows]}
        return Request("POST", rng.choice(self._databases).path, body, units, name)


def stored_rows(databases: Sequence[TenantDatabase]) -> Counter[str]:
    """Rows by the request that wrote them."""
    found: Counter[str] = Counter()
    for database in databases:
        found.update(dict(database.rows(SHOW)))
    return found


def problems(load: Load, stored: Mapping[str, int]) -> list[str]:
    """What was acknowledged and is not there, what was refused and is, and what was done in part."""
    wanted = {attempt.request.name: attempt.request.units for attempt in load.attempts}
    done = {attempt.request.name for attempt in load.of(Outcome.DONE)}
    undone = {attempt.request.name for attempt in (*load.of(Outcome.REFUSED), *load.of(Outcome.NOT_DONE))}
    return [
        *(f"{name} has {rows} of {wanted[name]} rows" for name, rows in stored.items() if wanted[name] != rows),
        *(f"{name} is missing" for name in sorted(done - stored.keys())),
        *(f"{name} was refused and is there" for name in sorted(undone & stored.keys())),
    ]
