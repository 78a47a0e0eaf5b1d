"""Real servers in this process, on Unix sockets in the test's own directory, with methods the test gives."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlite_node import engine_of

from tovuk.common.v1.common_pb2 import Frame
from tovuk_kit.client import Channel, data_target
from tovuk_kit.server import RunningServer, start_server
from tovuk_kit.sqlite_library import Connection, Library

#: `await host(Say=say)` serves the async functions given as methods of `tests.Frames`, whose messages are all Frames.
Host = Callable[..., Awaitable[RunningServer]]
#: The same by a plain grpcio server, without our interceptor, where a data channel would be served.
GrpcioHost = Callable[..., Awaitable[grpc.aio.Server]]
#: `method(channel, "Say", "unary_unary")` is the stub's method.
Method = Callable[..., Any]


@pytest.fixture(params=["stock", "native"])
def library(request: pytest.FixtureRequest) -> Library[Connection]:
    """What holds for a file holds on every library of SQLite; the native one is the sqlite service's."""
    return engine_of(request.param).library


@pytest.fixture
def internal_key() -> str:
    return "an internal key of the tests"


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"unix:{tmp_path}/s"


@pytest.fixture
async def host(address: str, internal_key: str) -> AsyncIterator[Host]:
    servers: list[RunningServer] = []

    async def start(
        *, ready: Any = None, ops_listen: str = "", listen: str = address, exchange: Any = None, **methods: Any
    ) -> RunningServer:
        handlers = {name: _handler(behaviour) for name, behaviour in methods.items()}

        def register(server: grpc.aio.Server) -> None:
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tests.Frames", handlers),))

        running = await start_server(
            listen,
            internal_key=internal_key,
            services=[register],
            exchange=exchange,
            ready=ready,
            ops_listen=ops_listen,
        )
        servers.append(running)
        return running

    yield start
    for server in servers:
        with suppress(grpc.aio.UsageError):
            await server.stop()


@pytest.fixture
async def grpcio_host(address: str) -> AsyncIterator[GrpcioHost]:
    servers: list[grpc.aio.Server] = []

    async def start(**methods: Any) -> grpc.aio.Server:
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
        handlers = {name: _handler(behaviour) for name, behaviour in methods.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tests.Frames", handlers),))
        server.add_insecure_port(data_target(address))
        await server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.stop(0)


@pytest.fixture
async def data_channel(address: str, internal_key: str) -> AsyncIterator[Channel]:
    """A plain gRPC channel to where the data channel is served."""
    channel = Channel(data_target(address), internal_key, "tests")
    yield channel
    await channel.close()


@pytest.fixture
async def channel(address: str, internal_key: str) -> AsyncIterator[Channel]:
    channel = Channel(address, internal_key, "tests")
    yield channel
    await channel.close()


@pytest.fixture
def method() -> Method:
    def make(channel: Channel, name: str, kind: str = "unary_unary") -> Any:
        return getattr(channel.grpc, kind)(
            f"/tests.Frames/{name}", request_serializer=Frame.SerializeToString, response_deserializer=Frame.FromString
        )

    return make


def _handler(behaviour: Any) -> grpc.RpcMethodHandler:
    """The kind follows from the signature: a first parameter `requests` is a stream, so is an iterator returned."""
    signature = inspect.signature(behaviour)
    takes = "stream" if next(iter(signature.parameters)) == "requests" else "unary"
    gives = "unary" if inspect.iscoroutinefunction(behaviour) else "stream"
    make: Mapping[str, Any] = vars(grpc)
    handler: grpc.RpcMethodHandler = make[f"{takes}_{gives}_rpc_method_handler"](
        behaviour, Frame.FromString, Frame.SerializeToString
    )
    return handler
