"""miniflare: the original's local simulator, one workerd process, its KV and its D1 persisted on disk."""

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.load import MissingTool, cache, tool
from bench.processes import free_port, running
from bench.targets.base import Dialect, JsonDialect, Running, Target
from bench.targets.sql import SqlDialect

_SOURCE = Path(__file__).parent.parent / "miniflare"
_HOW = "install Node.js with npm"
_INSTALL_WITHIN_S = 300.0


def _installed() -> Path:
    """The folder in the cache with the pinned version and our worker; installed once."""
    pinned = json.loads((_SOURCE / "package.json").read_text())["dependencies"]["miniflare"]
    folder = cache() / f"miniflare-{pinned}"
    shutil.copytree(_SOURCE, folder, dirs_exist_ok=True)
    if not (folder / "node_modules" / "miniflare").exists():
        command = [tool("npm", _HOW), "install", "--no-audit", "--no-fund", "--no-package-lock"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_INSTALL_WITHIN_S)
        if done.returncode:
            raise MissingTool(f"miniflare {pinned} could not be installed: {done.stderr[-1000:]}")
    return folder


@contextlib.contextmanager
def _start(folder: Path, dialect: Dialect) -> Iterator[Running]:
    node, server = tool("node", _HOW), _installed() / "server.mjs"
    port, log = free_port(), folder / "miniflare.log"
    with running(
        [node, server, str(port), folder], log=log, ready=lambda: "ready" in log.read_text(errors="replace")
    ) as process:
        yield Running(port, (process,), dialect)


MINIFLARE = Target(
    "miniflare",
    "miniflare 4 (workerd), KV persisted on disk, which it does not sync",
    partial(_start, dialect=JsonDialect(base="")),
)
MINIFLARE_D1 = Target(
    "miniflare-d1",
    "miniflare 4 (workerd), a D1 database persisted on disk",
    partial(_start, dialect=SqlDialect(path="/query")),
)
