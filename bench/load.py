"""The load drivers: wrk for what a target can do at most, `openloop` for how long answers take at a given rate."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
#: Beyond the measured time: connecting, reading the requests, answers still under way.
_GRACE_S = 30.0


class MissingTool(Exception):
    """A program that the measurement needs is not installed; the message says how to get it."""


class DriverFailed(Exception):
    """A load driver ended with an error of its own."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a driver saw. `errors` counts statuses other than 2xx, broken connections and missing answers.

    Latencies are in milliseconds: of the closed loop from the sending, of the open loop from the drawn moment.
    """

    requests: int
    seconds: float
    errors: int
    p50_ms: float
    p99_ms: float
    #: How late the open loop's driver itself was at p99; 0 in the closed loop.
    driver_lag_p99_ms: float

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds if self.seconds else 0.0


def write_requests(requests: Sequence[bytes], file: Path) -> Path:
    """Stores requests as both drivers read them: `<length>\\n<bytes>`."""
    file.write_bytes(b"".join(b"%d\n%s" % (len(request), request) for request in requests))
    return file


def read_requests(file: Path) -> list[bytes]:
    """What `write_requests` stored."""
    raw, found, at = file.read_bytes(), [], 0
    while at < len(raw):
        start = raw.index(b"\n", at) + 1
        at = start + int(raw[at:start])
        found.append(raw[start:at])
    return found


def closed_loop(port: int, requests: Path, connections: int, seconds: float) -> Load:
    """As many requests as the connections get answered, one under way on each. Raises DriverFailed, MissingTool."""
    # wrk takes whole seconds.
    length = max(1, round(seconds))
    seen = _run(
        [
            tool("wrk", "apt-get install wrk"),
            *("--threads", "1", "--connections", str(connections), "--duration", f"{length}s", "--timeout", "10s"),
            *("--script", str(_HERE / "replay.lua"), f"http://127.0.0.1:{port}/", str(requests)),
        ],
        length,
    )
    return Load(
        requests=seen["requests"],
        seconds=seen["duration_us"] / 1e6,
        errors=seen["bad_statuses"] + seen["broken"],
        p50_ms=seen["p50_us"] / 1000,
        p99_ms=seen["p99_us"] / 1000,
        driver_lag_p99_ms=0.0,
    )


def open_loop(port: int, requests: Path, connections: int, seconds: float, rate_per_s: float) -> Load:
    """Requests at drawn moments, `rate_per_s` on average, over the connections. Raises DriverFailed, MissingTool."""
    seen = _run(
        [
            str(build_open_loop()),
            *("-address", f"127.0.0.1:{port}", "-requests", str(requests), "-connections", str(connections)),
            *("-rate", str(rate_per_s), "-seconds", str(seconds)),
        ],
        seconds,
    )
    return Load(
        requests=seen["requests"],
        seconds=seen["duration_us"] / 1e6,
        errors=seen["bad_statuses"] + seen["broken"] + seen["unanswered"],
        p50_ms=seen["p50_us"] / 1000,
        p99_ms=seen["p99_us"] / 1000,
        driver_lag_p99_ms=seen["lag_p99_us"] / 1000,
    )


def paged_loop(port: int, requests: Path, seconds: float) -> Load:
    """Whole results, page after page by their cursors, on one connection. Raises DriverFailed."""
    seen = _run([sys.executable, "-m", "bench.pages", str(port), str(requests), str(seconds)], seconds)
    return Load(
        requests=seen["results"],
        seconds=seen["duration_us"] / 1e6,
        errors=seen["errors"],
        p50_ms=seen["p50_us"] / 1000,
        p99_ms=seen["p99_us"] / 1000,
        driver_lag_p99_ms=0.0,
    )


def tool(name: str, how: str) -> str:
    """The path of a program; raises MissingTool with the command that brings it."""
    found = shutil.which(name)
    if found is None:
        raise MissingTool(f"{name} is missing: {how}")
    return found


def cache() -> Path:
    """Where built and installed things lie between runs, outside the tree."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tovuk-bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def build_open_loop() -> Path:
    """The open loop's driver, built when its source is newer. Raises DriverFailed, MissingTool."""
    source, program = _HERE / "openloop", cache() / "openloop"
    newest = max(file.stat().st_mtime for file in source.iterdir())
    if not program.exists() or program.stat().st_mtime < newest:
        go = tool("go", "apt-get install golang-go")
        built = subprocess.run(
            [go, "build", "-o", str(program), "."],
            cwd=source,
            capture_output=True,
            text=True,
            # The standard library is all it uses.
            env={**os.environ, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "GOPROXY": "off"},
        )
        if built.returncode:
            raise DriverFailed(f"openloop does not build: {built.stderr}")
    return program


def _run(command: Sequence[str], seconds: float) -> dict[str, Any]:
    try:
        ended = subprocess.run(command, cwd=_HERE.parent, capture_output=True, text=True, timeout=seconds + _GRACE_S)
    except subprocess.TimeoutExpired as error:
        raise DriverFailed(f"{command[0]} did not end: {error.stdout!r}") from error
    if ended.returncode:
        raise DriverFailed(f"{command[0]} ended with status {ended.returncode}: {ended.stdout}{ended.stderr}")
    # wrk prints its own summary before the line of replay.lua.
    seen: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return seen
