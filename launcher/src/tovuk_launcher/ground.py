"""What a run stands on, taken before any process starts: data directory, internal key, port, sockets."""

import fcntl
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tovuk_kit.files import make_folder, write_private
from tovuk_launcher.refusals import Refusal

#: A Unix socket's path must fit sockaddr_un (104 bytes on macOS, 108 on Linux), its closing zero included.
_SOCKET_PATH_BYTES_MAX = 103
#: Room for the longest `<service>.sock` after the directory.
_SOCKET_NAME_BYTES_MAX = 20
_INTERNAL_KEY_BYTES = 32


@contextmanager
def data_directory(path: Path) -> Iterator[Path]:
    """The data directory, private to this user and to this launcher while the context lasts.

    Raises Refusal when another launcher holds it: two writers on one set of databases would each refuse the other's
    services later, and less clearly.
    """
    path = path.expanduser().absolute()
    try:
        make_folder(path, 0o700)
        lock = os.open(path / "launcher.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise Refusal(
            f"the data directory {path} cannot be used ({problem.strerror}); name another with TOVUK_DATA_DIR"
        ) from problem
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            holder = os.pread(lock, 20, 0).decode().strip() or "unknown"
            raise Refusal(
                f"the data directory {path} is in use by another tovuk (process {holder}); "
                "stop it, or name another directory with TOVUK_DATA_DIR"
            ) from problem
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield path
    finally:
        os.close(lock)


def internal_key(data: Path) -> str:
    """The credential services show one another; made once, readable by this user alone."""
    path = data / "internal.key"
    if not path.exists():
        write_private(path, secrets.token_hex(_INTERNAL_KEY_BYTES))
    return path.read_text().strip()


@contextmanager
def socket_directory(data: Path) -> Iterator[Path]:
    """A private directory for the services' Unix sockets: `<data>/run`, or a temporary one where that is too long."""
    run = data / "run"
    if len(os.fsencode(run)) + 1 + _SOCKET_NAME_BYTES_MAX > _SOCKET_PATH_BYTES_MAX:
        run = Path(tempfile.mkdtemp(prefix="tovuk-"))
    try:
        run.mkdir(mode=0o700, exist_ok=True)
        for stale in run.glob("*.sock"):
            stale.unlink()
        yield run
    finally:
        shutil.rmtree(run, ignore_errors=True)


@contextmanager
def public_port(host: str, port: int) -> Iterator[None]:
    """Keeps the port ours while gateways come and go.

    The socket is bound but never listens, so it takes no connection; the gateways bind beside it with SO_REUSEPORT.
    Raises Refusal when something already listens there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as problem:
            raise Refusal(
                f"port {port} on {host} cannot be used ({problem.strerror}); name another with TOVUK_PORT"
            ) from problem
    with socket.socket(family) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host, port))
        yield


def free_port() -> int:
    """A loopback port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        chosen: int = probe.getsockname()[1]
        return chosen
