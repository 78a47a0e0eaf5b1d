"""The SQLite commands of the seeds, with the published client, and what a tenant may rely on, over HTTP."""

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import httpx
import pytest
from product import Product
from published_client import Client
from tenant import Tenant

CAP = 1_000


@pytest.mark.proves("RES-015", "RES-016", "RES-020", "RES-052", "RES-053")
@pytest.mark.parametrize("output", ["--json", "--output=text"])
def test_a_database_is_created_queried_and_deleted(client: Client, service: Mapping[str, Any], output: str) -> None:
    def sqlite(*words: str) -> Any:
        return client("sqlite", words[0], "--service", service["id"], *words[1:], output)

    created = sqlite("create", "DB").json
    assert [row["name"] for row in created["sqliteDatabases"]] == ["DB"]
    assert created["sqliteDatabases"][0]["id"].startswith("sqlite_")
    assert sqlite("query", "DB", "select 1").json["rows"] == [[1]]
    sqlite("query", "DB", "create table t(id integer primary key, v text)")
    sqlite("query", "DB", "insert into t(v) values (?)", "--params", '["Ada"]')
    batch = [{"sql": "insert into t(v) values (?)", "params": ["Bob"]}, {"sql": "select v from t order by id"}]
    answered = sqlite("batch", "DB", json.dumps(batch)).json
    assert answered["results"][1]["rows"] == [["Ada"], ["Bob"]]
    assert answered["totals"]["rowsWritten"] == 1
    error = client("sqlite", "query", "--service", service["id"], "DB", "selec 1", "--json").error
    assert error["code"] == "sqlite_syntax_error"
    assert sqlite("delete", "DB").json["sqliteDatabases"] == []


class Db:
    """A database of a tenant of its own."""

    def __init__(self, tovuk: Product, plan: str = "self_hosted") -> None:
        self.tenant = Tenant.made(tovuk.url, tovuk.token, plan=plan)
        self.base = f"/v1/services/{self.tenant.service}/sqlite"
        made = self.tenant.request("POST", f"{self.base}/databases", json={"name": "DB"})
        assert made.is_success, made.text

    def send(self, sql: str | list[Any], params: Any = (), **more: Any) -> httpx.Response:
        body = {"statements": sql} if isinstance(sql, list) else {"sql": sql, "params": params, **more}
        return self.tenant.request("POST", f"{self.base}/DB/query", json=body)

    def query(self, sql: str | list[Any], params: Any = (), **more: Any) -> Any:
        answer = self.send(sql, params, **more)
        assert answer.is_success, answer.text
        return answer.json()

    @cached_property
    def exact(self) -> bool:
        """Whether rows are counted exactly."""
        exact: bool = self.query("select 1")["rowsReadExact"]
        return exact


@pytest.fixture(scope="module", params=["the product's engine", "stock"])
def house(
    request: pytest.FixtureRequest, tovuk: Product, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Product]:
    """The product, and one beside it whose databases stock SQLite opens."""
    if request.param != "stock":
        yield tovuk
    else:
        with Product.launched(tmp_path_factory.mktemp("stock"), TOVUK_SQLITE_ENGINE="stock") as product:
            yield product


@pytest.fixture
def db(house: Product) -> Db:
    return Db(house)


@pytest.fixture
def exact(tovuk: Product) -> Db:
    """A database whose rows are counted exactly: CI must have it."""
    db = Db(tovuk)
    if not db.exact:
        missing = "the native engine is not built: make native"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return db


def test_a_batch_is_all_or_nothing(db: Db) -> None:
    db.query("create table t(a unique)")
    refused = db.send([{"sql": "insert into t values (1)"}, {"sql": "insert into t values (1)"}])
    assert refused.status_code == 409
    assert refused.json()["code"] == "sqlite_constraint_failed"
    assert db.query("select count(*) from t")["rows"] == [[0]]


def test_values_go_both_ways(db: Db) -> None:
    row = [None, 2**63 - 1, -(2**63), 1.5, {"real": "inf"}, {"real": "-inf"}, "é", {"base64": "AP8="}]
    marks = ",".join("?" * len(row))
    assert db.query(f"select {marks}", row)["rows"] == [row]
    assert db.query("select :a, :b", {"a": True, ":b": False})["rows"] == [[1, 0]]


@pytest.mark.parametrize("value", [2**63, {"base64": "?"}, {"real": "nan"}, {"x": 1}, [1]])
def test_what_is_no_value_of_sql_is_refused(db: Db, value: Any) -> None:
    assert db.send("select ?", [value]).json()["code"] == "sqlite_parameters_invalid"


