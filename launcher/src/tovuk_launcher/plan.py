"""Which programs make the product on one machine, and what each is told about the others."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tovuk_launcher.nats import Nats
from tovuk_launcher.processes import Program

_DRAIN_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class House:
    """The facts of one run that the programs share."""

    data: Path
    sockets: Path
    internal_key: str
    nats: Nats
    host: str
    port: int
    public_url: str
    gateways: int
    #: Empty where the first account has its token already.
    bootstrap_token: str


def stages(house: House, inherited: Mapping[str, str]) -> tuple[tuple[Program, ...], ...]:
    """The programs in the order of their ending: who asks before who answers.

    They start all at once; each bears the others' absence.
    """
    shared = {
        **inherited,
        "TOVUK_INTERNAL_KEY": house.internal_key,
        "TOVUK_NATS_URL": house.nats.url,
        "TOVUK_PUBLIC_URL": house.public_url,
        "TOVUK_CONTROL_TARGET": _socket(house, "control"),
        "TOVUK_METERING_TARGET": _socket(house, "metering"),
        "TOVUK_KV_TARGETS": _socket(house, "kv"),
    }
    shared.pop("TOVUK_BOOTSTRAP_TOKEN", None)
    gateways = tuple(
        _service(
            "gateway",
            f"gateway-{number}" if house.gateways > 1 else "gateway",
            {"TOVUK_GATEWAY_DRAIN_SECONDS": str(int(_DRAIN_WITHIN_S) - 2), **shared},
            {"TOVUK_GATEWAY_LISTEN": f"{f'[{house.host}]' if ':' in house.host else house.host}:{house.port}"},
        )
        for number in range(1, house.gateways + 1)
    )
    kv = _service(
        "kv",
        "kv",
        {"TOVUK_KV_ENGINE": "sqlite", "TOVUK_KV_DATA_DIR": str(house.data / "kv"), **shared},
        {"TOVUK_KV_LISTEN": _socket(house, "kv")},
    )
    sqlite = _service(
        "sqlite",
        "sqlite",
        {"TOVUK_SQLITE_DATA_DIR": str(house.data / "sqlite"), **shared},
        {"TOVUK_SQLITE_LISTEN": _socket(house, "sqlite")},
    )
    metering = _service(
        "metering",
        "metering",
        {"TOVUK_METERING_DATABASE_URL": f"sqlite:///{house.data}/metering.db", **shared},
        {"TOVUK_METERING_LISTEN": _socket(house, "metering"), "TOVUK_NATS_MONITOR_URL": house.nats.monitor_url},
    )
    control = _service(
        "control",
        "control",
        {"TOVUK_CONTROL_DATABASE_URL": f"sqlite:///{house.data}/control.db", **shared},
        {"TOVUK_CONTROL_LISTEN": _socket(house, "control"), "TOVUK_BOOTSTRAP_TOKEN": house.bootstrap_token},
    )
    nats = (Program("nats", house.nats.command, inherited, _DRAIN_WITHIN_S),) if house.nats.command else ()
    return gateways, (kv, sqlite), (metering, control), nats


def _socket(house: House, service: str) -> str:
    return f"unix:{house.sockets / service}.sock"


def _service(service: str, name: str, env: Mapping[str, str], wiring: Mapping[str, str]) -> Program:
    command = (str(Path(sys.executable).parent / f"tovuk-{service}"),)
    return Program(name, command, {**env, **wiring}, _DRAIN_WITHIN_S)
