import asyncio
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tovuk.common.v1.common_pb2 import Frame
from tovuk_kit.client import Channel
from tovuk_kit.errors import InternalError, Outcome, RemoteError, ServiceUnavailable, StorageFull, TovukError
from tovuk_kit.server import RunningServer
from tovuk_kit.telemetry import request_id

Host = Callable[..., Awaitable[RunningServer]]
Method = Callable[..., Any]


class Refused(TovukError):
    code = "usage_cap_reached"


async def say(request: Frame, context: Any) -> Frame:
    return Frame(payload=b"said " + request.payload)


async def count(request: Frame, context: Any) -> AsyncIterator[Frame]:
    yield Frame(payload=b"1")
    yield Frame(payload=b"2")


@pytest.mark.parametrize("metadata", [(), (("tovuk-internal-key", "wrong"),), (("tovuk-internal-key", ""),)])
@pytest.mark.parametrize(("name", "kind"), [("Say", "unary_unary"), ("Count", "unary_stream")])
async def test_call_without_the_internal_key_is_refused(
    host: Host, channel: Channel, method: Method, metadata: Any, name: str, kind: str
) -> None:
    await host(Say=say, Count=count)
    call = method(channel, name, kind)(Frame(), metadata=metadata, timeout=5)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call if kind == "unary_unary" else call.read())
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert caught.value.details() == "internal_credential_required"


async def test_fact_arrives_with_code_params_outcome_and_retry_time(
    host: Host, channel: Channel, method: Method
) -> None:
    async def refuse(request: Frame, context: Any) -> Frame:
        raise Refused(outcome=Outcome.DONE, retry_after_ms=0, limit=10, meter="kv_reads", period="day")

    await host(Refuse=refuse)
    with pytest.raises(RemoteError) as caught:
        await channel.unary(method(channel, "Refuse"), Frame(), retry=False)
    error = caught.value
    assert error.code == "usage_cap_reached"
    assert error.params == {"limit": "10", "meter": "kv_reads", "period": "day"}
    assert error.outcome is Outcome.DONE
    assert error.retry_after_ms == 0


async def test_fact_after_the_first_replies_of_a_stream_arrives(host: Host, channel: Channel, method: Method) -> None:
    async def fill(request: Frame, context: Any) -> AsyncIterator[Frame]:
        yield Frame(payload=b"1")
        raise StorageFull

    await host(Fill=fill)
    replies = channel.receive_stream(method(channel, "Fill", "unary_stream"), Frame(), timeout_s=5)
    assert (await anext(replies)).payload == b"1"
    with pytest.raises(RemoteError) as caught:
        await anext(replies)
    assert caught.value.code == "storage_full"
    assert caught.value.retry_after_ms is None


