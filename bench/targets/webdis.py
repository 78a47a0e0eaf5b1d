"""webdis over Redis: HTTP straight onto commands, in C, without tokens, JSON values or meters."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.client import Client, raw_request
from bench.load import tool
from bench.processes import free_port, listens, running
from bench.targets.base import Running, Target, expect_values
from bench.targets.redis import redis_server
from bench.workload import ENTRIES, READ_KEYS, WRITE_KEYS, Operation, slices, value_of

_READ_BACK = 50
_THREADS = 2


@dataclass(frozen=True, slots=True)
class WebdisDialect:
    """Commands as paths. It has no ordered list of keys."""

    headers: Mapping[str, str] = field(default_factory=dict)
    operations: frozenset[Operation] = frozenset({"get", "put", "bulk_get", "bulk_put"})

    def fill(self, client: Client) -> None:
        for keys in slices(READ_KEYS):
            client.ask("POST", "/", _mset(keys))

    def requests(self, operation: Operation) -> list[bytes]:
        match operation:
            case "get":
                # `.txt` spares it the JSON.
                return [self._raw("GET", f"/GET/{key}.txt") for key in READ_KEYS]
            case "put":
                return [self._raw("PUT", f"/SET/{key}", value_of(key).encode()) for key in WRITE_KEYS]
            case "bulk_get":
                return [self._raw("GET", "/MGET/" + "/".join(keys)) for keys in slices(READ_KEYS)]
            case "bulk_put":
                return [self._raw("POST", "/", _mset(keys)) for keys in slices(WRITE_KEYS)]
            case _:
                raise ValueError(operation)

    def check(self, client: Client, operation: Operation, written: int) -> None:
        match operation:
            case "get":
                expect_values(client.ask("GET", f"/GET/{READ_KEYS[7]}.txt"), READ_KEYS[7:8])
            case "put" | "bulk_put":
                keys = WRITE_KEYS[: written * (ENTRIES if operation == "bulk_put" else 1)]
                for key in keys[:: max(1, len(keys) // _READ_BACK)]:
                    expect_values(client.ask("GET", f"/GET/{key}.txt"), (key,))
            case "bulk_get":
                expect_values(client.ask("GET", "/MGET/" + "/".join(READ_KEYS[:ENTRIES])), READ_KEYS[:ENTRIES])
            case _:
                raise ValueError(operation)

    def _raw(self, method: str, path: str, body: bytes = b"") -> bytes:
        return raw_request(method, path, self.headers, body)


def _mset(keys: tuple[str, ...]) -> bytes:
    return "/".join(["MSET", *(f"{key}/{value_of(key)}" for key in keys)]).encode()


@contextlib.contextmanager
def _start(folder: Path) -> Iterator[Running]:
    with redis_server(folder) as redis:
        port = free_port()
        settings = folder / "webdis.json"
        settings.write_text(
            json.dumps(
                {
                    "redis_host": "127.0.0.1",
                    "redis_port": redis.port,
                    "http_host": "127.0.0.1",
                    "http_port": port,
                    "threads": _THREADS,
                    "daemonize": False,
                    "verbosity": 0,
                    "logfile": str(folder / "webdis-own.log"),
                }
            )
        )
        command = [tool("webdis", "apt-get install webdis"), settings]
        with running(command, log=folder / "webdis.log", ready=listens(port)) as process:
            yield Running(port, (process, redis.process), WebdisDialect())


WEBDIS = Target("webdis", f"webdis, {_THREADS} threads, over Redis with appendfsync always", _start)
