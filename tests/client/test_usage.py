"""Caps, usage and the catalogue, with the published client."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from published_client import Client

_CAPS = [
    pytest.param("kv_reads", "day", "100000", marks=pytest.mark.proves("KV-046")),
    pytest.param("kv_writes", "day", "1000", marks=pytest.mark.proves("KV-047")),
    pytest.param("kv_storage_bytes", "month", "1000000000", marks=pytest.mark.proves("KV-048")),
    pytest.param("kv_deletes", "day", "1000", marks=pytest.mark.proves("KV-019")),
    pytest.param("kv_lists", "day", "1000", marks=pytest.mark.proves("KV-019")),
    pytest.param("build_minutes", "month", "6000", marks=pytest.mark.proves("RES-044")),
    pytest.param("worker_requests", "day", "100000", marks=pytest.mark.proves("RES-045", "CAP-009", "CAP-031")),
    pytest.param("state_requests", "month", "1000000", marks=pytest.mark.proves("RES-046")),
    pytest.param("state_sqlite_rows_written", "month", "50000000", marks=pytest.mark.proves("RES-047")),
    pytest.param("worker_cpu_ms", "day", "1000000", marks=pytest.mark.proves("CAP-032")),
    pytest.param("object_storage_class_a_operations", "month", "1000000", marks=pytest.mark.proves("RES-115")),
    pytest.param("object_storage_class_b_operations", "month", "10000000", marks=pytest.mark.proves("RES-116")),
    pytest.param(
        "object_storage_egress_bytes",
        "month",
        "1000000000000",
        marks=pytest.mark.proves("RES-117", "CAP-010", "CAP-033"),
    ),
]

#: The seeds' list of public meters, each with the sentence that names it.
METERS = {
    "worker_requests": "CAP-040",
    "worker_cpu_ms": "CAP-041",
    "worker_transfer_bytes": "CAP-042",
    "static_transfer_bytes": "CAP-043",
    "sqlite_rows_read": "CAP-044",
    "sqlite_rows_written": "CAP-045",
    "sqlite_storage_bytes": "CAP-046",
    "kv_reads": "CAP-047",
    "kv_writes": "CAP-048",
    "kv_deletes": "CAP-049",
    "kv_lists": "CAP-050",
    "kv_storage_bytes": "CAP-051",
    "queue_operations": "CAP-052",
    "state_requests": "CAP-053",
    "state_duration_gb_milliseconds": "CAP-054",
    "state_sqlite_rows_read": "CAP-055",
    "state_sqlite_rows_written": "CAP-056",
    "state_sqlite_storage_bytes": "CAP-057",
    "object_storage_bytes": "CAP-058",
    "object_storage_class_a_operations": "CAP-059",
    "object_storage_class_b_operations": "CAP-060",
    "object_storage_egress_bytes": "CAP-061",
    "build_minutes": "CAP-062",
    "log_events": "CAP-063",
}

#: The capabilities that are products, as the dry run looks them up.
PRODUCTS = {
    "static_frontend",
    "worker",
    "sqlite",
    "object_storage",
    "kv",
    "state",
    "queue",
    "cron",
    "service_bindings",
    "secrets",
    "custom_domains",
    "logs",
    "builds",
    "usage_caps",
}

_TOML = """name = "dry-run"
kind = "static_frontend"

[capabilities]
static_frontend = true
worker = false
sqlite = false
object_storage = false
kv = true
state = false
queue = false
cron = false
service_bindings = false
secrets = false
custom_domains = false
logs = true
builds = true
usage_caps = true
billing = true
support = true
abuse = true

