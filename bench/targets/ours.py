"""The product as a user runs it: the launcher's console script, every service behind it, a first account's token."""

import contextlib
import http.client
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Literal

from bench.client import Client
from bench.processes import free_port, running
from bench.targets.base import JsonDialect, Running, Target
from bench.targets.naive import ROOT
from bench.targets.redis import redis_server
from tovuk_kit.tokens import new_token

Engine = Literal["sqlite", "redis"]
Metering = Literal["capped", "uncapped", "unmetered"]

#: KV's meters, each with a window its cap may have.
_PERIODS: Final = {
    "kv_reads": "day",
    "kv_writes": "day",
    "kv_deletes": "day",
    "kv_lists": "day",
    "kv_storage_bytes": "month",
}
#: Far above what a run uses.
_CAP: Final = 2**40
_NAMESPACE: Final = "BENCH"


@contextlib.contextmanager
def product(
    folder: Path, *, gateways: int, launcher: Sequence[str | Path] = (), settings: Mapping[str, str] | None = None
) -> Iterator[tuple[int, str, int]]:
    """The product, launched: its port, its first account's token, its launcher's process id."""
    port, token = free_port(), new_token("user")
    env = {
        "TOVUK_DATA_DIR": str(folder / "data"),
        "TOVUK_PORT": str(port),
        "TOVUK_GATEWAYS": str(gateways),
        "TOVUK_BOOTSTRAP_TOKEN": token,
        **(settings or {}),
    }
    command = launcher or [Path(sys.executable).parent / "tovuk"]
    with running(command, log=folder / "tovuk.log", ready=_healthy(port), env=env) as launched:
        yield port, token, launched


def new_service(client: Client) -> str:
    """The path of a service of the client's account."""
    made = client.json("POST", "/v1/services", {"name": "bench", "kind": "rust_worker"})
    return f"/v1/services/{made['service']['id']}"


def put_caps(client: Client, periods: Mapping[str, str]) -> None:
    """Caps that bind, so that leases are granted and extended, and refuse nothing."""
    for meter, period in periods.items():
        client.json("PUT", f"/v1/usage/caps/{meter}", {"period": period, "capValue": _CAP})


@contextlib.contextmanager
def _start(folder: Path, *, gateways: int, engine: Engine, metering: Metering) -> Iterator[Running]:
    with contextlib.ExitStack() as held:
        settings: dict[str, str] = {"TOVUK_KV_ENGINE": engine}
        processes: tuple[int, ...] = ()
        if engine == "redis":
            redis = held.enter_context(redis_server(folder))
            settings["TOVUK_KV_REDIS_URL"] = f"redis://127.0.0.1:{redis.port}/0"
            processes = (redis.process,)
        else:
            settings["TOVUK_KV_DATA_DIR"] = str(folder / "data" / "kv")
        launcher = _unmetered_launcher(folder) if metering == "unmetered" else ()
        port, token, launched = held.enter_context(
            product(folder, gateways=gateways, launcher=launcher, settings=settings)
        )
        headers = {"Authorization": f"Bearer {token}"}
        with Client(port, headers) as client:
            service = new_service(client)
            client.json("POST", f"{service}/kv/namespaces", {"name": _NAMESPACE})
            if metering == "capped":
                put_caps(client, _PERIODS)
        yield Running(port, (launched, *processes), JsonDialect(f"{service}/kv/{_NAMESPACE}", headers))


def _unmetered_launcher(folder: Path) -> list[str | Path]:
    """The launcher in a copy of the environment whose kv keeps no meters.

    The launcher starts the scripts that lie beside its interpreter. So a second environment of links, in which
    `tovuk-kv` alone is another, changes this one thing and nothing of the product.
    """
    real, copy = Path(sys.executable).parent, folder / "environment" / "bin"
    copy.mkdir(parents=True)
    shutil.copy(real.parent / "pyvenv.cfg", copy.parent)
    for name in ("lib", "lib64"):
        if (real.parent / name).exists():
            (copy.parent / name).symlink_to((real.parent / name).resolve())
    for script in real.glob("tovuk*"):
        (copy / script.name).symlink_to(script)
    python = copy / "python"
    python.symlink_to(Path(sys.executable).resolve())
    (copy / "tovuk-kv").unlink()
    (copy / "tovuk-kv").write_text(f"#!/bin/sh\nPYTHONPATH={ROOT} exec {python} -m bench.unmetered\n")
    (copy / "tovuk-kv").chmod(0o755)
    return [python, "-m", "tovuk_launcher.main"]


def _healthy(port: int) -> Callable[[], bool]:
    def ready() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return ready


def _target(engine: Engine, gateways: int, metering: Metering) -> Target:
    name = f"ours-{engine}-{gateways}" + ("" if metering == "capped" else f"-{metering}")
    processes = "one gateway process" if gateways == 1 else f"{gateways} gateway processes"
    caps = {
        "capped": "metered, a cap on every KV meter",
        "uncapped": "metered, no cap",
        "unmetered": "a kv without meters",
    }[metering]
    return Target(
        name,
        f"Tovuk on {engine}, {processes}, {caps}",
        partial(_start, gateways=gateways, engine=engine, metering=metering),
    )


OURS = (
    _target("sqlite", 1, "capped"),
    _target("sqlite", 1, "unmetered"),
    _target("sqlite", 1, "uncapped"),
    _target("sqlite", 2, "capped"),
    _target("redis", 1, "capped"),
    _target("redis", 2, "capped"),
)
