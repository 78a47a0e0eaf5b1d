"""The KV commands of the seeds, with the published client, in JSON and in text."""

import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
from published_client import Client

ADA = '{"name":"Ada"}'


@pytest.mark.proves("KV-009", "KV-021", "RES-021", "KV-008", "KV-029", "RES-026", "RES-106")
@pytest.mark.parametrize("output", ["--json", "--output=text"])
def test_a_namespace_is_created_listed_and_deleted(client: Client, service: Mapping[str, Any], output: str) -> None:
    created = client("kv", "create", "--service", service["id"], "SESSIONS", output).json
    assert [row["name"] for row in created["kvNamespaces"]] == ["SESSIONS"]
    assert created["kvNamespaces"][0]["id"].startswith("kv_")
    listed = client("kv", "list", "--service", service["id"], output).json
    assert listed["kvNamespaces"] == created["kvNamespaces"]
    deleted = client("kv", "namespace", "delete", "--service", service["id"], "SESSIONS", output).json
    assert deleted["kvNamespaces"] == []
    assert deleted["sqliteDatabases"] == []


@pytest.mark.proves("KV-012", "KV-013", "KV-022", "KV-023", "RES-022", "RES-024")
@pytest.mark.parametrize("output", ["--json", "--output=text"])
def test_a_value_comes_back_with_its_metadata(kv: Client, output: str) -> None:
    put = kv("put", "CACHE", "user:1", ADA, "--metadata", '{"kind":"profile"}', "--ttl", "3600", output).json
    assert put["key"] == "user:1"
    got = kv("get", "CACHE", "user:1", output).json
    assert json.loads(got["value"]) == {"name": "Ada"}
    assert got["metadata"] == {"kind": "profile"}
    assert got["encoding"] == "text"


@pytest.mark.proves("KV-014", "KV-024", "RES-025")
@pytest.mark.parametrize("output", ["--json", "--output=text"])
def test_keys_are_listed_in_byte_order(kv: Client, output: str) -> None:
    for key in ("user:2", "user:1", "é", "Z"):
        kv("put", "CACHE", key, "1", "--json")
    keys = kv("keys", "CACHE", output).json["keys"]
    assert [row["key"] for row in keys] == ["Z", "user:1", "user:2", "é"]


@pytest.mark.proves("KV-025")
@pytest.mark.parametrize("output", ["--json", "--output=text"])
def test_a_deleted_key_is_absent(kv: Client, output: str) -> None:
    kv("put", "CACHE", "user:1", ADA, "--json")
    assert kv("delete", "CACHE", "user:1", output).json == {"key": "user:1", "deleted": True}
    error = kv("get", "CACHE", "user:1", "--json").error
    assert error["code"] == "kv_key_not_found"
    assert error["agent_instruction"]
    again = kv("delete", "CACHE", "user:1", output).json
    assert again == {"key": "user:1", "deleted": False}


@pytest.mark.proves("RES-023")
def test_a_put_with_a_past_expiration_is_accepted_and_absent_at_once(kv: Client) -> None:
    assert kv("put", "CACHE", "session:1", '{"ok":true}', "--expiration", "1780272000", "--json").status == 0
    assert kv("get", "CACHE", "session:1", "--json").error["code"] == "kv_key_not_found"
    future = str(int(time.time()) + 3600)
    assert kv("put", "CACHE", "session:1", '{"ok":true}', "--expiration", future, "--json").status == 0
    assert kv("get", "CACHE", "session:1", "--json").json["value"] == '{"ok":true}'


@pytest.mark.proves("KV-026", "KV-027", "KV-028", "KV-043", "RES-011")
@pytest.mark.parametrize("output", ["--json", "--output=text"])
def test_bulk_put_get_and_delete(kv: Client, output: str) -> None:
    put = kv("bulk", "put", "CACHE", '[{"key":"feature:search","value":"enabled"}]', output)
    assert put.status == 0, put.err
    kv("put", "CACHE", "user:1", ADA, "--json")
    got = kv("bulk", "get", "CACHE", "user:1", "absent", "feature:search", output).json
    assert [row and (row["key"], row["value"]) for row in got["entries"]] == [
        ("user:1", ADA),
        None,
        ("feature:search", "enabled"),
    ]
    assert kv("bulk", "delete", "CACHE", "feature:search", "user:1", output).status == 0
    assert kv("keys", "CACHE", "--json").json["keys"] == []


def test_a_bulk_put_of_a_map_stores_each_of_its_entries(kv: Client) -> None:
    assert kv("bulk", "put", "CACHE", '{"a":"1","b":{"deep":true}}', "--json").status == 0
    assert kv("get", "CACHE", "b", "--json").json["value"] == '{"deep":true}'


@pytest.mark.proves("RES-107")
@pytest.mark.parametrize("key", ["a/b/c", "with space", "100%", "ключ", "a//b", "?q=1&x#y", "k" * 512])
def test_any_key_the_client_can_send_is_kept_as_it_is(kv: Client, key: str) -> None:
    assert kv("put", "CACHE", key, "value", "--json").json["key"] == key
    assert kv("get", "CACHE", key, "--json").json["value"] == "value"
    assert [row["key"] for row in kv("keys", "CACHE", "--json").json["keys"]] == [key]
    assert kv("delete", "CACHE", key, "--json").json == {"key": key, "deleted": True}


@pytest.mark.proves("KV-039", "KV-050", "KV-053")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("put", "CACHE", "k" * 513, "v"), "kv_key_too_large"),
        (("put", "CACHE", "k", "v", "--ttl", "29"), "kv_ttl_too_short"),
        (("get", "NOSUCH", "k"), "kv_namespace_not_found"),
    ],
)
def test_a_refusal_names_the_next_step(kv: Client, words: tuple[str, ...], code: str) -> None:
    refused = kv(*words, "--json")
    assert refused.status == 1
    assert refused.error["code"] == code
    assert refused.error["message"] and refused.error["agent_instruction"]
    assert refused.error["docs_url"].endswith(f"/docs/errors/{code}")
    in_text = kv(*words)
    assert in_text.status == 1
    assert in_text.err.splitlines()[1].startswith("agent_instruction: ")


def test_a_foreign_or_absent_service_is_not_found(client: Client) -> None:
    refused = client("kv", "get", "--service", "service_00000000000000000000", "CACHE", "k", "--json")
    assert refused.error["code"] == "service_not_found"
