from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tovuk.common.v1.common_pb2 import Frame
from tovuk_kit import telemetry
from tovuk_kit.client import Channel
from tovuk_kit.errors import RemoteError, StorageFull
from tovuk_kit.server import RunningServer
from tovuk_kit.tracing import OpenTelemetryTracing

Host = Callable[..., Awaitable[RunningServer]]
Method = Callable[..., Any]


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry.trace_with(OpenTelemetryTracing(provider))
    yield exporter
    telemetry.trace_with(None)


def spans(exporter: InMemorySpanExporter) -> dict[tuple[str, SpanKind], ReadableSpan]:
    return {(span.name, span.kind): span for span in exporter.get_finished_spans()}


async def test_call_and_what_it_calls_are_one_trace(
    host: Host, channel: Channel, method: Method, exporter: InMemorySpanExporter
) -> None:
    async def inner(request: Frame, context: Any) -> AsyncIterator[Frame]:
        yield Frame()

    async def outer(request: Frame, context: Any) -> Frame:
        async for reply in channel.receive_stream(method(channel, "Inner", "unary_stream"), Frame(), timeout_s=5):
            return reply
        raise AssertionError

    server = await host(Outer=outer, Inner=inner)
    await channel.unary(method(channel, "Outer"), Frame(), retry=False)
    await server.drain()
    found = spans(exporter)
    chain = [
        found["tests.Frames/Outer", SpanKind.CLIENT],
        found["tests.Frames/Outer", SpanKind.SERVER],
        found["tests.Frames/Inner", SpanKind.CLIENT],
        found["tests.Frames/Inner", SpanKind.SERVER],
    ]
    assert chain[0].parent is None
    for caller, called in pairwise(chain):
        assert called.parent is not None
        assert called.parent.span_id == caller.context.span_id
    assert len({span.context.trace_id for span in chain}) == 1


async def test_failed_call_is_a_failed_span_on_both_sides(
    host: Host, channel: Channel, method: Method, exporter: InMemorySpanExporter
) -> None:
    async def fail(request: Frame, context: Any) -> Frame:
        raise StorageFull

    server = await host(Fail=fail)
    with pytest.raises(RemoteError):
        await channel.unary(method(channel, "Fail"), Frame(), retry=False)
    await server.drain()
    assert [span.status.status_code for span in spans(exporter).values()] == [StatusCode.ERROR] * 2
