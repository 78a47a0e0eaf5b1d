"""`tovuk`: runs the whole product on this machine until Ctrl-C."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path

from tovuk_kit.pipe import SilentPipe, UnsafePipe, check_pipe
from tovuk_kit.settings import load
from tovuk_launcher import ground, nats
from tovuk_launcher.first_start import FirstStart
from tovuk_launcher.plan import House, stages
from tovuk_launcher.processes import Child, say
from tovuk_launcher.refusals import Refusal
from tovuk_launcher.settings import Settings, environment

_HEALTH_PERIOD_S = 0.05
_HEALTH_TIMEOUT_S = 2.0
_STILL_WAITING_PERIOD_S = 10.0


def main() -> None:
    """The console script: exit status 0 after Ctrl-C or SIGTERM, 1 when it refused to start, 2 on wrong settings."""
    settings = load(Settings)
    try:
        asyncio.run(run(settings))
    except Refusal as refusal:
        say(str(refusal))
        sys.exit(1)


async def run(settings: Settings) -> None:
    """Starts everything, says when it is ready, and keeps it running until a signal. Raises Refusal when it cannot."""
    asked_to_stop, impatient = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (impatient if asked_to_stop.is_set() else asked_to_stop).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    with ExitStack() as held:
        data = held.enter_context(ground.data_directory(settings.data_dir))
        held.enter_context(ground.public_port(settings.host, settings.port))
        sockets = held.enter_context(ground.socket_directory(data))
        first_start = FirstStart(data, settings.bootstrap_token.get_secret_value())
        key = ground.internal_key(data)
        house = House(
            data=data,
            sockets=sockets,
            internal_key=key,
            nats=_nats(settings, data, key),
            host=settings.host,
            port=settings.port,
            public_url=settings.public_url or f"http://127.0.0.1:{settings.port}",
            gateways=settings.gateways,
            bootstrap_token=first_start.token,
        )
        children = [[Child(program) for program in stage] for stage in stages(house, environment())]
        try:
            await _until_stopped(asked_to_stop, children, house, first_start)
        finally:
            await _stop(children, impatient)


def _nats(settings: Settings, data: Path, key: str) -> nats.Nats:
    url = settings.nats_url.get_secret_value()
    return nats.Nats(url, settings.nats_monitor_url) if url else nats.embedded(data, key)


async def _until_stopped(
    asked_to_stop: asyncio.Event, children: Sequence[Sequence[Child]], house: House, first_start: FirstStart
) -> None:
    """Returns at a signal; raises Refusal when a service's settings, or NATS', are wrong."""
    ends = [
        asyncio.create_task(asked_to_stop.wait()),
        *(asyncio.create_task(_hopeless(child)) for stage in children for child in stage),
    ]
    readiness = asyncio.create_task(_become_ready(house, first_start))
    pending = {*ends, readiness}
    try:
        while not any(end.done() for end in ends):
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        for task in pending:
            task.cancel()


async def _hopeless(child: Child) -> None:
    await child.hopeless.wait()
    raise Refusal(f"{child.program.name} refuses its settings; its lines above say which")


async def _become_ready(house: House, first_start: FirstStart) -> None:
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    try:
        await check_pipe(house.nats.monitor_url)
    except (UnsafePipe, SilentPipe) as problem:
        raise Refusal(str(problem)) from problem
    say_again_at = started_at + _STILL_WAITING_PERIOD_S
    while not await _healthy(house):
        if loop.time() > say_again_at:
            say(f"still waiting for {house.public_url}/healthz")
            say_again_at += _STILL_WAITING_PERIOD_S
        await asyncio.sleep(_HEALTH_PERIOD_S)
    say(f"ready after {loop.time() - started_at:.1f} s: {house.public_url}")
    if first_start.is_first:
        first_start.done()
        say("the first account's token, shown this once:")
        say(f"TOVUK_TOKEN={first_start.token}")
    say(f"use it: TOVUK_TOKEN=… tovuk --api {house.public_url} usage --json      end it: Ctrl-C")


async def _healthy(house: House) -> bool:
    """Whether the public port answers GET /healthz with 200."""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(house.host, house.host)  # noqa: S104 - compared, not bound
    try:
        async with asyncio.timeout(_HEALTH_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(address, house.port)
            try:
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                status_line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return status_line.split(b" ", 2)[1:2] == [str(HTTPStatus.OK.value).encode()]


async def _stop(children: Sequence[Sequence[Child]], impatient: asyncio.Event) -> None:
    """Ends stage after stage, who asks before who answers; a second signal kills what is left."""

    async def in_order() -> None:
        for stage in children:
            await asyncio.gather(*(child.stop() for child in stage))

    async def at_once() -> None:
        await impatient.wait()
        for stage in children:
            for child in stage:
                child.kill()

    killing = asyncio.create_task(at_once())
    await in_order()
    killing.cancel()
    say("stopped")


if __name__ == "__main__":
    main()
