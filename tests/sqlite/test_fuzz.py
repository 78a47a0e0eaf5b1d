"""Ten thousand strings that are nearly SQL: each is answered, none crashes, and none shows what is not the tenant's."""

import json
import random
import re
from pathlib import Path

import pytest
from product import Product
from sql_fuzz import FuzzedSql
from tenant_database import TenantDatabase

_STRINGS = 500
#: What no answer may hold: tables and values of our own, files of the machine, words of an interpreter that failed.
_LEAKS = re.compile(rb"_tovuk_used ?\(|store_id|cursor_key|root:.{0,3}:0:0|Traceback|\.py\"|SQLite format 3|\.rs:\d")
_OWN = "the other tenant's secret"


@pytest.mark.seeds(short=2, full=20)
def test_every_fuzzed_string_is_answered_and_shows_nothing(
    product: Product, database: TenantDatabase, seed: int, rng: random.Random
) -> None:
    other = TenantDatabase.made(product.url, product.token)
    other.query("CREATE TABLE secret (a)")
    other.query("INSERT INTO secret VALUES (?)", [_OWN])
    processes, files = product.processes(), _files(product)
    strings = FuzzedSql(rng)
    codes: set[str] = set()
    for _ in range(_STRINGS):
        sql = strings.next()
        answer = database.send(sql if rng.random() < 0.9 else [{"sql": sql}, {"sql": "select 1"}])
        assert answer.status_code < 500, (sql, answer.text)
        told = answer.content.replace(json.dumps(sql).encode(), b"")
        assert not _LEAKS.search(told), (sql, answer.text)
        assert _OWN.encode() not in told and str(product.data).encode() not in told, (sql, answer.text)
        codes.add(answer.json().get("code", ""))
    assert {"", "sqlite_syntax_error", "sqlite_statement_failed", "sqlite_statement_denied"} <= codes
    assert product.processes() == processes
    assert _files(product) - files == set(), "a statement made a file"
    assert database.rows("PRAGMA integrity_check") == [["ok"]]
    assert other.rows("SELECT a FROM secret") == [[_OWN]]
    other.close()
    assert "Traceback" not in product.log.read_text()


def _files(product: Product) -> set[Path]:
    """What lies in the service's folder, but for logs that come and go, and the history that is shipped."""
    folder = product.data / "sqlite"
    found = {path for path in folder.rglob("*") if not path.name.endswith(("-wal", "-shm"))}
    return {path for path in found if path.relative_to(folder).parts[0] != "archive"}
