import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
import pytest

from tovuk.common.v1.common_pb2 import Frame
from tovuk_kit.client import ERROR_TRAILER, MESSAGE_BYTES_MAX, RESTART_WINDOW_S, Channel
from tovuk_kit.errors import (
    InternalError,
    Outcome,
    OutcomeUnknown,
    RemoteError,
    ServiceUnavailable,
    StoreUnavailable,
    TovukError,
)
from tovuk_kit.server import RunningServer

Host = Callable[..., Awaitable[RunningServer]]
Method = Callable[..., Any]


class Calls:
    """A method that hangs as long as it is told to, and counts."""

    def __init__(self) -> None:
        self.count = 0
        self.entered = asyncio.Event()
        self.hangs = False

    async def say(self, request: Frame, context: Any) -> Frame:
        self.count += 1
        self.entered.set()
        if self.hangs:
            await asyncio.Event().wait()
        return Frame(payload=b"said " + request.payload)


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.mark.parametrize("retry", [True, False])
async def test_service_that_was_never_there_did_nothing(channel: Channel, method: Method, retry: bool) -> None:
    with pytest.raises(ServiceUnavailable) as caught:
        await channel.unary(method(channel, "Say"), Frame(), timeout_s=0.3, retry=retry)
    assert caught.value.outcome is Outcome.NOT_DONE
    assert caught.value.params == {"service": "tests"}
    assert caught.value.retry_after_ms == 1000


async def test_mutation_to_an_absent_service_fails_without_waiting(channel: Channel, method: Method) -> None:
    async with asyncio.timeout(5):
        with pytest.raises(ServiceUnavailable):
            await channel.unary(method(channel, "Say"), Frame(), timeout_s=60, retry=False)


async def test_absent_service_is_given_up_in_a_second_and_then_at_once(channel: Channel, method: Method) -> None:
    now = asyncio.get_running_loop().time
    took_s = []
    for _ in range(3):
        began = now()
        with pytest.raises(ServiceUnavailable):
            await channel.unary(method(channel, "Say"), Frame(), timeout_s=60, retry=True)
        took_s.append(now() - began)
    assert RESTART_WINDOW_S / 2 < took_s[0] < RESTART_WINDOW_S * 2
    assert sum(took_s[1:]) < RESTART_WINDOW_S


async def test_service_that_restarts_within_the_window_is_not_missed(
    host: Host, channel: Channel, method: Method, calls: Calls
) -> None:
    for _ in range(2):  # an outage that is over does not shorten the next one's window
        call = asyncio.create_task(channel.unary(method(channel, "Say"), Frame(), timeout_s=60, retry=True))
        await asyncio.sleep(RESTART_WINDOW_S * 0.6)
        server = await host(Say=calls.say)
        assert (await call).payload == b"said "
        await server.stop()


async def test_mutation_to_a_name_without_an_address_was_surely_not_sent(method: Method) -> None:
    channel = Channel("nobody.invalid:1", "key", "tests")
    try:
        with pytest.raises(ServiceUnavailable):
            await channel.unary(method(channel, "Say"), Frame(), timeout_s=20, retry=False)
    finally:
        await channel.close()


async def test_mutation_lost_with_its_service_has_an_unknown_outcome_and_is_not_repeated(
    host: Host, channel: Channel, method: Method, calls: Calls
) -> None:
    calls.hangs = True
    server = await host(Say=calls.say)
    call = asyncio.create_task(channel.unary(method(channel, "Say"), Frame(), timeout_s=20, retry=False))
    await calls.entered.wait()
    await server.stop()
    with pytest.raises(OutcomeUnknown) as caught:
        await call
    assert caught.value.outcome is Outcome.UNKNOWN
    assert caught.value.params == {"service": "tests"}
    assert calls.count == 1