def test_a_large_result_comes_page_by_page(db: Db) -> None:
    sql = "with recursive c(x) as (select 1 union all select x + 1 from c where x < 25000) select x from c"
    page = db.query(sql)
    rows = page["rows"]
    while page["cursor"]:
        assert len(page["rows"]) == 10_000
        page = db.query(sql, cursor=page["cursor"])
        rows += page["rows"]
    assert rows == [[x] for x in range(1, 25_001)]


def test_a_cursor_goes_on_after_a_write_or_says_that_it_expired(db: Db) -> None:
    db.query("create table t(a)")
    sql = "with recursive c(x) as (select 1 union all select x + 1 from c where x < 10001) select x from c"
    cursor = db.query(sql)["cursor"]
    db.query("insert into t values (1)")
    answer = db.send(sql, cursor=cursor).json()
    assert answer["rows"] == [[10_001]] if db.exact else answer["code"] == "sqlite_cursor_expired"
    assert db.send("select 1", cursor=cursor).json()["code"] == "sqlite_cursor_invalid"


@pytest.mark.parametrize(
    ("statements", "code"), [(0, "sqlite_batch_too_many"), (1_000, ""), (1_001, "sqlite_batch_too_many")]
)
def test_a_batch_has_one_to_a_thousand_statements(db: Db, statements: int, code: str) -> None:
    answer = db.send([{"sql": "select 1"}] * statements)
    assert answer.json().get("code", "") == code


@pytest.mark.parametrize(("size", "code"), [(100_000, ""), (100_001, "sqlite_statement_too_long")])
def test_a_statement_has_a_hundred_thousand_bytes(db: Db, size: int, code: str) -> None:
    sql = "select 1 -- "
    assert db.send(sql + "x" * (size - len(sql))).json().get("code", "") == code


def test_a_free_plan_binds_a_hundred_parameters(tovuk: Product) -> None:
    db = Db(tovuk, plan="free")
    for count, code in ((100, ""), (101, "sqlite_too_many_parameters")):
        assert db.send(f"select {','.join('?' * count)}", [1] * count).json().get("code", "") == code


def test_an_estimate_runs_and_counts_nothing(db: Db) -> None:
    db.query("create table t(a, b)")
    answer = db.tenant.request("POST", f"{db.base}/DB/query?estimate=true", json={"sql": "delete from t where a = 1"})
    assert answer.json()["scans"] is True
    assert answer.json()["scannedTables"] == ["t"]


def test_a_whole_scan_is_answered_with_advice(db: Db) -> None:
    db.query("create table t(a, b)")
    db.query("insert into t select value, value from json_each(?)", [json.dumps(list(range(500)))])
    answer = db.query("select * from t where b = 7")
    assert answer["fullscanSteps"] >= 400
    assert answer["nextActions"] == ["This statement scanned the whole table t; an index on (b) may avoid it."]


