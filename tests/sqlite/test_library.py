"""A sqlite process has one SQLite in it, whatever it does with the catalog, databases and backups."""

import re
import sys
import time
from pathlib import Path

import pytest
from product import Product
from tenant_database import TenantDatabase

_LIBRARIES = {"stock": {"apsw"}, "native": {"tovuk_sqlite_native"}}
_DONE_WITHIN_S = 30.0


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_a_process_loads_one_sqlite(product: Product, engine: str, database: TenantDatabase) -> None:
    database.query("CREATE TABLE t (a)")
    backups = f"{database.base}/{database.name}/backups"
    made = database.tenant.request("POST", backups)
    assert made.is_success, made.text
    deadline = time.monotonic() + _DONE_WITHIN_S
    while {backup["status"] for backup in database.tenant.request("GET", backups).json()["backups"]} != {"ready"}:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    maps = Path(f"/proc/{product.processes()['sqlite']}/maps").read_text()
    loaded = {
        name for name in ("apsw", "tovuk_sqlite_native", "_sqlite3", "libsqlite3") if re.search(rf"/{name}\b", maps)
    }
    assert loaded == _LIBRARIES[engine]
