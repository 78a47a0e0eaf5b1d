"""The product as a user has it: launched by its own console script, spoken to over HTTP."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tovuk_launcher.death import ON_LINUX, die_with

_READY_WITHIN_S = 90.0
_STOPPED_WITHIN_S = 60.0
_POLL_S = 0.02
_SCRIPT = Path(sys.executable).parent / "tovuk"


@dataclass
class Reached:
    """A product that runs somewhere: its URL and the first account's token."""

    url: str
    token: str

    def api(self) -> httpx.Client:
        """An HTTP client with the first account's token."""
        return httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=30, verify=False
        )

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One authenticated request."""
        with self.api() as client:
            return client.request(method, path, **more)

    def create_service(self, name: str) -> Mapping[str, Any]:
        """A service of the first account with the default capabilities."""
        answer = self.request("POST", "/v1/services", json={"name": name, "kind": "rust_worker"})
        assert answer.is_success, answer.text
        service: Mapping[str, Any] = answer.json()["service"]
        return service


@dataclass
class Product(Reached):
    """A product launched here: its data, its launcher's log, settings and script."""

    data: Path
    log: Path
    settings: dict[str, str]
    script: Path

    @classmethod
    @contextmanager
    def launched(cls, directory: Path, script: Path = _SCRIPT, **settings: str) -> Iterator["Product"]:
        """A product with its data below `directory`, ready when the context begins and gone when it ends."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        token = settings.get("TOVUK_BOOTSTRAP_TOKEN") or f"bootstrap-{secrets.token_hex(16)}"
        settings = {**settings, "TOVUK_PORT": str(port), "TOVUK_BOOTSTRAP_TOKEN": token}
        product = cls(f"http://127.0.0.1:{port}", token, directory / "data", directory / "log", settings, script)
        product.start()
        try:
            product.wait_until_ready()
            yield product
        finally:
            product.stop()

    def start(self) -> None:
        """Launches it, again if it was stopped; returns at once."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOVUK_")}
        with self.log.open("ab") as log:
            self.launcher: subprocess.Popen[bytes] = subprocess.Popen(
                [self.script],
                env={**inherited, "TOVUK_DATA_DIR": str(self.data), **self.settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Nothing else ends it when pytest is killed.
                preexec_fn=die_with(os.getpid()) if ON_LINUX else None,  # noqa: PLW1509
            )

    def wait_until_ready(self, within_s: float = _READY_WITHIN_S) -> float:
        """The seconds until /healthz answered 200; fails, with the log, when it never does or the launcher ends."""
        began = time.monotonic()
        while True:
            try:
                if httpx.get(f"{self.url}/healthz", timeout=2, verify=False).status_code == 200:
                    return time.monotonic() - began
            except httpx.TransportError:
                pass
            ended = self.launcher.poll()
            assert ended is None, f"the launcher ended with {ended}:\n{self.log.read_text()}"
            assert time.monotonic() - began < within_s, f"not ready within {within_s} s:\n{self.log.read_text()}"
            time.sleep(_POLL_S)

    def stop(self) -> int:
        """Ends it as Ctrl-C does; returns the launcher's exit status."""
        if self.launcher.poll() is None:
            self.launcher.send_signal(signal.SIGINT)
        try:
            return self.launcher.wait(_STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.launcher.kill()
            self.launcher.wait()
            raise AssertionError(f"not stopped within {_STOPPED_WITHIN_S} s:\n{self.log.read_text()}") from None

    def processes(self) -> dict[str, int]:
        """The running children by name (gateway, control, kv, sqlite, metering, nats-server), with their pids."""
        listed = subprocess.run(
            ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(self.launcher.pid)], capture_output=True, text=True
        ).stdout
        found = {}
        for line in listed.splitlines():
            pid, args = line.strip().split(" ", 1)
            for name in ("gateway", "control", "kv", "sqlite", "metering", "nats-server"):
                if f"/tovuk-{name}" in args or f"/{name} " in args:
                    found[name] = int(pid)
        return found
