"""Bare apsw as the limit of SQL: `python -m bench.bare <folder> <seconds>`, one thread, rows as Python objects."""

import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import apsw

from bench.targets.sql import AGGREGATE, FILL, INSERT, INSERT_OF_BATCH, SCHEMA, SELECT, SELECTED_IDS, TRANSFER
from bench.workload import WRITE_KEYS, SqlOperation, slices, value_of


def rates(folder: Path, seconds: float) -> dict[SqlOperation, float]:
    """Answers a second by operation, in this process; what is written is synced as ours is."""
    connection = apsw.Connection(str(folder / "bare.sqlite"))
    for sql in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", *SCHEMA, FILL):
        connection.execute(sql).fetchall()
    ids, keys, portions = (
        itertools.cycle(SELECTED_IDS),
        itertools.cycle(WRITE_KEYS),
        itertools.cycle(slices(WRITE_KEYS)),
    )

    def insert(key: str, sql: str = INSERT) -> None:
        connection.execute(sql, (key, value_of(key))).fetchall()

    def batch() -> None:
        with connection:
            for key in next(portions):
                insert(key, INSERT_OF_BATCH)

    works: dict[SqlOperation, Callable[[], object]] = {
        "select": lambda: connection.execute(SELECT, (next(ids),)).fetchall(),
        "insert": lambda: insert(next(keys)),
        "batch": batch,
        "aggregate": lambda: connection.execute(AGGREGATE).fetchall(),
        "transfer": lambda: connection.execute(TRANSFER).fetchall(),
    }
    return {operation: _rate(work, seconds) for operation, work in works.items()}


def _rate(work: Callable[[], object], seconds: float) -> float:
    began = time.perf_counter()
    done, spent_s = 0, 0.0
    while spent_s < seconds:
        work()
        done, spent_s = done + 1, time.perf_counter() - began
    return done / spent_s


if __name__ == "__main__":
    sys.stdout.write(json.dumps(rates(Path(sys.argv[1]), float(sys.argv[2]))))
