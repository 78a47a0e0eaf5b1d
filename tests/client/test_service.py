"""Services and the account, with the published client."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from product import Reached
from published_client import Client


@pytest.mark.proves("KV-016", "RES-014", "RES-075")
def test_show_is_one_snapshot_of_the_service(client: Client, kv: Client, service: Mapping[str, Any]) -> None:
    shown = client("service", "show", service["id"], "--json").json
    assert shown["status"]["service"]["id"] == service["id"]
    assert [row["name"] for row in shown["resources"]["kvNamespaces"]] == ["CACHE"]
    assert shown["status"]["service"]["capabilities"]["kv"] is True
    assert shown["accountUsage"]["meters"]["day"]["kv_reads"] >= 0
    assert shown["limits"]["projects"] > 0
    assert shown["billingEstimate"]["plan"] == "self_hosted"
    assert all(isinstance(shown[name], list) for name in ("deploys", "builds", "env", "domains"))
    assert shown["next_actions"] and all(isinstance(action, str) for action in shown["next_actions"])
    by_name = client("service", "show", service["name"], "--json").json
    assert by_name["status"]["service"]["id"] == service["id"]


@pytest.mark.proves("RES-076")
def test_list_and_show_print_compact_text(client: Client, kv: Client, service: Mapping[str, Any]) -> None:
    table = [line.split("\t") for line in client("service", "list").out.splitlines()]
    assert table[0] == ["name", "service", "kind", "status", "capabilities", "resources", "url"]
    row = next(row for row in table if row[0] == service["name"])
    assert row[1:3] == [service["id"], "rust_worker"]
    assert "enabled=" in row[4] and "kv=1" in row[5]
    shown = client("service", "show", service["id"])
    lines = shown.out.splitlines()
    assert lines[0] == f"service {service['name']}"
    assert any(line.startswith("resources ") and "kv=1" in line for line in lines)
    assert any(line.startswith("usage requests_day=0") for line in lines)
    assert any(line.startswith("next: ") for line in lines)


@pytest.mark.parametrize("output", ["--json", "--output=text"])
def test_status_of_a_service_without_a_deploy_is_not_live(
    client: Client, service: Mapping[str, Any], output: str
) -> None:
    run = client("service", "status", service["id"], output)
    assert run.status == 0, run.err
    assert ('"live": false' if output == "--json" else "live false") in run.out


@pytest.mark.parametrize("form", [("{id}",), ("--service", "{id}"), ("{name}",)])
def test_a_deleted_service_is_hidden_at_once_and_can_be_restored(
    client: Client, tovuk: Reached, form: tuple[str, ...]
) -> None:
    created = tovuk.create_service("short-lived")
    deleted = client("service", "delete", *(word.format(**created) for word in form), "--json").json
    assert deleted["deleted"] is True
    names = [row["name"] for row in client("service", "list", "--json").json["services"]]
    assert "short-lived" not in names
    assert client("service", "show", created["id"], "--json").error["code"] == "service_not_found"
    restored = tovuk.request("POST", f"/v1/services/{created['id']}/restore")
    assert restored.is_success, restored.text
    assert client("service", "show", created["id"], "--json").status == 0
    assert client("service", "delete", created["id"], "--json").status == 0


@pytest.mark.parametrize("output", ["--json", "--output=text"])
def test_the_account_is_shown_and_updated(client: Client, output: str) -> None:
    before = client("account", "show", output).json
    updated = client("account", "update", "--handle", "ada", "--display-name", "Ada L.", output)
    assert updated.status == 0, updated.err
    after = client("account", output).json["account"]
    assert (after["handle"], after["displayName"]) == ("ada", "Ada L.")
    assert after["id"] == before["account"]["id"]
    assert after["plan"] == "self_hosted"


@pytest.mark.parametrize("output", ["--json", "--output=text"])
def test_activity_shows_the_newest_first_in_pages(client: Client, tovuk: Reached, output: str) -> None:
    tovuk.create_service("activity-one")
    tovuk.create_service("activity-two")
    page = client("account", "activity", "--limit", "1", output).json
    assert len(page["activity"]) == 1 and page["has_more"] is True
    older = client("account", "activity", "--limit", "1", "--cursor", page["next_cursor"], output).json
    assert older["activity"][0]["id"] != page["activity"][0]["id"]
    for name in ("activity-one", "activity-two"):
        client("service", "delete", name, "--json")


@pytest.mark.parametrize(
    "words", [("usage",), ("service", "list"), ("account",), ("kv", "get", "--service", "s", "CACHE", "k")]
)
def test_a_wrong_token_is_refused_with_an_instruction(client: Client, words: tuple[str, ...]) -> None:
    refused = client(*words, "--json", token="tovuk_user_" + "0" * 38)
    assert refused.status == 1
    assert refused.error["code"] == "unauthenticated"
    assert refused.error["agent_instruction"]


@pytest.mark.parametrize(
    "words",
    [
        ("sqlite", "query", "DB", "select 1"),
        ("queue", "send", "jobs", "hello"),
        ("state", "objects", "Room"),
        ("cron", "disable", "nightly"),
        ("env", "list"),
        ("storage", "list"),
    ],
)
def test_parts_that_are_not_built_answer_in_the_error_envelope(
    client: Client, service: Mapping[str, Any], words: tuple[str, ...]
) -> None:
    refused = client(*words, "--service", service["id"], "--json")
    assert refused.error["code"] and refused.error["code"] != "api_error"


@pytest.mark.proves("RES-098", "RES-099", "RES-094", "RES-095")
def test_a_runtime_token_inspects_its_own_service_with_curl(
    client: Client, kv: Client, tovuk: Reached, service: Mapping[str, Any]
) -> None:
    created = tovuk.request("POST", "/v1/account/tokens", json={"scope": "runtime", "service": service["id"]})
    assert created.is_success, created.text
    token = max((text for text in _texts(created.json()) if text.startswith("tovuk_runtime_")), key=len)
    other = tovuk.create_service("not-yours")

    def curl(path: str, *options: str) -> subprocess.CompletedProcess[str]:
        words = ["curl", "-fsS", f"{tovuk.url}{path}", "-H", f"Authorization: Bearer {token}", *options]
        return subprocess.run(words, capture_output=True, text=True, timeout=30)

    shown = curl(f"/v1/services/{service['id']}/resources")
    assert shown.returncode == 0, shown.stderr
    assert [row["name"] for row in json.loads(shown.stdout)["kvNamespaces"]] == ["CACHE"]
    written = ("-X", "PUT", "-H", "Content-Type: application/json", "-d", '{"value": "by the worker"}')
    assert curl(f"/v1/services/{service['id']}/kv/CACHE/values/k", *written).returncode == 0
    assert kv("get", "CACHE", "k", "--json").json["value"] == "by the worker"
    for path in (f"/v1/services/{other['id']}/resources", "/v1/account", "/v1/account/tokens"):
        assert curl(path).returncode == 22, f"{path} was answered"
    assert client("service", "delete", other["id"], "--json").status == 0


def _texts(value: Any) -> Iterator[str]:
    """Every string within a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
