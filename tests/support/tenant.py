"""An account with a service and a KV namespace of its own, as its owner sees them over HTTP."""

import secrets
import time
from dataclasses import dataclass
from typing import Any, Self

import httpx

_SETTLED_WITHIN_S = 30.0
_POLL_S = 0.05


@dataclass(frozen=True)
class Tenant:
    """A fresh account on a plan without limits: its token, and the path of its one namespace."""

    url: str
    token: str
    service: str
    kv: str

    @classmethod
    def made(cls, url: str, operator_token: str, *, plan: str = "self_hosted") -> Self:
        """Made by the operator."""
        handle = f"t{secrets.token_hex(8)}"
        answer = _request_again(
            url, operator_token, "POST", "/v1/operator/accounts", json={"handle": handle, "plan": plan}
        )
        assert answer.is_success, answer.text
        return cls.of(url, answer.json()["token"])

    @classmethod
    def of(cls, url: str, token: str) -> Self:
        """A new service and namespace of the account that the token belongs to."""
        name = f"s{secrets.token_hex(8)}"
        made = _request_again(url, token, "POST", "/v1/services", json={"name": name, "kind": "rust_worker"})
        assert made.is_success, made.text
        service = made.json()["service"]["id"]
        kv = f"/v1/services/{service}/kv"
        namespace = _request_again(url, token, "POST", f"{kv}/namespaces", json={"name": "CACHE"})
        assert namespace.is_success, namespace.text
        return cls(url, token, service, f"{kv}/CACHE")

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One authenticated request."""
        return _request(self.url, self.token, method, path, **more)

    def usage(self) -> Any:
        """GET /v1/usage, again while a service that a test killed is on its way back."""
        answer = _request_again(self.url, self.token, "GET", "/v1/usage")
        assert answer.is_success, answer.text
        return answer.json()

    def metered(self, metric: str, period: str = "day") -> int:
        """Units of the current window."""
        units: int = self.usage()["usage"]["meters"][period][metric]
        return units

    def put_cap(self, metric: str, units: int, period: str = "day") -> None:
        """Returns when the cap is in force."""
        answer = self.request("PUT", f"/v1/usage/caps/{metric}", json={"period": period, "capValue": units})
        assert answer.is_success, answer.text

    def wait_until_metered(self, metric: str, units: int) -> None:
        """Returns when the ledger says so many units; fails when it says more, or never does."""
        deadline = time.monotonic() + _SETTLED_WITHIN_S
        while (found := self.metered(metric)) != units:
            assert found < units, f"{found} {metric} are metered, {units} were done"
            assert time.monotonic() < deadline, f"{found} of {units} {metric} are metered"
            time.sleep(_POLL_S)

    def settled(self, metric: str, for_s: float = 3.0) -> int:
        """The metered units once they stand still, nothing being reserved or delayed."""
        deadline = time.monotonic() + _SETTLED_WITHIN_S
        last, since = -1, time.monotonic()
        while True:
            usage = self.usage()
            found = usage["usage"]["meters"]["day"][metric]
            if found != last or usage["delayed"]:
                last, since = found, time.monotonic()
            if time.monotonic() - since > for_s:
                return int(last)
            assert time.monotonic() < deadline, f"{metric} does not settle: {found}"
            time.sleep(_POLL_S)

    def in_breakdown(self, metric: str) -> int:
        """Units of the month by resource, added up; every one of them belongs to this service."""
        lines = self.request("GET", "/v1/usage/breakdown").json()["breakdown"]
        mine = [line for line in lines if line["metric"] == metric]
        assert all(line["serviceId"] == self.service and line["resourceId"] for line in mine), mine
        return sum(line["month"] for line in mine)

    def keys(self) -> dict[str, int]:
        """Every key of the namespace with the bytes of its value."""
        found: dict[str, int] = {}
        cursor = ""
        while True:
            page = self.request("GET", f"{self.kv}/keys", params={"cursor": cursor} if cursor else {})
            assert page.is_success, page.text
            found |= {item["key"]: item["sizeBytes"] for item in page.json()["keys"]}
            cursor = page.json()["cursor"] or ""
            if not cursor:
                return found

    def put_many(self, keys: list[str], value: str = "v") -> None:
        """Write keys in bulk, repeated while it is surely not done: metering may not know a new account's plan yet."""
        deadline = time.monotonic() + _SETTLED_WITHIN_S
        for start in range(0, len(keys), 10_000):
            entries = [{"key": key, "value": value} for key in keys[start : start + 10_000]]
            while not (answer := self.request("PUT", f"{self.kv}/bulk", json={"entries": entries})).is_success:
                assert answer.json()["outcome"] == "not_done" and time.monotonic() < deadline, answer.text
                time.sleep(_POLL_S)


def _request(url: str, token: str, method: str, path: str, **more: Any) -> httpx.Response:
    # Loading certificates, which plain HTTP has no use for, takes longer than the request.
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60, verify=False) as client:
        return client.request(method, path, **more)


def _request_again(*arguments: Any, **more: Any) -> httpx.Response:
    """A request that is repeated while a service that an earlier test killed is on its way back."""
    for _ in range(30):
        answer = _request(*arguments, **more)
        if answer.status_code != 503:
            break
        time.sleep(1)
    return answer