[build]
output = "."
"""


def _has(plan: Any, dotted: str) -> bool:
    for part in dotted.split("."):
        if part not in plan:
            return False
        plan = plan[part]
    return True


def _caps(usage: Any) -> dict[tuple[str, str], Any]:
    return {(cap["metric"], cap["period"]): cap for cap in usage["caps"]}


@pytest.mark.proves("CAP-036", "CAP-037")
@pytest.mark.parametrize(("metric", "period", "value"), _CAPS)
def test_a_cap_is_set_shown_and_deleted(client: Client, metric: str, period: str, value: str) -> None:
    window = (metric, "--period", period)
    put = client("limits", "set", *window, "--value", value, "--notify-at-percent", "80", "--json")
    assert put.status == 0, put.err
    cap = _caps(client("usage", "--json").json)[metric, period]
    assert (cap["capValue"], cap["notifyAtPercent"], cap["hardStop"]) == (int(value), 80, True)
    assert cap["used"] + cap["remaining"] + cap["reserved"] <= int(value)
    deleted = client("limits", "delete", *window, "--json")
    assert deleted.status == 0, deleted.err
    assert (metric, period) not in _caps(client("usage", "--json").json)


@pytest.mark.proves("CAP-022", "CAP-034", "RES-048")
def test_deleting_an_absent_cap_says_so(client: Client) -> None:
    assert client("limits", "delete", "worker_requests", "--period", "day", "--json").error["code"] == "cap_not_found"


@pytest.mark.proves("CAP-011", "CAP-012")
def test_the_warning_comes_at_80_percent_unless_told_otherwise(client: Client) -> None:
    for flags, percent in (((), 80), (("--notify-at-percent", "1"), 1), (("--notify-at-percent", "100"), 100)):
        client("limits", "set", "kv_reads", "--period", "month", "--value", "5000", *flags, "--json")
        assert _caps(client("usage", "--json").json)["kv_reads", "month"]["notifyAtPercent"] == percent
    client("limits", "delete", "kv_reads", "--period", "month", "--json")


@pytest.mark.proves("CAP-001")
def test_a_cap_stops_the_activity_at_its_value(client: Client, kv: Client) -> None:
    used = client("usage", "--json").json["usage"]["meters"]["day"]["kv_deletes"]
    client("limits", "set", "kv_deletes", "--period", "day", "--value", str(used + 2), "--json")
    try:
        assert [kv("delete", "CACHE", "k", "--json").status for _ in range(3)] == [0, 0, 1]
        error = kv("delete", "CACHE", "k", "--json").error
        assert error["code"] == "usage_cap_reached"
        assert error["agent_instruction"]
    finally:
        client("limits", "delete", "kv_deletes", "--period", "day", "--json")
    assert kv("delete", "CACHE", "k", "--json").status == 0


def test_a_cap_on_an_unknown_meter_or_period_is_refused(client: Client) -> None:
    unknown = client("limits", "set", "kv_wishes", "--period", "day", "--value", "1", "--json")
    assert unknown.error["code"] == "invalid_metric"
    week = client("limits", "set", "kv_reads", "--period", "week", "--value", "1", "--json")
    assert week.error["code"] == "invalid_period"


def _at_rest(client: Client) -> dict[str, int]:
    """The day's meters once what other tests did has arrived: they stand still for a second."""
    since, last = time.monotonic(), client("usage", "--json").json["usage"]["meters"]["day"]
    while time.monotonic() - since < 1.0:
        seen = client("usage", "--json").json["usage"]["meters"]["day"]
        if seen != last:
            since, last = time.monotonic(), seen
    return last


@pytest.mark.proves("KV-042", "KV-045", "CAP-014", "CAP-015", "CAP-030", "CAP-035", "RES-074")
def test_usage_counts_what_the_client_did(client: Client, kv: Client) -> None:
    before = _at_rest(client)
    kv("put", "CACHE", "a", "12345", "--json")
    kv("get", "CACHE", "a", "--json")
    kv("get", "CACHE", "absent", "--json")
    kv("keys", "CACHE", "--json")
    kv("bulk", "get", "CACHE", "a", "b", "c", "--json")
    kv("delete", "CACHE", "a", "--json")
    kv("put", "CACHE", "stays", "12345", "--json")

    def spent() -> tuple[dict[str, int], dict[str, Any]]:
        answer = client("usage", "--json").json
        after = answer["usage"]["meters"]["day"]
        counts = ("kv_reads", "kv_writes", "kv_deletes", "kv_lists")
        return {meter: after[meter] - before[meter] for meter in counts}, answer

    expected = {"kv_reads": 5, "kv_writes": 2, "kv_deletes": 1, "kv_lists": 1}
    for _ in range(100):  # usage is reported behind the answers; each look costs a process, so this is some seconds
        seen, answer = spent()
        stored = answer["usage"]["meters"]["month"]["kv_storage_bytes"]
        if seen == expected and stored >= len("stays12345"):
            break
    assert seen == expected
    assert stored >= len("stays12345")
    assert isinstance(answer["billingEstimate"]["lineItems"], list)
    assert answer["asOf"] and "delayed" in answer