async def test_read_lost_with_its_service_is_repeated_at_the_next_one(
    host: Host, channel: Channel, method: Method, calls: Calls
) -> None:
    calls.hangs = True
    server = await host(Say=calls.say)
    call = asyncio.create_task(channel.unary(method(channel, "Say"), Frame(payload=b"x"), timeout_s=20, retry=True))
    await calls.entered.wait()
    await server.stop()
    calls.hangs = False
    await host(Say=calls.say)
    assert (await call).payload == b"said x"
    assert calls.count == 2


async def test_restarted_service_is_found_within_a_second(
    host: Host, channel: Channel, method: Method, calls: Calls
) -> None:
    server = await host(Say=calls.say)
    await channel.unary(method(channel, "Say"), Frame(), retry=False)
    await server.stop()
    for _ in range(5):
        with pytest.raises(ServiceUnavailable):
            await channel.unary(method(channel, "Say"), Frame(), timeout_s=0.2, retry=True)
    await host(Say=calls.say)
    async with asyncio.timeout(1):
        await channel.unary(method(channel, "Say"), Frame(), retry=True)


@pytest.mark.parametrize(
    ("retry", "error", "outcome"),
    [(True, ServiceUnavailable, Outcome.NOT_DONE), (False, OutcomeUnknown, Outcome.UNKNOWN)],
)
async def test_deadline_ends_a_call(
    host: Host, channel: Channel, method: Method, calls: Calls, retry: bool, error: type[TovukError], outcome: Outcome
) -> None:
    calls.hangs = True
    await host(Say=calls.say)
    with pytest.raises(error) as caught:
        await channel.unary(method(channel, "Say"), Frame(), timeout_s=0.2, retry=retry)
    assert caught.value.outcome is outcome


async def test_failure_the_service_itself_names_is_not_repeated(host: Host, channel: Channel, method: Method) -> None:
    count = 0

    async def fail(request: Frame, context: Any) -> Frame:
        nonlocal count
        count += 1
        raise StoreUnavailable(outcome=Outcome.UNKNOWN)

    await host(Fail=fail)
    with pytest.raises(RemoteError) as caught:
        await channel.unary(method(channel, "Fail"), Frame(), retry=True)
    assert caught.value.code == "store_unavailable"
    assert count == 1


async def test_code_of_another_version_is_an_internal_error(host: Host, channel: Channel, method: Method) -> None:
    class Newer(TovukError):
        code = "internal_error"

    async def fail(request: Frame, context: Any) -> Frame:
        error = Newer()
        error.code = "a_code_of_next_year"  # type: ignore[misc]
        raise error

    await host(Fail=fail)
    with pytest.raises(TovukError) as caught:
        await channel.unary(method(channel, "Fail"), Frame(), retry=False)
    assert caught.value.code == "internal_error"


@pytest.mark.parametrize("trailer", [b"\xff\xff", b"", b"\x0a\x01x\x1a\x05maybe"])
async def test_trailer_that_cannot_be_read_is_an_internal_error(
    host: Host, channel: Channel, method: Method, trailer: bytes
) -> None:
    async def fail(request: Frame, context: Any) -> Frame:
        await context.abort(grpc.StatusCode.INTERNAL, "", ((ERROR_TRAILER, trailer),))
        raise AssertionError

    await host(Fail=fail)
    with pytest.raises(InternalError) as caught:
        await channel.unary(method(channel, "Fail"), Frame(), retry=False)
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_method_nobody_serves_is_an_internal_error(host: Host, channel: Channel, method: Method) -> None:
    await host()
    with pytest.raises(InternalError):
        await channel.unary(method(channel, "Nothing"), Frame(), retry=True)


async def test_message_of_eight_mebibytes_passes_and_a_larger_one_is_an_internal_error(
    host: Host, channel: Channel, method: Method, calls: Calls
) -> None:
    await host(Say=calls.say)
    room = MESSAGE_BYTES_MAX - len(Frame(payload=b"x" * 5_000_000).SerializeToString()) + 5_000_000 - len(b"said ")
    reply = await channel.unary(method(channel, "Say"), Frame(payload=b"x" * room), retry=False)
    assert len(reply.payload) == room + len(b"said ")
    with pytest.raises(InternalError):
        await channel.unary(method(channel, "Say"), Frame(payload=b"x" * (MESSAGE_BYTES_MAX + 1)), retry=False)


