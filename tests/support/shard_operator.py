"""The operator of sqlite shards, over HTTP."""

import asyncio
import time

import httpx

_MOVED_WITHIN_S = 30.0
#: Operators are limited in their calls a minute.
_POLL_S = 0.1


class Operator:
    """The operator's view of shards."""

    def __init__(self, url: str, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=30, verify=False)

    def databases(self) -> dict[str, int]:
        """How many lie at each shard."""
        answer = self._http.get("/v1/operator/sqlite/shards")
        assert answer.is_success, answer.text
        return {shard["name"]: shard["databases"] for shard in answer.json()["shards"]}

    def move(self, database_id: str, shard: str) -> httpx.Response:
        """Note a move."""
        return self._http.post(f"/v1/operator/sqlite/databases/{database_id}/move", json={"shard": shard})

    def shard_of(self, database_id: str) -> str:
        """Where a database lies: a move says from where."""
        move = self.move(database_id, next(iter(self.databases()))).json()["move"]
        if move["from"] != move["to"]:
            # Called off again.
            self.move(database_id, move["from"])
        return str(move["from"])

    async def moved(self, database_id: str, shard: str) -> None:
        """Move a database, and wait until it lies there."""
        before = self.databases()[shard]
        noted = self.move(database_id, shard)
        assert noted.is_success, noted.text
        deadline = time.monotonic() + _MOVED_WITHIN_S
        while self.databases()[shard] == before:
            assert time.monotonic() < deadline, "not moved"
            await asyncio.sleep(_POLL_S)

    def close(self) -> None:
        self._http.close()