@pytest.mark.proves("RES-070", "RES-071", "RES-072", "RES-073", "RES-056", "RES-065", "CAP-005", "CAP-007", "KV-001")
@pytest.mark.parametrize("command", ["pricing", "usage"])
@pytest.mark.parametrize("output", ["--json", "--output=text"])
def test_the_catalogue_names_every_product_with_its_meters_and_fields(
    client: Client, command: str, output: str
) -> None:
    answer = client(command, output).json
    products = {product["key"]: product for product in answer["products"]}
    assert set(products) == PRODUCTS
    for product in products.values():
        assert product["features"]
        assert {detail["name"] for detail in product["meter_details"]} == set(product["meters"])
        assert all(detail["unit"] and detail["description"] for detail in product["meter_details"])
    kv = products["kv"]
    assert set(kv["meters"]) == {"kv_reads", "kv_writes", "kv_deletes", "kv_lists", "kv_storage_bytes"}
    assert kv["limit_fields"] and kv["pricing_fields"]
    plans = {plan["key"]: plan for plan in answer["plans"]}
    assert set(plans) == {"free", "pro", "self_hosted"}
    for field in (*kv["limit_fields"], *kv["pricing_fields"]):
        assert all(_has(plan if "." in field else plan["limits"], field) for plan in plans.values()), field


@pytest.mark.parametrize(
    ("metric", "sentence"), [pytest.param(m, s, marks=pytest.mark.proves(s)) for m, s in METERS.items()]
)
def test_the_meter_has_a_unit_and_both_windows(client: Client, metric: str, sentence: str) -> None:
    answer = client("usage", "--json").json
    for period in ("day", "month"):
        assert isinstance(answer["usage"]["meters"][period][metric], int)
    details = {row["name"]: row for product in answer["products"] for row in product["meter_details"]}
    assert details[metric]["unit"]
    assert metric in {
        name for product in answer["products"] if product["key"] == "usage_caps" for name in product["meters"]
    }


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A static project that asks for KV."""
    (tmp_path / "tovuk.toml").write_text(_TOML)
    (tmp_path / "index.html").write_text("<!doctype html><title>dry run</title>")
    return tmp_path


@pytest.mark.proves("KV-006", "CAP-006", "CAP-007")
def test_a_dry_run_confirms_capabilities_meters_limits_and_fixes(client: Client, project: Path) -> None:
    report = client("deploy", str(project), "--dry-run", "--json").json
    assert report["ok"] is True, report
    service = report["services"][0]
    assert "kv" in service["capabilities"]["enabled"]
    plan = {row["meter"]: row for row in service["meterPlan"]}
    for meter in ("kv_reads", "kv_writes", "kv_deletes", "kv_lists", "kv_storage_bytes"):
        assert plan[meter]["unit"] and plan[meter]["limitFields"]
        assert plan[meter]["capCommands"]["day"].startswith(f"tovuk limits set {meter} --period day")
    assert service["requiredFixes"] == []
    assert report["limits"]["projects"] == 1_000_000
    assert report["billingEstimate"]["plan"] == "self_hosted"


def test_a_dry_run_in_text_shows_plan_and_usage(client: Client, project: Path) -> None:
    run = client("deploy", str(project), "--dry-run")
    assert run.status == 0, run.err
    lines = run.out.splitlines()
    assert lines[0] == "dry_run ok"
    assert any(line.startswith("billing plan=self_hosted estimated_monthly_total=$") for line in lines)
    assert any(line.startswith("usage requests_day=0 build_minutes_month=0") for line in lines)


def test_the_answers_are_strict_json_throughout(client: Client) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(client("usage", "--json").out, parse_constant=refuse)
