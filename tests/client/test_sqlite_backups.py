"""The backup commands of the seeds, with the published client, and what a tenant may rely on, over HTTP."""

import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from product import Product
from published_client import Client
from s3_server import S3Server
from tenant import Tenant

_DONE_WITHIN_S = 60.0
_POLL_S = 0.05


def until_done(state: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """The backup or restore once it is no longer creating."""
    deadline = time.monotonic() + _DONE_WITHIN_S
    while (found := state())["status"] == "creating":
        assert time.monotonic() < deadline, found
        time.sleep(_POLL_S)
    return found


@pytest.mark.proves("RES-017", "RES-018", "RES-019", "RES-054")
@pytest.mark.parametrize("output", ["--json", "--output=text"])
def test_a_database_is_backed_up_and_put_back(client: Client, service: Mapping[str, Any], output: str) -> None:
    def sqlite(*words: str) -> Any:
        return client("sqlite", *words, "--service", service["id"], output).json

    def listed(kind: str, id_: str) -> Mapping[str, Any]:
        return next(item for item in sqlite("backup", "list", "DB")[kind] if item["id"] == id_)

    sqlite("create", "DB")
    sqlite("query", "DB", "create table t(v)")
    sqlite("query", "DB", "insert into t values ('before')")
    backup = sqlite("backup", "create", "DB")["backup"]
    assert backup["id"].startswith("sqlite_backup_") and backup["kind"] == "manual"
    ready = until_done(lambda: listed("backups", backup["id"]))
    assert ready["status"] == "ready" and ready["sizeBytes"] % 4096 == 0 and len(ready["sha256"]) == 64
    sqlite("query", "DB", "update t set v = 'mistake'")

    restore = sqlite("backup", "restore", "DB", backup["id"])["restore"]
    assert until_done(lambda: listed("restores", restore["id"]))["status"] == "ready"
    assert sqlite("query", "DB", "select v from t")["rows"] == [["before"]]

    safety = until_done(lambda: listed("backups", restore["safetyBackupId"]))
    assert (safety["kind"], safety["status"]) == ("safety", "ready")
    undone = sqlite("restore", "DB", safety["id"])["restore"]
    assert until_done(lambda: listed("restores", undone["id"]))["status"] == "ready"
    assert sqlite("query", "DB", "select v from t")["rows"] == [["mistake"]]
    assert sqlite("delete", "DB")["sqliteDatabases"] == []


class Db:
    """A database of a tenant of its own."""

    def __init__(self, tovuk: Product, plan: str = "self_hosted") -> None:
        self.tenant = Tenant.made(tovuk.url, tovuk.token, plan=plan)
        self.base = f"/v1/services/{self.tenant.service}/sqlite"
        self.post("databases", {"name": "DB"})

    def post(self, path: str, body: Any = None) -> Any:
        answer = self.tenant.request("POST", f"{self.base}/{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def query(self, sql: str, params: Any = ()) -> Any:
        return self.post("DB/query", {"sql": sql, "params": params})

    def listed(self) -> Any:
        answer = self.tenant.request("GET", f"{self.base}/DB/backups")
        assert answer.is_success, answer.text
        return answer.json()

    def backed_up(self) -> Mapping[str, Any]:
        """A new backup, ready or failed."""
        made = self.post("DB/backups")["backup"]["id"]
        return until_done(lambda: next(item for item in self.listed()["backups"] if item["id"] == made))

    def restored(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """A restore, ready or failed."""
        begun = self.post("DB/restore", body)["restore"]["id"]
        return until_done(lambda: next(item for item in self.listed()["restores"] if item["id"] == begun))


@pytest.fixture
def db(tovuk: Product) -> Db:
    return Db(tovuk)


def test_rows_written_before_and_after_a_restore_are_metered_once(db: Db) -> None:
    db.query("create table t(v)")
    db.query("insert into t values (1), (2), (3)")
    backup = db.backed_up()
    db.query("insert into t values (4), (5)")
    assert db.restored({"backupId": backup["id"]})["status"] == "ready"
    db.query("insert into t values (6)")
    assert db.query("select count(*) from t")["rows"] == [[4]]
    db.tenant.wait_until_metered("sqlite_rows_written", 6)
    assert db.tenant.settled("sqlite_rows_written", for_s=1.0) == 6
    assert db.tenant.in_breakdown("sqlite_rows_written") == 6


def test_a_restore_changes_the_bytes_stored(db: Db) -> None:
    db.query("create table t(v)")
    backup = db.backed_up()
    grown = db.query("insert into t values (zeroblob(1000000))")["storageBytes"]
    assert grown > 1_000_000
    assert db.restored({"backupId": backup["id"]})["status"] == "ready"
    assert db.tenant.settled("sqlite_storage_bytes", for_s=1.0) == backup["sizeBytes"]


def test_a_backup_that_does_not_fit_the_cap_is_not_restored(db: Db) -> None:
    empty = db.backed_up()
    db.query("create table t(v)")
    db.query("insert into t values (zeroblob(500000))")
    full = db.backed_up()
    assert db.restored({"backupId": empty["id"]})["status"] == "ready"
    db.tenant.put_cap("sqlite_storage_bytes", 400_000)
    refused = db.restored({"backupId": full["id"]})
    assert (refused["status"], refused["reason"]) == ("failed", "usage_cap_reached")
    assert db.query("select count(*) from sqlite_master")["rows"] == [[0]]
    db.tenant.put_cap("sqlite_storage_bytes", 1_000_000)
    assert db.restored({"backupId": full["id"]})["status"] == "ready"
    assert db.query("select count(*) from t")["rows"] == [[1]]


def test_a_foreign_backup_is_not_found(tovuk: Product, db: Db) -> None:
    backup = db.backed_up()
    other = Db(tovuk)
    answer = other.tenant.request("POST", f"{other.base}/DB/backups/{backup['id']}/restore")
    assert answer.json()["code"] == "sqlite_backup_not_found"


def test_backups_go_with_their_database(db: Db) -> None:
    db.backed_up()
    assert db.tenant.request("DELETE", f"{db.base}/databases/DB").is_success
    assert db.tenant.request("GET", f"{db.base}/DB/backups").json()["code"] == "sqlite_database_not_found"
    db.post("databases", {"name": "DB"})
    assert (db.listed()["backups"], db.listed()["restores"]) == ([], [])


def test_a_database_is_put_back_to_any_moment(db: Db, pytestconfig: pytest.Config) -> None:
    db.query("create table clock(ms)")
    deadline = time.monotonic() + _DONE_WITHIN_S
    while db.listed()["restorableFrom"] is None:
        assert time.monotonic() < deadline
        time.sleep(_POLL_S)
    db.query("insert into clock values (0)")
    told = []
    for _ in range(100):
        now = time.time_ns() // 1_000_000
        db.query("update clock set ms = ?", [now])
        told.append((now, time.time_ns() // 1_000_000))
        time.sleep(_POLL_S / 2)
    chance = random.Random(5)
    for at_ms in [chance.randrange(told[0][1], told[-1][1]) for _ in range(_instants(pytestconfig))]:
        when: int | str = at_ms if at_ms % 2 else datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()
        assert db.restored({"timestamp": when})["status"] == "ready"
        shown = db.query("select ms from clock")["rows"][0][0]
        least = max((now for now, answered in told if answered <= at_ms - 50), default=0)
        assert least <= shown <= at_ms
    safety = db.listed()["restores"][-1]["safetyBackupId"]
    until_done(lambda: next(item for item in db.listed()["backups"] if item["id"] == safety))
    assert db.restored({"backupId": safety})["status"] == "ready"
    assert db.query("select ms from clock")["rows"] == [[told[-1][0]]]


def _instants(config: pytest.Config) -> int:
    return 50 if config.getoption("full") else 10


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"timestamp": "noon"},
        {"timestamp": "2026-01-01T00:00:00"},
        {"timestamp": -1},
        {"timestamp": True},
        {"backupId": ""},
        {"backupId": "a", "timestamp": 1},
    ],
)
def test_a_restore_names_one_backup_or_one_moment(db: Db, body: Any) -> None:
    answer = db.tenant.request("POST", f"{db.base}/DB/restore", json=body)
    assert answer.json()["code"] == "invalid_request"


@pytest.mark.parametrize("moment", ["2020-01-01T00:00:00Z", "2120-01-01T00:00:00+01:00"])
def test_a_moment_that_is_not_kept_or_not_over_is_refused(db: Db, moment: str) -> None:
    answer = db.tenant.request("POST", f"{db.base}/DB/restore", json={"timestamp": moment})
    assert answer.json()["code"] == "sqlite_moment_unavailable"


def test_the_product_keeps_backups_and_history_in_a_bucket(tmp_path: Path) -> None:
    (tmp_path / "s3").mkdir()
    server = S3Server(tmp_path / "s3")
    server.start()
    try:
        with Product.launched(tmp_path, TOVUK_SQLITE_ARCHIVE_URL=server.url) as product:
            db = Db(product)
            db.query("create table t(v)")
            backup = db.backed_up()
            assert backup["status"] == "ready", backup
            assert db.restored({"backupId": backup["id"]})["status"] == "ready"
            assert not (product.data / "sqlite" / "archive").exists()
    finally:
        server.kill()
