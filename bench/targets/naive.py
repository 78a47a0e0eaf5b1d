"""The naive chain over the same durable store, in two forms."""

import contextlib
import secrets
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from bench.processes import free_port, listens, running
from bench.targets.base import JsonDialect, Running, Target

#: Where `bench` is imported from.
ROOT: Final = Path(__file__).parent.parent.parent


@contextlib.contextmanager
def _start(folder: Path, *, one_by_one: bool) -> Iterator[Running]:
    port, service_port, token = free_port(), free_port(), secrets.token_hex(16)
    env = {"PYTHONPATH": str(ROOT)}
    grouping = "one-by-one" if one_by_one else "grouped"
    service = [sys.executable, "-m", "bench.naive.service", str(service_port), folder / "naive.sqlite", grouping]
    gateway = [sys.executable, "-m", "bench.naive.gateway", str(port), str(service_port), token]
    with (
        running(service, log=folder / "service.log", ready=listens(service_port), env=env) as serving,
        running(gateway, log=folder / "gateway.log", ready=listens(port), env=env) as answering,
    ):
        dialect = JsonDialect("/kv/BENCH", {"Authorization": f"Bearer {token}"}, frozenset({"get", "put"}))
        yield Running(port, (answering, serving), dialect)


NAIVE = Target(
    "naive", "FastAPI, unary grpc.aio, SQLite, one transaction and sync a put", partial(_start, one_by_one=True)
)
NAIVE_GROUPED = Target(
    "naive-grouped", "the same chain with the store's group commit at work", partial(_start, one_by_one=False)
)
