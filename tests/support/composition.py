"""The product's processes one by one, for what the launcher does not do: replicas, shards, clocks that differ."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from tovuk_launcher import ground, nats
from tovuk_launcher.death import die_with

_READY_WITHIN_S = 60.0
_STOPPED_WITHIN_S = 20.0
_POLL_S = 0.02


class Composition:
    """Control, metering, NATS, one gateway, some kv processes and sqlite shards, each by its own console script."""

    def __init__(
        self, directory: Path, sockets: Path, kv_settings: Mapping[str, str], replicas: int, shards: int
    ) -> None:
        self._directory = directory
        self._key = secrets.token_hex(32)
        self._nats = nats.embedded(directory, self._key)
        port = ground.free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.token = f"bootstrap-{secrets.token_hex(16)}"
        #: The names of the kv processes.
        self.replicas = [f"kv-{index}" for index in range(replicas)]
        #: The names of the sqlite processes.
        self.shards = ["sqlite", *(f"sqlite-{number}" for number in range(2, shards + 1))]
        #: By name: variables of one process alone, such as a faked clock's.
        self.own_settings: dict[str, dict[str, str]] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        shared = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TOVUK_")},
            "TOVUK_INTERNAL_KEY": self._key,
            "TOVUK_NATS_URL": self._nats.url,
            "TOVUK_PUBLIC_URL": self.url,
            "TOVUK_CONTROL_TARGET": f"unix:{sockets}/control.sock",
            "TOVUK_METERING_TARGET": f"unix:{sockets}/metering.sock",
            "TOVUK_KV_TARGETS": ",".join(f"unix:{sockets}/{name}.sock" for name in self.replicas),
        }
        self._settings = {
            "nats": shared,
            "control": {
                **shared,
                "TOVUK_CONTROL_DATABASE_URL": f"sqlite:///{directory}/control.db",
                "TOVUK_CONTROL_LISTEN": f"unix:{sockets}/control.sock",
                "TOVUK_BOOTSTRAP_TOKEN": self.token,
            },
            "metering": {
                **shared,
                "TOVUK_METERING_DATABASE_URL": f"sqlite:///{directory}/metering.db",
                "TOVUK_METERING_LISTEN": f"unix:{sockets}/metering.sock",
            },
            **{
                name: {**shared, **kv_settings, "TOVUK_KV_LISTEN": f"unix:{sockets}/{name}.sock"}
                for name in self.replicas
            },
            **{
                name: {
                    **shared,
                    "TOVUK_SQLITE_DATA_DIR": f"{directory}/{name}",
                    "TOVUK_SQLITE_LISTEN": f"unix:{sockets}/{name}.sock",
                    "TOVUK_SQLITE_SHARD": name,
                }
                for name in self.shards
            },
            "gateway": {**shared, "TOVUK_GATEWAY_LISTEN": f"127.0.0.1:{port}"},
        }

    @classmethod
    @contextmanager
    def started(
        cls,
        directory: Path,
        *,
        redis_url: str = "",
        replicas: int = 1,
        shards: int = 1,
        own_settings: Mapping[str, Mapping[str, str]] | None = None,
    ) -> Iterator["Composition"]:
        """Everything, ready when the context begins; without a Redis its one kv process keeps its keys in SQLite."""
        kv_settings = (
            {"TOVUK_KV_ENGINE": "redis", "TOVUK_KV_REDIS_URL": redis_url}
            if redis_url
            else {"TOVUK_KV_ENGINE": "sqlite", "TOVUK_KV_DATA_DIR": str(directory / "kv")}
        )
        with ground.socket_directory(directory) as sockets:
            made = cls(directory, sockets, kv_settings, replicas, shards)
            for name, settings in (own_settings or {}).items():
                made.own_settings[name] = dict(settings)
            try:
                for name in made._settings:
                    made.start(name)
                made.wait_until_ready()
                yield made
            finally:
                made._stop()

    def start(self, name: str) -> None:
        """Starts a process that does not run; returns at once."""
        command = (
            self._nats.command
            if name == "nats"
            else (str(Path(sys.executable).parent / f"tovuk-{name.partition('-')[0]}"),)
        )
        with (self._directory / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command,
                env={**self._settings[name], **self.own_settings.get(name, {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 -- nothing else can tie a child's life to ours
            )

    def run(self, name: str, *arguments: str) -> tuple[int, str]:
        """Runs another verb of a process's script, with its settings, to its end: how it ended, and what it said."""
        command = [str(Path(sys.executable).parent / f"tovuk-{name.partition('-')[0]}"), *arguments]
        env = {**self._settings[name], **self.own_settings.get(name, {})}
        done = subprocess.run(command, env=env, stderr=subprocess.PIPE, text=True, timeout=_READY_WITHIN_S)
        return done.returncode, done.stderr

    def kill(self, name: str) -> None:
        """`kill -9`."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def wipe_nats(self) -> None:
        """Let NATS lose everything at once, as on another disk."""
        self.kill("nats")
        store = self._directory / "nats"
        store.rename(self._directory / f"nats-{secrets.token_hex(4)}")
        store.mkdir(mode=0o700)
        self.start("nats")

    def freeze(self, name: str) -> None:
        """Let a process stand still until `thaw`."""
        self._running[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let it go on."""
        self._running[name].send_signal(signal.SIGCONT)

    def folder(self, name: str) -> Path:
        """Where a process keeps its data."""
        return self._directory / name

    def log(self, name: str) -> str:
        """What a process has said."""
        return (self._directory / f"{name}.log").read_text(errors="replace")

    def wait_until_ready(self) -> None:
        """Returns once every service can be reached; fails, with the logs, when one ends or that takes too long."""
        began = time.monotonic()
        while True:
            try:
                if httpx.get(f"{self.url}/healthz", timeout=2, verify=False).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            ended = {name: self.log(name)[-2000:] for name, process in self._running.items() if process.poll()}
            assert not ended, ended
            assert time.monotonic() - began < _READY_WITHIN_S, "not ready"
            time.sleep(_POLL_S)

    def _stop(self) -> None:
        for name in ("gateway", *self.replicas, *self.shards, "control", "metering", "nats"):
            process = self._running.pop(name, None)
            if process is None:
                continue
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(_STOPPED_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
