from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tovuk.metering.v1 import metering_pb2 as wire
from tovuk.metering.v1 import metering_pb2_grpc as grpc_wire
from tovuk_control.clients.metering import MeteringClient
from tovuk_kit.client import Channel
from tovuk_kit.errors import ServiceUnavailable
from tovuk_kit.server import start_server

KEY = "an internal key of tests"


class Usage(grpc_wire.UsageServicer):
    def __init__(self) -> None:
        self.told: list[Any] = []

    async def SetPlan(self, request: Any, context: Any) -> Any:  # noqa: N802 the wire names it
        self.told.append(request)
        return wire.SetPlanReply()


async def test_the_plan_arrives_with_its_revision(tmp_path: Path) -> None:
    usage = Usage()
    server = await start_server(
        f"unix:{tmp_path}/metering.sock",
        internal_key=KEY,
        services=[partial(grpc_wire.add_UsageServicer_to_server, usage)],
    )
    channel = Channel(server.target, KEY, "metering")
    await MeteringClient(channel).set_plan("account_00000000000000000000", "pro", 3)
    assert usage.told == [wire.SetPlanRequest(account_id="account_00000000000000000000", plan="pro", revision=3)]
    await channel.close()
    await server.stop()


async def test_metering_away_is_service_unavailable(tmp_path: Path) -> None:
    channel = Channel(f"unix:{tmp_path}/nobody.sock", KEY, "metering")
    with pytest.raises(ServiceUnavailable):
        await MeteringClient(channel).set_plan("account_00000000000000000000", "pro", 3)
    await channel.close()
