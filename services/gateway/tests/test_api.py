"""Every route, with every kind of token, for own, foreign and absent services; and whatever else people send."""

import asyncio
import base64
import gzip
import json
import random
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from tovuk_gateway.routes import models
from tovuk_kit.errors import catalogue
from tovuk_kit.meters import METER_NAMES

ENVELOPE = {"code", "message", "agent_instruction", "docs_url", "retryable", "outcome", "request_id"}

#: Bodies with which a route would do its work.
BODIES: dict[str, Any] = {
    "createService": {"name": "another"},
    "createKvNamespace": {"name": "OTHER"},
    "createSqliteDatabase": {"name": "DB"},
    "querySqliteDatabase": {"sql": "select 1"},
    "restoreSqliteDatabase": {"backupId": "sqlite_backup_00000000000000000000"},
    "putKvValue": {"value": "x"},
    "putKvBulk": {"entries": [{"key": "a", "value": "b"}]},
    "getKvBulk": {"keys": ["a"]},
    "deleteKvBulk": {"keys": ["a"]},
    "putUsageCap": {"period": "day", "capValue": 10},
    "updateAccount": {"handle": "somebody-else"},
    "createToken": {"scope": "read"},
    "createOperatorAccount": {"handle": "new-account"},
    "updateOperatorAccount": {"plan": "pro"},
}
#: What each scope reaches; the rest is forbidden to it.
RUNTIME = {
    "getServiceResources",
    "getKvValue",
    "putKvValue",
    "deleteKvValue",
    "listKvKeys",
    "putKvBulk",
    "getKvBulk",
    "deleteKvBulk",
    "querySqliteDatabase",
}


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, str, bool]]:
    """Every route: its id, method, path, and whether it takes a token."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield operation["operationId"], method.upper(), path, bool(operation.get("security"))


def _fill(path: str, service: str) -> str:
    values = {
        "service": service,
        "namespace": "CACHE",
        "database": "DB",
        "backup": "sqlite_backup_00000000000000000000",
        "key": "k",
        "metric": "kv_reads",
        "period": "day",
        "token": "token_00000000000000000000",
        "account": "account_00000000000000000000",
        "code": "not_found",
        "plan": "pro",
    }
    return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], path)


def _check_envelope(answer: httpx.Response) -> dict[str, Any]:
    content = answer.json()
    assert set(content) >= ENVELOPE, content
    entry = catalogue()[content["code"]]
    assert answer.status_code == entry.family.http
    assert content["agent_instruction"] == entry.agent_instruction
    assert content["request_id"] == answer.headers["x-request-id"]
    assert entry.family.http != 405 or answer.headers["allow"]
    return dict(content)


@pytest.fixture
async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    return dict((await client.get("/openapi.json")).json())


async def test_the_openapi_file_describes_every_route(document: dict[str, Any]) -> None:
    operations = list(_operations(document))
    assert len({name for name, *_ in operations}) == len(operations) >= 35
    schemas = document["components"]["schemas"]
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["summary"] and operation["description"] and operation["tags"], path
            assert {"200", "400", "404", "500"} <= set(operation["responses"]), (method, path)
            if operation.get("security"):
                assert {"401", "403"} <= set(operation["responses"])
            if method in {"put", "post"} and not path.endswith(("}/restore", "/backups")):
                assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert references <= set(schemas)
    assert document["components"]["securitySchemes"]


@pytest.mark.proves("RES-094", "RES-095")
async def test_every_route_with_every_kind_of_token_for_own_foreign_and_absent_services(
    served: Any, owner: Any, client: httpx.AsyncClient, document: dict[str, Any], conftest: Any
) -> None:
    stranger = await conftest.new_owner(served)
    tokens: dict[str, str | None] = {"none": None, "garbage": "tovuk_user_garbage", "unknown": "u" * 40}
    for scope in ("read", "runtime"):
        body = {"scope": scope, **({"service": owner.service_id} if scope == "runtime" else {})}
        tokens[scope] = (await client.post("/v1/account/tokens", json=body)).json()["secret"]
    revoked = (await client.post("/v1/account/tokens", json={"scope": "user"})).json()
    assert (await client.delete(f"/v1/account/tokens/{revoked['token']['id']}")).json()["revoked"] is True
    tokens["revoked"] = revoked["secret"]
    for operation, method, path, secured in _operations(document):
        if not secured:
            continue
        for kind, token in tokens.items():
            async with served.client(token) as caller:
                answers = [
                    await caller.request(method, _fill(path, service), json=BODIES.get(operation))
                    for service in (stranger.service_id, "service_00000000000000000000", "absent", owner.service_id)
                ]
            codes = [answer.json().get("code") for answer in answers]
            if kind in {"none", "garbage", "unknown", "revoked"}:
                assert codes == ["unauthenticated"] * 4, (operation, kind, codes)
            elif (
                (kind == "runtime" and operation not in RUNTIME)
                or "/operator/" in path
                or (kind == "read" and method != "GET")
            ):
                assert codes == ["forbidden_scope"] * 4, (operation, kind, codes)
            elif "{service}" in path:
                assert codes[:3] == ["service_not_found"] * 3, (operation, kind, codes)
                assert codes[3] in {None, "kv_key_not_found", "sqlite_database_not_found"}, (operation, kind, codes)
            for answer in answers:
                if answer.status_code >= 400:
                    _check_envelope(answer)
    # The stranger's service is untouched by all of it, and its owner's own token sees it.
    async with served.client(stranger.token) as other:
        assert (await other.get(f"/v1/services/{stranger.service_id}/resources")).status_code == 200


async def test_foreign_and_absent_services_have_one_answer(
    served: Any, owner: Any, client: httpx.AsyncClient, conftest: Any
) -> None:
    stranger = await conftest.new_owner(served)
    bodies = []
    for service in (stranger.service_id, "service_00000000000000000000", "nobody"):
        answer = await client.get(f"/v1/services/{service}/kv/CACHE/values/k")
        bodies.append({**_check_envelope(answer), "request_id": ""})
    assert bodies[0] == bodies[1] == bodies[2]


async def test_an_operator_makes_accounts_and_moves_plans(served: Any, owner: Any, conftest: Any) -> None:
    async with served.client(conftest.OPERATOR) as operator:
        shown = await operator.get(f"/v1/operator/accounts/{owner.account_id}")
        models.AccountAnswer.model_validate(shown.json(), strict=True)
        moved = await operator.put(f"/v1/operator/accounts/{owner.account_id}", json={"plan": "pro"})
        assert moved.json()["account"]["plan"] == "pro"
        page = (await operator.get("/v1/operator/accounts?limit=1")).json()
        models.OperatorAccountList.model_validate(page, strict=True)
        assert len(page["accounts"]) == 1
        answer = await operator.put(f"/v1/operator/accounts/{owner.account_id}", json={"plan": "gold"})
        assert _check_envelope(answer)["code"] == "invalid_plan"


@pytest.mark.proves("KV-016", "KV-030", "KV-038", "RES-021", "RES-026", "RES-074", "RES-075", "RES-106", "CAP-035")
async def test_the_answers_have_the_shapes_of_the_contract(owner: Any, client: httpx.AsyncClient) -> None:
    service = f"/v1/services/{owner.service_id}"

    async def get(path: str, model: type[BaseModel], method: str = "GET", **body: Any) -> Any:
        answer = await client.request(method, path, json=body or None)
        assert answer.status_code == 200, answer.text
        model.model_validate(answer.json(), strict=True)
        return answer.json()

    row = (await get("/v1/services", models.ServiceList))["services"][0]
    assert (row["name"], row["serviceId"], row["kind"]) == ("shop", owner.service_id, "rust_worker")
    assert len(row["capabilities"]) == 17 and row["resources"]["kvNamespaces"] == 1
    overview = await get(f"{service}/overview", models.Overview)
    assert [item["name"] for item in overview["resources"]["kvNamespaces"]] == ["CACHE"]
    assert overview["env"] == overview["domains"] == overview["deploys"] == overview["builds"] == []
    assert overview["status"]["latest_deploy"] is None
    assert set(overview["accountUsage"]["meters"]["day"]) == set(METER_NAMES)
    created = await get(f"{service}/kv/namespaces", models.NamespaceCreated, "POST", name="SESSIONS")
    assert [item["name"] for item in created["kvNamespaces"]] == ["CACHE", "SESSIONS"]
    assert created["created"]["name"] == "SESSIONS" and created["agent_instruction"]
    removed = await get(f"{service}/kv/namespaces/SESSIONS", models.Resources, "DELETE")
    assert [item["name"] for item in removed["kvNamespaces"]] == ["CACHE"]
    assert removed["sqliteDatabases"] == removed["queues"] == []
    await get("/v1/account", models.AccountAnswer)
    await get("/v1/account/activity", models.ActivityPage)
    await get("/v1/account/tokens", models.TokenList)
    await get("/v1/usage/breakdown", models.Breakdown)
    await get("/v1/status", models.Status)
    await get("/healthz", models.Alive)
    by_name = await client.get("/v1/services/shop/resources")
    assert by_name.json()["kvNamespaces"] == removed["kvNamespaces"]


@pytest.mark.proves("CAP-036", "CAP-037", "CAP-015", "RES-072", "CAP-011")
async def test_caps_are_set_shown_and_removed(client: httpx.AsyncClient) -> None:
    body = {"period": "day", "capValue": 1000, "hardStop": True, "notifyAtPercent": 50}
    put = await client.put("/v1/usage/caps/kv_reads", json=body)
    models.CapAnswer.model_validate(put.json(), strict=True)
    usage = (await client.get("/v1/usage")).json()
    models.Usage.model_validate(usage, strict=True)
    cap = next(cap for cap in usage["caps"] if cap["metric"] == "kv_reads")
    assert {name: cap[name] for name in body} == body
    assert len(usage["products"]) == 14 and usage["plans"] and usage["billingEstimate"]["lineItems"] is not None
    assert usage["limits"]["projects"] == 1_000_000 and usage["usage"]["serviceCount"] == 1
    gone = await client.delete("/v1/usage/caps/kv_reads/day")
    models.CapDeleted.model_validate(gone.json(), strict=True)
    assert _check_envelope(await client.delete("/v1/usage/caps/kv_reads/day"))["code"] == "cap_not_found"


@pytest.mark.parametrize(
    ("metric", "body", "code"),
    [
        ("nonsense", {"period": "day", "capValue": 1}, "invalid_metric"),
        ("kv_reads", {"capValue": 1}, "invalid_period"),
        ("kv_reads", {"period": "week", "capValue": 1}, "invalid_period"),
        ("kv_reads", {"period": ["day"], "capValue": 1}, "invalid_period"),
        ("kv_reads", {"period": "day"}, "invalid_cap_value"),
        ("kv_reads", {"period": "day", "capValue": -1}, "invalid_cap_value"),
        ("kv_reads", {"period": "day", "capValue": 1.0}, "invalid_cap_value"),
        ("kv_reads", {"period": "day", "capValue": True}, "invalid_cap_value"),
        ("kv_reads", {"period": "day", "capValue": 2**53}, "invalid_cap_value"),
        ("kv_reads", {"period": "day", "capValue": 1, "notifyAtPercent": 0}, "invalid_notify_threshold"),
        ("kv_reads", {"period": "day", "capValue": 1, "notifyAtPercent": 101}, "invalid_notify_threshold"),
        ("kv_reads", {"period": "day", "capValue": 1, "hardStop": "yes"}, "invalid_request"),
        ("kv_reads", [], "invalid_request"),
    ],
)
async def test_a_cap_of_the_wrong_shape_has_its_own_error(
    metric: str, body: Any, code: str, client: httpx.AsyncClient
) -> None:
    assert _check_envelope(await client.put(f"/v1/usage/caps/{metric}", json=body))["code"] == code


@pytest.mark.proves("CAP-004", "CAP-007", "RES-069")
async def test_the_catalogue_needs_no_token(served: Any, client: httpx.AsyncClient) -> None:
    async with served.client() as anybody:
        answer = (await anybody.get("/v1/capabilities")).json()
    models.Catalogue.model_validate(answer, strict=True)
    keys = "static_frontend worker sqlite object_storage kv state queue cron service_bindings secrets custom_domains"
    assert {product["key"] for product in answer["products"]} == {*keys.split(), "logs", "builds", "usage_caps"}


async def test_a_service_is_deleted_also_with_a_trailing_slash_and_comes_back(client: httpx.AsyncClient) -> None:
    assert _check_envelope(await client.delete("/v1/services/shop/env/"))["code"] == "not_found"
    deleted = await client.delete("/v1/services/shop/")
    models.ServiceDeleted.model_validate(deleted.json(), strict=True)
    service_id = deleted.json()["service"]["id"]
    assert (await client.get("/v1/services")).json()["services"] == []
    assert (await client.get("/v1/services?deleted=true")).json()["services"][0]["serviceId"] == service_id
    gone = await client.get(f"/v1/services/{service_id}/kv/CACHE/values/k")
    assert _check_envelope(gone)["code"] == "service_not_found"
    restored = await client.post(f"/v1/services/{service_id}/restore")
    models.ServiceAnswer.model_validate(restored.json(), strict=True)
    assert (await client.get("/v1/services/shop/resources")).status_code == 200


@pytest.mark.proves("KV-006")
async def test_a_service_without_the_capability_has_no_kv(client: httpx.AsyncClient) -> None:
    made = await client.post("/v1/services", json={"name": "bare", "capabilities": {"kv": False}})
    assert made.status_code == 200, made.text
    for method, path, body in (
        ("POST", "/v1/services/bare/kv/namespaces", {"name": "CACHE"}),
        ("GET", "/v1/services/bare/kv/CACHE/values/k", None),
        ("PUT", "/v1/services/bare/kv/CACHE/values/k", {"value": "x"}),
        ("GET", "/v1/services/bare/kv/CACHE/keys", None),
        ("POST", "/v1/services/bare/kv/CACHE/bulk", {"keys": ["k"]}),
    ):
        answer = await client.request(method, path, json=body)
        assert _check_envelope(answer)["code"] == "capability_disabled"


@pytest.mark.proves("KV-035", "KV-036", "KV-037", "KV-055", "RES-109", "KV-026", "KV-027", "KV-028")
async def test_bulk_requests(owner: Any, client: httpx.AsyncClient) -> None:
    bulk = owner.values.replace("/values", "/bulk")
    blob = bytes(range(256)) * 2000
    entries = [
        {"key": "feature:search", "value": "enabled"},
        {"key": "blob", "value": base64.b64encode(blob).decode(), "encoding": "base64", "metadata": {"a": 1}},
    ]
    body = gzip.compress(json.dumps({"entries": entries}).encode())
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    assert (await client.put(bulk, content=body, headers=headers)).json() == {"written": 2}
    read = (await client.post(bulk, json={"keys": ["blob", "absent", "feature:search", "blob"]})).json()
    models.BulkRead.model_validate(read, strict=True)
    assert [entry and entry["key"] for entry in read["entries"]] == ["blob", None, "feature:search", "blob"]
    assert base64.b64decode(read["entries"][0]["value"]) == blob and read["entries"][0]["metadata"] == {"a": 1}
    gone = (await client.post(f"{bulk}/removals", json={"keys": ["blob", "absent"]})).json()
    assert gone == {"deleted": 1, "requested": 2}
    for method, path, content, code in (
        ("POST", bulk, {"keys": [f"k{n}" for n in range(101)]}, "kv_bulk_too_many"),
        ("POST", f"{bulk}/removals", {"keys": [f"k{n}" for n in range(10_001)]}, "kv_bulk_too_many"),
        ("PUT", bulk, {"entries": [{"key": f"k{n}", "value": ""} for n in range(10_001)]}, "kv_bulk_too_many"),
        ("PUT", bulk, {"entries": [entries[0], {"key": "x"}]}, "kv_bulk_invalid"),
        ("PUT", bulk, {"entries": [7]}, "kv_bulk_invalid"),
        ("PUT", bulk, {"entries": {}}, "invalid_request"),
        ("PUT", bulk, [], "invalid_request"),
        ("POST", bulk, {"keys": [""]}, "kv_bulk_invalid"),
        ("POST", bulk, {"keys": [".."]}, "kv_bulk_invalid"),
        ("POST", bulk, {"keys": [1]}, "kv_bulk_invalid"),
        ("POST", bulk, {}, "invalid_request"),
    ):
        assert _check_envelope(await client.request(method, path, json=content))["code"] == code, content
    assert (await client.post(bulk, json={"keys": [f"k{n}" for n in range(100)]})).status_code == 200
    late = [*({"key": f"late{n}", "value": "v" * 2000} for n in range(999)), {"key": "x", "value": 7}]
    refused = _check_envelope(await client.put(bulk, json={"entries": late}))
    assert refused["code"] == "kv_bulk_invalid" and "999" in refused["message"]
    assert (await client.post(bulk, json={"keys": ["late0"]})).json() == {"entries": [None]}
    large = [{"key": f"large{n}", "value": str(n) * 50_000} for n in range(10)]
    assert (await client.put(bulk, json={"entries": large})).json() == {"written": 10}
    read = (await client.post(bulk, json={"keys": [entry["key"] for entry in large]})).json()["entries"]
    assert [entry["value"] for entry in read] == [entry["value"] for entry in large]


@pytest.mark.proves("KV-014", "KV-054", "RES-025")
async def test_keys_are_listed_in_pages(owner: Any, client: httpx.AsyncClient) -> None:
    bulk, keys = owner.values.replace("/values", "/bulk"), owner.values.replace("/values", "/keys")
    names = sorted(f"user:{n}" for n in range(25))
    await client.put(bulk, json={"entries": [{"key": name, "value": "1"} for name in [*names, "other"]]})
    found: list[str] = []
    cursor = ""
    while True:
        page = (await client.get(keys, params={"prefix": "user:", "limit": 10, "cursor": cursor})).json()
        models.KeyPage.model_validate(page, strict=True)
        found += [item["key"] for item in page["keys"]]
        cursor = page["cursor"]
        if not page["hasMore"]:
            break
    assert found == names and cursor is None
    for limit in ("9", "1001", "x", "-10", "10.0", "1_0", " 10"):
        assert _check_envelope(await client.get(keys, params={"limit": limit}))["code"] == "invalid_limit"


async def test_the_largest_value_passes_and_one_byte_more_does_not(owner: Any, client: httpx.AsyncClient) -> None:
    size = 25 * 1024 * 1024
    value = random.Random(1).randbytes(size)
    url = f"{owner.values}/large"
    put = await client.put(url, json={"value": base64.b64encode(value).decode(), "encoding": "base64"})
    assert put.json().get("sizeBytes") == size, put.text[:300]
    got = (await client.get(url)).json()
    assert base64.b64decode(got["value"]) == value
    more = {"value": "x" * (size + 1)}
    assert _check_envelope(await client.put(url, json=more))["code"] == "kv_value_too_large"
    more = {"value": base64.b64encode(value + b"x").decode(), "encoding": "base64"}
    assert _check_envelope(await client.put(url, json=more))["code"] == "kv_value_too_large"


async def test_unknown_routes_and_methods_have_the_envelope(served: Any, client: httpx.AsyncClient) -> None:
    for path in ("/", "/nope", "/v1", "/docs", "/redoc", "/v1/services/x/queues", "/v1/me", "/docs/errors/x"):
        assert _check_envelope(await client.get(path))["code"] == "not_found"
    answer = await client.patch("/v1/services")
    _check_envelope(answer)
    assert answer.headers["allow"] == "GET, POST"
    large = await client.post("/v1/services", content=b"x" * 70_000)
    assert _check_envelope(large)["code"] == "body_too_large"


async def test_error_pages_say_what_the_catalogue_says(served: Any, client: httpx.AsyncClient) -> None:
    listed = (await client.get("/docs/errors")).text
    for code in catalogue():
        assert f'href="/docs/errors/{code}"' in listed
        page = await client.get(f"/docs/errors/{code}")
        assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    plan = (await client.get("/plans/pro")).text
    assert "ops &amp; &lt;friends&gt;" in plan
    assert _check_envelope(await client.get("/plans/%3Cscript%3E"))["code"] == "not_found"


async def test_a_fault_of_ours_is_an_envelope_without_its_cause(
    served: Any, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("the secret cause")

    monkeypatch.setattr(type(served.gateway.chain), "admit", broken)
    answer = await client.get("/v1/account")
    assert _check_envelope(answer)["code"] == "internal_error"
    assert "secret" not in answer.text


async def test_whatever_is_sent_the_answer_is_an_envelope_with_a_known_code(
    owner: Any, client: httpx.AsyncClient, document: dict[str, Any]
) -> None:
    chance = random.Random(7)
    pieces = [
        b"{",
        b"}",
        b"[",
        b"]",
        b'"value"',
        b":",
        b",",
        b"1e999",
        b"NaN",
        b'"\\ud800"',
        b"\xff",
        b'"keys"',
        b"null",
    ]
    operations = [
        (operation, method, path)
        for operation, method, path, secured in _operations(document)
        if secured and operation not in {"deleteService", "revokeToken", "updateAccount"}
    ]
    for _ in range(400):
        operation, method, path = chance.choice(operations)
        filled = _fill(path, chance.choice([owner.service_id, "shop", "%00", "%2F", "ü", "a" * 300]))
        body = b"".join(chance.choices(pieces, k=chance.randrange(8)))
        if chance.random() < 0.3 and operation in BODIES:
            body = json.dumps({name: chance.choice([None, 1, [], {}, "x"]) for name in BODIES[operation]}).encode()
        params = {name: chance.choice(["", "x", "-1", "😀"]) for name in ("limit", "cursor", "deleted")}
        answer = await client.request(method, filled, content=body, params=params)
        assert answer.status_code != 500, (method, filled, body, answer.text)
        if answer.status_code >= 400:
            _check_envelope(answer)


async def test_a_peer_that_leaves_in_the_middle_harms_nobody(
    served: Any, owner: Any, client: httpx.AsyncClient
) -> None:
    head = (
        f"PUT {owner.values}/left HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {owner.token}\r\n"
        f'Content-Length: 900000\r\n\r\n{{"value":"abc'
    )
    for _ in range(20):
        _, writer = await asyncio.open_connection(*served.address)
        writer.write(head.encode())
        await writer.drain()
        writer.close()
    assert (await client.get(f"{owner.values}/left")).status_code == 404