@pytest.mark.proves("CAP-045")
def test_32_writers_stop_at_exactly_the_cap(db: Db) -> None:
    db.query("create table t(a)")
    db.tenant.put_cap("sqlite_rows_written", CAP)
    codes: Counter[str] = Counter()
    lock = threading.Lock()

    def write() -> None:
        with httpx.Client(
            base_url=db.tenant.url, headers={"Authorization": f"Bearer {db.tenant.token}"}, verify=False
        ) as client:
            code = ""
            while code != "usage_cap_reached":
                answer = client.post(f"{db.base}/DB/query", json={"sql": "insert into t values (1)"}, timeout=60)
                code = answer.json().get("code", "done")
                with lock:
                    codes[code] += 1

    writers = [threading.Thread(target=write) for _ in range(32)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert codes["done"] == CAP, codes
    assert db.query("select count(*) from t")["rows"] == [[CAP]]
    db.tenant.wait_until_metered("sqlite_rows_written", CAP)


def test_a_statement_that_crosses_the_cap_leaves_nothing_behind(db: Db) -> None:
    db.query("create table t(a)")
    db.tenant.put_cap("sqlite_rows_written", 100)
    many = "insert into t select value from json_each(?)"
    assert db.send(many, [json.dumps(list(range(101)))]).json()["code"] == "usage_cap_reached"
    assert db.query("select count(*) from t")["rows"] == [[0]]
    assert db.query(many, [json.dumps(list(range(100)))])["rowsWritten"] == 100
    assert db.send("insert into t values (1)").json()["code"] == "usage_cap_reached"
    db.tenant.wait_until_metered("sqlite_rows_written", 100)


def test_rows_that_a_failed_statement_read_count_and_those_it_wrote_do_not(db: Db) -> None:
    db.query("create table t(a unique)")
    db.query("insert into t select value from json_each(?)", [json.dumps(list(range(50)))])
    db.tenant.wait_until_metered("sqlite_rows_written", 100 if db.exact else 50)
    before = db.tenant.settled("sqlite_rows_read", for_s=0.5)
    assert db.send("insert into t select a + 25 from t order by a desc").json()["code"] == "sqlite_constraint_failed"
    assert db.tenant.settled("sqlite_rows_read", for_s=0.5) > before
    assert db.tenant.settled("sqlite_rows_written", for_s=0.5) == (100 if db.exact else 50)


def test_a_batch_answers_with_whole_results_or_does_nothing(db: Db) -> None:
    db.query("create table t(a)")
    many = "with recursive c(x) as (select 1 union all select x + 1 from c where x < 10001) select x from c"
    refused = db.send([{"sql": "insert into t values (1)"}, {"sql": many}])
    assert refused.json()["code"] == "sqlite_result_too_large"
    assert db.query("select count(*) from t")["rows"] == [[0]]


def test_a_read_stops_inside_at_the_cap_on_rows_read(exact: Db) -> None:
    exact.query("create table t(a)")
    exact.query("insert into t select value from json_each(?)", [json.dumps(list(range(500)))])
    read = exact.tenant.settled("sqlite_rows_read", for_s=0.5)
    exact.tenant.put_cap("sqlite_rows_read", read + 1_000)
    assert exact.query("select count(*) from t")["rowsRead"] == 500
    refused = exact.send("select count(*) from t a, t b")
    assert (refused.status_code, refused.json()["code"]) == (429, "usage_cap_reached")
    assert exact.tenant.settled("sqlite_rows_read", for_s=0.5) == read + 1_000
    assert exact.send("select a from t limit 1").json()["code"] == "usage_cap_reached"


def test_a_write_that_reaches_the_cap_on_rows_read_is_undone(exact: Db) -> None:
    exact.query("create table t(a)")
    exact.query("insert into t select value from json_each(?)", [json.dumps(list(range(500)))])
    written = exact.tenant.settled("sqlite_rows_written", for_s=0.5)
    read = exact.tenant.settled("sqlite_rows_read", for_s=0.5)
    exact.tenant.put_cap("sqlite_rows_read", read + 499)
    assert exact.send("update t set a = -1").json()["code"] == "usage_cap_reached"
    assert exact.tenant.settled("sqlite_rows_written", for_s=0.5) == written
    exact.tenant.put_cap("sqlite_rows_read", read + 2_000)
    assert exact.query("select count(*) from t where a < 0")["rows"] == [[0]]


@pytest.mark.proves("CAP-046")
def test_bytes_stored_stop_at_the_cap_and_come_back(db: Db) -> None:
    db.query("create table t(a)")
    db.tenant.put_cap("sqlite_storage_bytes", 200_000)
    blob = "insert into t values (zeroblob(?))"
    assert db.query(blob, [100_000])["storageBytes"] <= 200_000
    assert db.send(blob, [100_000]).json()["code"] == "usage_cap_reached"
    assert db.query("select count(*) from t")["rows"] == [[1]]
    assert db.query(blob, [50_000])["storageBytes"] <= 200_000
    db.query("delete from t")
    assert db.query(blob, [150_000])["storageBytes"] <= 200_000
    assert db.tenant.request("DELETE", f"{db.base}/databases/DB").is_success
    assert db.tenant.settled("sqlite_storage_bytes", for_s=1.0) == 0


@pytest.mark.proves("CAP-044")
def test_a_cap_on_rows_read_is_refused_where_they_are_not_counted_exactly(db: Db) -> None:
    answer = db.tenant.request("PUT", "/v1/usage/caps/sqlite_rows_read", json={"period": "day", "capValue": 5})
    assert answer.is_success is db.exact
    if not db.exact:
        assert answer.json()["code"] == "rows_read_not_exact"


def test_a_foreign_database_is_not_found(house: Product, db: Db) -> None:
    other = Tenant.made(house.url, house.token)
    mine = db.tenant.request("GET", f"/v1/services/{db.tenant.service}/resources").json()["sqliteDatabases"][0]["id"]
    answer = other.request("POST", f"/v1/services/{other.service}/sqlite/{mine}/query", json={"sql": "select 1"})
    assert answer.json()["code"] == "sqlite_database_not_found"