async def test_stream_of_requests_gets_its_reply(host: Host, channel: Channel, method: Method) -> None:
    async def join(requests: AsyncIterator[Frame], context: Any) -> Frame:
        return Frame(payload=b"".join([request.payload async for request in requests]))

    async def parts() -> AsyncIterator[Frame]:
        yield Frame(payload=b"a")
        yield Frame(payload=b"b")

    await host(Join=join)
    reply = await channel.send_stream(method(channel, "Join", "stream_unary"), parts(), timeout_s=5)
    assert reply.payload == b"ab"


async def test_what_a_stream_of_requests_raises_ends_the_call_and_is_raised(
    host: Host, channel: Channel, method: Method
) -> None:
    ended = asyncio.Event()

    async def join(requests: AsyncIterator[Frame], context: Any) -> Frame:
        try:
            return Frame(payload=b"".join([request.payload async for request in requests]))
        finally:
            ended.set()

    async def parts() -> AsyncIterator[Frame]:
        yield Frame(payload=b"a")
        raise ZeroDivisionError

    await host(Join=join)
    with pytest.raises(ZeroDivisionError):
        await channel.send_stream(method(channel, "Join", "stream_unary"), parts(), timeout_s=5)
    await asyncio.wait_for(ended.wait(), 5)


async def test_lost_stream_of_requests_has_an_unknown_outcome(host: Host, channel: Channel, method: Method) -> None:
    entered = asyncio.Event()

    async def join(requests: AsyncIterator[Frame], context: Any) -> Frame:
        await anext(requests)
        entered.set()
        await asyncio.Event().wait()
        return Frame()

    async def parts() -> AsyncIterator[Frame]:
        yield Frame(payload=b"a")

    server = await host(Join=join)
    call = asyncio.create_task(channel.send_stream(method(channel, "Join", "stream_unary"), parts(), timeout_s=20))
    await entered.wait()
    await server.stop()
    with pytest.raises(OutcomeUnknown):
        await call


async def test_stream_of_replies_comes_whole(host: Host, channel: Channel, method: Method) -> None:
    async def count(request: Frame, context: Any) -> AsyncIterator[Frame]:
        for number in range(3):
            yield Frame(payload=b"%d" % number)

    await host(Count=count)
    replies = channel.receive_stream(method(channel, "Count", "unary_stream"), Frame(), timeout_s=5)
    assert [reply.payload async for reply in replies] == [b"0", b"1", b"2"]


async def test_leaving_a_stream_of_replies_cancels_it_at_the_service(
    host: Host, channel: Channel, method: Method
) -> None:
    ended = asyncio.Event()

    async def count(request: Frame, context: Any) -> AsyncIterator[Frame]:
        try:
            yield Frame(payload=b"0")
            await asyncio.Event().wait()
        finally:
            ended.set()

    await host(Count=count)
    async with aclosing(
        channel.receive_stream(method(channel, "Count", "unary_stream"), Frame(), timeout_s=20)
    ) as replies:
        assert (await anext(replies)).payload == b"0"
    async with asyncio.timeout(5):
        await ended.wait()


async def test_lost_stream_of_replies_is_a_service_unavailable(host: Host, channel: Channel, method: Method) -> None:
    async def count(request: Frame, context: Any) -> AsyncIterator[Frame]:
        yield Frame(payload=b"0")
        await asyncio.Event().wait()

    server = await host(Count=count)
    replies = channel.receive_stream(method(channel, "Count", "unary_stream"), Frame(), timeout_s=20)
    assert (await anext(replies)).payload == b"0"
    await server.stop()
    with pytest.raises(ServiceUnavailable):
        await anext(replies)
