"""A database of a tenant of its own, asked over HTTP on one connection."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

import httpx
from tenant import Tenant

_BACK_WITHIN_S = 30.0
_POLL_S = 0.05

Params = Sequence[Any] | Mapping[str, Any]


class TenantDatabase:
    """The tenant, its database DB, and its queries."""

    def __init__(self, tenant: Tenant, name: str = "DB") -> None:
        self.tenant = tenant
        self.base = f"/v1/services/{tenant.service}/sqlite"
        self.name = name
        made = tenant.request("POST", f"{self.base}/databases", json={"name": name})
        assert made.is_success, made.text
        self.path = f"{self.base}/{name}/query"
        headers = {"Authorization": f"Bearer {tenant.token}"}
        # Loading certificates, which plain HTTP has no use for, takes longer than the requests.
        self._http = httpx.Client(base_url=tenant.url, headers=headers, timeout=60, verify=False)

    @classmethod
    def made(cls, url: str, operator_token: str, plan: str = "self_hosted") -> Self:
        """In an account, and a service, of its own."""
        return cls(Tenant.made(url, operator_token, plan=plan))

    def send(self, sql: str | Sequence[Any], params: Params = (), **more: Any) -> httpx.Response:
        """One statement, or a batch; whatever is answered."""
        body = {"sql": sql, "params": params, **more} if isinstance(sql, str) else {"statements": sql}
        return self._http.post(self.path, json=body)

    def query(self, sql: str | Sequence[Any], params: Params = (), **more: Any) -> Any:
        """The answer; fails when it is an error. Asked again while a service that a test killed is on its way back."""
        deadline = time.monotonic() + _BACK_WITHIN_S
        while (answer := self.send(sql, params, **more)).status_code == 503:
            assert answer.json()["outcome"] == "not_done" and time.monotonic() < deadline, answer.text
            time.sleep(_POLL_S)
        assert answer.is_success, answer.text
        return answer.json()

    def rows(self, sql: str, params: Params = ()) -> list[list[Any]]:
        """The rows of a statement, of all its pages."""
        page = self.query(sql, params)
        rows: list[list[Any]] = page["rows"]
        while page["cursor"]:
            page = self.query(sql, params, cursor=page["cursor"])
            rows += page["rows"]
        return rows

    def listed(self) -> Any:
        """Its backups, its restores, and since when it can be put back; asked again as `query` is."""
        deadline = time.monotonic() + _BACK_WITHIN_S
        while (answer := self._http.get(f"{self.base}/{self.name}/backups")).status_code == 503:
            assert time.monotonic() < deadline, answer.text
            time.sleep(_POLL_S)
        assert answer.is_success, answer.text
        return answer.json()

    def backed_up(self) -> Any:
        """A new backup, ready."""
        answer = self._http.post(f"{self.base}/{self.name}/backups")
        assert answer.is_success, answer.text
        return self._until_ready("backups", answer.json()["backup"]["id"])

    def put_back(self, **to: Any) -> Any:
        """A restore to a `backupId` or a `timestamp`, and the safety backup of what it replaced; both ready."""
        answer = self._http.post(f"{self.base}/{self.name}/restore", json=to)
        assert answer.is_success, answer.text
        restore = self._until_ready("restores", answer.json()["restore"]["id"])
        self._until_ready("backups", restore["safetyBackupId"])
        return restore

    def _until_ready(self, kind: str, wanted: str) -> Any:
        deadline = time.monotonic() + _BACK_WITHIN_S
        while True:
            found = next(one for one in self.listed()[kind] if one["id"] == wanted)
            assert found["status"] != "failed" and time.monotonic() < deadline, found
            if found["status"] == "ready":
                return found
            time.sleep(_POLL_S)

    def close(self) -> None:
        """End the connection."""
        self._http.close()
