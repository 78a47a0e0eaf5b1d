"""pytest plugin: the engines our services run on, as real servers that end with the tests.

An engine comes from a URL in the environment, else from a binary of this machine, else from a container. Being tests'
code, this reads the environment and starts commands, which the rules forbid elsewhere.
"""

# ruff: noqa: S108, S603, TID251
import ctypes
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn, TypeVar
from urllib.parse import urlsplit

import pytest

T = TypeVar("T")

START_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 20.0
_PR_SET_PDEATHSIG: Final = 1


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server's `postgres` database: TOVUK_TEST_POSTGRES_URL, a local binary or a container."""
    if url := os.environ.get("TOVUK_TEST_POSTGRES_URL"):
        yield url
        return
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    found = shutil.which("postgres")
    if not binaries and not found:
        yield from _container("postgresql", "apt-get install postgresql")
        return
    with _folder() as folder, _postgres(binaries[-1] if binaries else Path(str(found)).parent, folder) as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database of this test's own."""
    import psycopg
    from psycopg import sql

    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield urlsplit(postgres_server)._replace(path=f"/{name}").geturl()
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def redis_url() -> Iterator[str]:
    """The URL of an empty Redis of this test's own."""
    with redis_server() as url:
        yield url


@contextmanager
def redis_server() -> Iterator[str]:
    """The URL of an empty Redis that syncs each write before it answers: TOVUK_TEST_REDIS_URL is emptied first."""
    if url := os.environ.get("TOVUK_TEST_REDIS_URL"):
        _redis_command(url, "FLUSHALL")
        yield url
        return
    binary = shutil.which("redis-server")
    if not binary:
        yield from _container("redis", "apt-get install redis-server")
        return
    with _folder() as folder:
        port = _free_port()
        url = f"redis://127.0.0.1:{port}/0"
        options = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", ""]
        durable = ["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"]
        with _server([binary, *options, *durable], folder) as process:
            _wait(process, folder, lambda: _redis_command(url, "PING"))
            yield url


@pytest.fixture
def nats_url() -> Iterator[str]:
    """The URL of an empty NATS server whose JetStream syncs each message before it acknowledges."""
    if url := os.environ.get("TOVUK_TEST_NATS_URL"):
        yield url
        return
    binary = shutil.which("nats-server", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if not binary:
        _missing("nats-server", "make setup")
    with _folder() as folder:
        config = folder / "nats.conf"
        config.write_text(
            f'listen: "127.0.0.1:-1"\nports_file_dir: "{folder}"\n'
            f'jetstream {{ store_dir: "{folder}/store", sync_interval: always }}\n'
        )
        with _server([str(binary), "-c", str(config)], folder) as process:
            ports = folder / f"nats-server_{process.pid}.ports"
            yield _wait(process, folder, lambda: str(json.loads(ports.read_text())["nats"][0]))


@contextmanager
def _postgres(binaries: Path, folder: Path) -> Iterator[str]:
    owner = None
    if os.geteuid() == 0:
        # PostgreSQL refuses to run as root.
        owner = pwd.getpwnam("postgres").pw_uid
        os.chown(folder, owner, -1)
    data = folder / "data"
    # Not the C locale, whose order of texts is SQLite's: tests shall notice a query that leans on it.
    create = [str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
    locale = ["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en"]
    subprocess.run([*create, *locale], check=True, capture_output=True, user=owner, cwd=folder)
    options = ["-c", "listen_addresses=", "-c", "max_connections=200", "-c", "shared_buffers=32MB"]
    url = f"postgresql://postgres@/postgres?host={folder}"
    command = [str(binaries / "postgres"), "-D", str(data), "-k", str(folder), *options]
    # SIGQUIT: the postmaster ends its own children at once.
    with _server(command, folder, owner=owner, stop=signal.SIGQUIT) as process:
        _wait(process, folder, lambda: _postgres_answers(url))
        yield url


def _postgres_answers(url: str) -> bool:
    import psycopg

    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError as error:
        raise ConnectionError from error
    return True


@contextmanager
def _server(
    command: list[str], folder: Path, *, owner: int | None = None, stop: signal.Signals = signal.SIGTERM
) -> Iterator["subprocess.Popen[bytes]"]:
    """A child that writes `folder`/log and is gone afterwards, also when the tests are killed themselves."""

    def die_with_parent() -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, stop)

    with (folder / "log").open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            user=owner,
            # A session of its own: Ctrl-C goes to pytest, which stops it in order.
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 -- nothing else can tie a child's life to ours
        )
    try:
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", folder: Path, ready: Callable[[], T]) -> T:
    end = time.monotonic() + START_SECONDS_MAX
    while True:
        with suppress(OSError, ValueError):
            return ready()
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(f"{process.args!r} did not start:\n{(folder / 'log').read_text(errors='replace')}")
        time.sleep(0.02)


@contextmanager
def _folder() -> Iterator[Path]:
    """A short-named temporary folder (socket paths end at 107 bytes), in memory where there is room."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 1 << 30
    with tempfile.TemporaryDirectory(
        prefix="tovuk-", dir=memory if roomy else None, ignore_cleanup_errors=True
    ) as name:
        yield Path(name)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _redis_command(url: str, command: str) -> bytes:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 6379), timeout=5) as connection:
        connection.sendall(f"{command}\r\n".encode())
        answer = connection.recv(64)
    if not answer.startswith(b"+"):
        raise ConnectionError(f"{command}: {answer!r}")
    return answer


def _container(kind: str, remedy: str) -> Iterator[str]:
    """The same engine from a container, where a Docker daemon answers."""
    import docker  # type: ignore[import-untyped]  # it has no types

    try:
        docker.from_env().ping()
    except docker.errors.DockerException:
        _missing(kind, remedy)
    if kind == "postgresql":
        from testcontainers.postgres import PostgresContainer

        with PostgresContainer("postgres:17", driver=None) as postgres:
            yield postgres.get_connection_url()
    else:
        from testcontainers.redis import RedisContainer

        durable = "redis-server --appendonly yes --appendfsync always --maxmemory-policy noeviction"
        with RedisContainer("redis:7").with_command(durable) as redis:
            yield f"redis://{redis.get_container_host_ip()}:{redis.get_exposed_port(6379)}/0"


def _missing(what: str, remedy: str) -> NoReturn:
    message = f"{what} is not on this machine: {remedy}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