async def test_other_exceptions_are_hidden_and_logged_once_with_the_request_id(
    host: Host, channel: Channel, method: Method, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(request: Frame, context: Any) -> Frame:
        raise ValueError("the secret cause")

    ids = []
    caplog.handler.addFilter(lambda record: ids.append(request_id.get()) or True)
    await host(Fail=fail)
    token = request_id.set("request_of_the_test")
    with pytest.raises(RemoteError) as caught:
        await channel.unary(method(channel, "Fail"), Frame(), retry=False)
    request_id.reset(token)
    assert caught.value.code == "internal_error"
    assert caught.value.outcome is Outcome.UNKNOWN
    assert "secret" not in repr(caught.value.__cause__)
    assert "the secret cause" in caplog.text
    assert ids == ["request_of_the_test"]


async def test_handler_sees_the_callers_request_id_or_a_fresh_one(host: Host, channel: Channel, method: Method) -> None:
    async def tell(request: Frame, context: Any) -> Frame:
        return Frame(payload=request_id.get().encode())

    await host(Tell=tell)
    token = request_id.set("request_1")
    assert (await channel.unary(method(channel, "Tell"), Frame(), retry=False)).payload == b"request_1"
    request_id.reset(token)
    first = (await channel.unary(method(channel, "Tell"), Frame(), retry=False)).payload
    second = (await channel.unary(method(channel, "Tell"), Frame(), retry=False)).payload
    assert first.startswith(b"request_")
    assert first != second


async def test_health_service_answers_without_the_key_what_the_service_says(host: Host, channel: Channel) -> None:
    ready = True

    async def is_ready() -> bool:
        return ready

    server = await host(ready=is_ready)
    stub = health_pb2_grpc.HealthStub(channel.grpc)
    assert (await stub.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
    ready = False
    await server.publish_readiness()
    assert (await stub.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_drain_refuses_new_calls_turns_readiness_off_and_finishes_those_in_flight(
    host: Host, channel: Channel, method: Method
) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def wait(request: Frame, context: Any) -> Frame:
        entered.set()
        await leave.wait()
        return Frame(payload=b"finished")

    server = await host(Wait=wait, Say=say, ops_listen="127.0.0.1:0")
    assert server.ops is not None
    ops = f"http://127.0.0.1:{server.ops.port}"
    call = asyncio.create_task(channel.unary(method(channel, "Wait"), Frame(), retry=False))
    await entered.wait()
    drain = asyncio.create_task(server.drain())
    await asyncio.sleep(0)
    with pytest.raises(ServiceUnavailable) as caught:
        await channel.unary(method(channel, "Say"), Frame(), retry=False)
    assert caught.value.outcome is Outcome.NOT_DONE
    assert caught.value.params == {"service": "tests"}
    async with httpx.AsyncClient(verify=False) as http:
        assert (await http.get(f"{ops}/readyz")).status_code == 503
        assert (await http.get(f"{ops}/healthz")).status_code == 200
    assert not drain.done()
    leave.set()
    assert (await call).payload == b"finished"
    await drain


async def test_drain_is_bounded(host: Host, channel: Channel, method: Method) -> None:
    entered = asyncio.Event()

    async def hang(request: Frame, context: Any) -> Frame:
        entered.set()
        await asyncio.Event().wait()
        return Frame()

    server = await host(Hang=hang)
    call = asyncio.create_task(channel.unary(method(channel, "Hang"), Frame(), timeout_s=60, retry=False))
    await entered.wait()
    async with asyncio.timeout(5):
        await server.drain(grace_s=0.05)
    with pytest.raises(TovukError) as caught:
        await call
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_socket_of_a_killed_process_is_replaced_and_private(
    host: Host, channel: Channel, method: Method, address: str
) -> None:
    path = address.removeprefix("unix:")
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(path)
    await host(Say=say)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600  # noqa: PTH116 a look, not a blocking read
    assert (await channel.unary(method(channel, "Say"), Frame(payload=b"x"), retry=False)).payload == b"said x"


async def test_second_server_on_a_living_socket_is_refused_and_harms_nothing(
    host: Host, channel: Channel, method: Method
) -> None:
    await host(Say=say)
    with pytest.raises(OSError, match="another process serves"):
        await host(Say=say)
    assert (await channel.unary(method(channel, "Say"), Frame(payload=b"x"), retry=False)).payload == b"said x"


async def test_tcp_server_tells_its_port_and_refuses_a_second_one(
    host: Host, method: Method, internal_key: str
) -> None:
    server = await host(Say=say, listen="127.0.0.1:0")
    channel = Channel(server.target, internal_key, "tests")
    assert (await channel.unary(method(channel, "Say"), Frame(payload=b"x"), retry=False)).payload == b"said x"
    with pytest.raises(OSError, match="cannot listen"):
        await host(Say=say, listen=server.target)
    await channel.close()


async def test_wrong_key_of_ours_is_a_fault_of_ours(host: Host, address: str, method: Method) -> None:
    await host(Say=say)
    channel = Channel(address, "the key of another house", "tests")
    with pytest.raises(InternalError):
        await channel.unary(method(channel, "Say"), Frame(), retry=True)
    await channel.close()


_PROCESS = """
import asyncio, gc, sys
import grpc
from tovuk.common.v1.common_pb2 import Frame
from tovuk_kit.server import run, serve
from tovuk_kit.settings import ServiceSettings

async def slow(request, context):
    print("entered", flush=True)
    await asyncio.sleep(0.3)
    return Frame(payload=b"finished")

def register(server):
    handlers = {"Slow": grpc.unary_unary_rpc_method_handler(slow, Frame.FromString, Frame.SerializeToString)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tests.Frames", handlers),))

async def ready():
    print("up", flush=True)
    return True

async def stop():
    print("stopped,", "frozen" if gc.get_freeze_count() else "not frozen", flush=True)

settings = ServiceSettings(listen=sys.argv[1], internal_key=sys.argv[2])
run(serve(settings=settings, services=[register], ready=ready, stop=stop))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_process_told_to_end_answers_what_it_began_stops_its_service_and_exits_with_zero(
    address: str, internal_key: str, channel: Channel, method: Method, number: int
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PROCESS, address, internal_key, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            assert await process.stdout.readline() == b"up\n"
            call = asyncio.create_task(channel.unary(method(channel, "Slow"), Frame(), timeout_s=15, retry=False))
            while await process.stdout.readline() != b"entered\n":
                pass
            process.send_signal(number)
            assert (await call).payload == b"finished"
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert said.splitlines()[-1] == b"stopped, frozen"
    assert process.returncode == 0
