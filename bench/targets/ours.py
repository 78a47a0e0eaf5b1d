"""The product as a user runs it: the launcher's console script, every service behind it, a first account's token."""

import contextlib
import http.client
import shutil
import sys
from collections.abc import Callable, Iterator
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
_METERS: Final = {"kv_reads": "day", "kv_writes": "day", "kv_deletes": "day", "kv_lists": "day"}
_LEVEL: Final = "kv_storage_bytes"
#: Far above what a run uses: the caps bind, so that leases are granted and extended, and refuse nothing.
_CAP: Final = 2**40
_NAMESPACE: Final = "BENCH"


@contextlib.contextmanager
def _start(folder: Path, *, gateways: int, engine: Engine, metering: Metering) -> Iterator[Running]:
    with contextlib.ExitStack() as held:
        port, token = free_port(), new_token("user")
        env = {
            "TOVUK_DATA_DIR": str(folder / "data"),
            "TOVUK_PORT": str(port),
            "TOVUK_GATEWAYS": str(gateways),
            "TOVUK_BOOTSTRAP_TOKEN": token,
            "TOVUK_KV_ENGINE": engine,
        }
        processes: tuple[int, ...] = ()
        if engine == "redis":
            redis = held.enter_context(redis_server(folder))
            env["TOVUK_KV_REDIS_URL"] = f"redis://127.0.0.1:{redis.port}/0"
            processes = (redis.process,)
        else:
            env["TOVUK_KV_DATA_DIR"] = str(folder / "data" / "kv")
        launcher = _launcher() if metering != "unmetered" else _unmetered_launcher(folder)
        launched = held.enter_context(running(launcher, log=folder / "tovuk.log", ready=_healthy(port), env=env))
        headers = {"Authorization": f"Bearer {token}"}
        with Client(port, headers) as client:
            service = client.json("POST", "/v1/services", {"name": "bench", "kind": "rust_worker"})["service"]["id"]
            client.json("POST", f"/v1/services/{service}/kv/namespaces", {"name": _NAMESPACE})
            if metering == "capped":
                for meter, period in {**_METERS, _LEVEL: "month"}.items():
                    client.json("PUT", f"/v1/usage/caps/{meter}", {"period": period, "capValue": _CAP})
        dialect = JsonDialect(f"/v1/services/{service}/kv/{_NAMESPACE}", headers)
        yield Running(port, (launched, *processes), dialect)


def _launcher() -> list[str | Path]:
    return [Path(sys.executable).parent / "tovuk"]


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
