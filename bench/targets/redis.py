"""The Redis that targets and limits run on: with the settings our own engine demands."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.load import tool
from bench.processes import free_port, listens, running


@dataclass(frozen=True, slots=True)
class Redis:
    """A running Redis on 127.0.0.1."""

    port: int
    process: int


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[Redis]:
    """Redis that syncs every write to its append-only file before it answers. Raises MissingTool, DidNotStart."""
    port = free_port()
    data = folder / "redis"
    data.mkdir()
    command = [
        tool("redis-server", "apt-get install redis-server"),
        *("--bind", "127.0.0.1", "--port", str(port), "--dir", data),
        *("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction", "--save", ""),
    ]
    with running(command, log=folder / "redis.log", ready=listens(port)) as process:
        yield Redis(port, process)
