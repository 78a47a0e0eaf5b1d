"""The product's databases: a tenant's own, alone on the machine or beside another tenant's endless queries."""

import contextlib
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from bench.client import Client
from bench.processes import running
from bench.targets.base import Running, Target
from bench.targets.naive import ROOT
from bench.targets.ours import new_service, product, put_caps
from bench.targets.sql import SqlDialect
from bench.workload import SQL_OPERATIONS, Operation

_DATABASE: Final = "BENCH"
_CAPPED: Final = {"sqlite_rows_written": "day", "sqlite_storage_bytes": "month"}
#: Runs until it is stopped.
_ENDLESS: Final = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
_HOGS: Final = 4


@contextlib.contextmanager
def _start(folder: Path, *, crowded: bool, operations: frozenset[Operation]) -> Iterator[Running]:
    with contextlib.ExitStack() as held:
        port, token, launched = held.enter_context(product(folder, gateways=1))
        headers = {"Authorization": f"Bearer {token}"}
        with Client(port, headers) as operator:
            path = _new_database(operator)
            put_caps(operator, _CAPPED)
            if crowded:
                made = operator.json("POST", "/v1/operator/accounts", {"handle": "crowd", "plan": "self_hosted"})
                held.enter_context(_crowd(folder, port, {"Authorization": f"Bearer {made['token']}"}))
        yield Running(port, (launched,), SqlDialect(path, headers, operations))


def _new_database(client: Client) -> str:
    """The path of the queries of a database in a service of its own."""
    service = new_service(client)
    client.json("POST", f"{service}/sqlite/databases", {"name": _DATABASE})
    return f"{service}/sqlite/{_DATABASE}/query"


@contextlib.contextmanager
def _crowd(folder: Path, port: int, headers: dict[str, str]) -> Iterator[None]:
    """Another tenant's connections, each with an endless query under way while the block runs."""
    with Client(port, headers) as client:
        path = _new_database(client)
    log = folder / "crowd.log"
    with running(
        [sys.executable, "-m", "bench.crowd", str(port), path, json.dumps(headers), _ENDLESS, str(_HOGS)],
        log=log,
        ready=lambda: log.read_text(errors="replace").count("begun") >= _HOGS,
        env={"PYTHONPATH": str(ROOT)},
    ):
        yield


DATABASES = Target(
    "ours-databases",
    "Tovuk, one gateway process, a database, metered, caps on rows written and bytes",
    partial(_start, crowded=False, operations=frozenset(SQL_OPERATIONS)),
)
CROWDED = Target(
    "ours-databases-crowded",
    f"the same while another tenant has endless queries under way on {_HOGS} connections",
    partial(_start, crowded=True, operations=frozenset({"select"})),
)
