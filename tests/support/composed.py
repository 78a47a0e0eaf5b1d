"""The product in containers, as docker-compose.yml describes it, with the S3 server of deploy/compose/archive.yml."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

_ROOT = Path(__file__).resolve().parents[2]
#: The first build fetches packages and compiles SQLite.
_BUILT_WITHIN_S = 1800.0
_COMMAND_WITHIN_S = 180.0
_READY_WITHIN_S = 90.0
_POLL_S = 0.1
#: Containers that are started until one gets an address that was left.
_STRANGERS = 20


def why_not() -> str:
    """Why this machine cannot run containers; empty when it can."""
    if shutil.which("docker") is None:
        return "docker is missing"
    for words in (["info"], ["compose", "version"]):
        asked = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=_COMMAND_WITHIN_S)
        if asked.returncode != 0:
            return f"docker {' '.join(words)}: {asked.stderr.strip()[-200:]}"
    return ""


class Composed:
    """Containers, volumes, secrets and a port of its own; images are those that `make up` builds and uses."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._project = f"tovuk-test-{secrets.token_hex(3)}"
        self._network = f"{self._project}_internal"
        made = subprocess.run([_ROOT / "deploy/compose/secrets.sh"], capture_output=True, text=True, check=True).stdout
        settings = dict(line.split("=", 1) for line in made.splitlines())
        self.token = settings["TOVUK_BOOTSTRAP_TOKEN"]
        #: The names of the sqlite shards, and of their containers.
        self.shards = {"shard-1": "sqlite", "shard-2": "sqlite-2"}
        # Of what the caller has set, only the names of images are for us.
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TOVUK_") or k.endswith("_IMAGE")}
        self._env = {**kept, **settings, "TOVUK_PORT": str(port), "TOVUK_PUBLIC_URL": self.url}
        # Not the operator's .env, which lies beside docker-compose.yml.
        env_file = directory / "none.env"
        env_file.touch()
        self._options = ["--project-name", self._project, "--env-file", str(env_file)]
        for path in ("docker-compose.yml", "deploy/compose/archive.yml"):
            self._options += ["--file", str(_ROOT / path)]

    @classmethod
    @contextmanager
    def started(cls, directory: Path) -> Iterator["Composed"]:
        """Built and healthy when the context begins; containers and volumes are gone when it ends."""
        composed = cls(directory)
        composed.compose("build", "--quiet", within_s=_BUILT_WITHIN_S)
        try:
            composed.up()
            yield composed
        finally:
            composed.compose("down", "--volumes", "--timeout", "10")

    def compose(self, *words: str, within_s: float = _COMMAND_WITHIN_S) -> str:
        """A verb of `docker compose` for this project."""
        return self._docker("compose", *self._options, *words, within_s=within_s)

    def up(self) -> None:
        """Creates and starts what is missing; returns when all are healthy."""
        self.compose("up", "--detach", "--wait", "--no-build")

    def names(self) -> list[str]:
        """Every container's name in the file."""
        return sorted(self.compose("config", "--services").split())

    def crash(self, name: str) -> None:
        """`kill -9`, but not by Docker, to which that would be the wish that the container stays down; it starts again.

        Fails when nothing starts it.
        """
        before = self._inspect(name)["State"]["Pid"]
        image = self._inspect("redis")["Config"]["Image"]
        kill = ["--rm", "--pid", "host", "--user", "0", "--entrypoint", "sh", image, "-c", f"kill -9 {before}"]
        self._docker("run", *kill)
        deadline = time.monotonic() + _READY_WITHIN_S
        while self._inspect(name)["State"]["Pid"] in {0, before}:
            assert time.monotonic() < deadline, f"{name} is not started again"
            time.sleep(_POLL_S)

    def lose(self, name: str) -> None:
        """Kill a container, and remove it and its volume."""
        self._docker("kill", self._container(name))
        self.compose("rm", "--force", name)
        self._docker("volume", "rm", f"{self._project}_{name}")

    def readdress(self, name: str) -> None:
        """Make a container anew while a stranger has its address."""
        before = self._address(name)
        self.compose("rm", "--stop", "--force", name)
        strangers = [self._stranger()]
        try:
            while self._seen_at(strangers[-1]) != before:
                assert len(strangers) < _STRANGERS, f"{before} goes to nobody"
                strangers.append(self._stranger())
            self.compose("up", "--detach", "--no-deps", "--no-build", name)
            assert self._address(name) != before
            self.wait_until_ready()
        finally:
            self._docker("kill", *strangers)

    def wait_until_ready(self) -> None:
        """Returns once all containers are well and the gateway reaches all services; fails, with the logs, when not."""
        deadline = time.monotonic() + _READY_WITHIN_S
        while unwell := self._unwell():
            assert time.monotonic() < deadline, f"{unwell}\n{self.compose('logs', '--tail', '40')}"
            time.sleep(_POLL_S)

    def _unwell(self) -> str:
        for line in self.compose("ps", "--all", "--format", "json").splitlines():
            told = json.loads(line)
            if told["State"] != "running" or told["Health"] not in {"", "healthy"}:
                return f"{told['Name']} is {told['State']} {told['Health']}"
        try:
            answer = httpx.get(f"{self.url}/healthz", timeout=2, verify=False)
        except httpx.TransportError as failure:
            return f"the gateway: {failure!r}"
        return "" if answer.status_code == 200 else answer.text

    def _stranger(self) -> str:
        image = self._inspect("redis")["Config"]["Image"]
        return self._docker("run", "--rm", "--detach", "--network", self._network, image, "sleep", "100").strip()

    def _address(self, name: str) -> str:
        return self._seen_at(self._container(name))

    def _seen_at(self, container: str) -> str:
        (told,) = json.loads(self._docker("inspect", container))
        return str(told["NetworkSettings"]["Networks"][self._network]["IPAddress"])

    def _inspect(self, name: str) -> Any:
        return json.loads(self._docker("inspect", self._container(name)))[0]

    def _container(self, name: str) -> str:
        return f"{self._project}-{name}-1"

    def _docker(self, *words: str, within_s: float = _COMMAND_WITHIN_S) -> str:
        done = subprocess.run(["docker", *words], env=self._env, capture_output=True, text=True, timeout=within_s)
        assert done.returncode == 0, f"{words}: {done.stderr[-4000:]}"
        return done.stdout
