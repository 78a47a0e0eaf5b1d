"""What one tenant runs does not keep others from being answered, and ends when it leaves."""

import http.client
import json
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager

from product import Product
from tenant_database import TenantDatabase

_ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
#: One of them holds the one writer of its database.
_CROWD = (f"INSERT INTO t {_ENDLESS}", _ENDLESS, _ENDLESS, _ENDLESS)
_ROUNDS = 50
#: Far less than the 25 s after which an endless query is stopped.
_ANSWERED_WITHIN_S = 15.0


@contextmanager
def _endless_queries(database: TenantDatabase) -> Iterator[list[http.client.HTTPConnection]]:
    """Queries that run while the block does, each on a connection; then their caller leaves."""
    connections = []
    for sql in _CROWD:
        connection = http.client.HTTPConnection(database.tenant.url.removeprefix("http://"))
        headers = {"Authorization": f"Bearer {database.tenant.token}", "Content-Type": "application/json"}
        connection.request("POST", database.path, json.dumps({"sql": sql}), headers)
        connections.append(connection)
    try:
        yield connections
    finally:
        for connection in connections:
            connection.close()


def test_another_tenant_is_answered_beside_endless_queries(product: Product, database: TenantDatabase) -> None:
    database.query("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
    database.query("INSERT INTO t SELECT value, value FROM json_each('[1,2,3,4,5]')")
    crowd = TenantDatabase.made(product.url, product.token)
    crowd.query("CREATE TABLE t (a)")
    with _endless_queries(crowd) as connections:
        began = time.monotonic()
        for number in range(_ROUNDS):
            assert database.rows("SELECT v FROM t WHERE id = ?", [number % 5 + 1]) == [[number % 5 + 1]]
            database.query("UPDATE t SET v = v WHERE id = 1")
        assert time.monotonic() - began < _ANSWERED_WITHIN_S
        answered, _, _ = select.select([connection.sock for connection in connections], [], [], 0)
        assert answered == [], "an endless query ended meanwhile"
    # Their caller has left: its own queries are answered again, the one writer of its database is free.
    began = time.monotonic()
    crowd.query("INSERT INTO t VALUES (1)")
    assert crowd.rows("SELECT count(*) FROM t") == [[1]]
    assert time.monotonic() - began < _ANSWERED_WITHIN_S
    crowd.close()
