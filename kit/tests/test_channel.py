"""The data channel's two sides against each other: the Coalescer, and the service's Exchange."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import msgspec
import pytest

from tovuk.common.v1.common_pb2 import Frame
from tovuk.common.v1.frames import Failed
from tovuk_kit import channel as module
from tovuk_kit.channel import FRAME_BYTES_MAX, FRAME_OPERATIONS_MAX, Coalescer
from tovuk_kit.client import Channel
from tovuk_kit.errors import (
    InternalError,
    Outcome,
    OutcomeUnknown,
    RemoteError,
    ServiceUnavailable,
    StorageFull,
    TovukError,
)
from tovuk_kit.exchange import Exchange
from tovuk_kit.server import RunningServer


class Read(msgspec.Struct, array_like=True, tag="r"):
    id: int
    text: str


class Write(msgspec.Struct, array_like=True, tag="w"):
    id: int
    text: str


class Said(msgspec.Struct, array_like=True, tag="s"):
    id: int
    text: str


Op = Read | Write
Ans = Said
Host = Callable[..., Awaitable[RunningServer]]
GrpcioHost = Callable[..., Awaitable[grpc.aio.Server]]
Method = Callable[..., Any]
Open = Callable[..., Coalescer[Op, Ans]]

encode = msgspec.msgpack.Encoder().encode
decode_operations = msgspec.msgpack.Decoder(list[Op]).decode
decode_answers = msgspec.msgpack.Decoder(list[Ans | Failed]).decode


class Service:
    """The other side: notes the frames and operations it got, answers at once unless an operation's text is held."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, int]] = []
        self.done: list[str] = []
        self.held: set[str] = set()
        self.holding: dict[str, Callable[[], None]] = {}
        #: How many streams end with an error after their first frame.
        self.breaks = 0

    def handle(self, op: Op, reply: Callable[[Ans], None]) -> None:
        match op.text:
            case "fact":
                raise StorageFull
            case "bug":
                raise ValueError(op.text)
        self.done.append(op.text)
        answer = Said(op.id, op.text)
        if op.text in self.held:
            self.holding[op.text] = lambda: reply(answer)
        else:
            reply(answer)

    def release(self, text: str) -> None:
        self.holding.pop(text)()

    def decode(self, payload: bytes) -> list[Op]:
        operations = decode_operations(payload)
        self.frames.append((len(operations), len(payload)))
        if self.breaks:
            self.breaks -= 1
            raise RuntimeError("a fault of the test")
        return operations

    def exchange(self) -> Exchange[Op, Ans]:
        return Exchange(
            method="/tests.Frames/Exchange",
            decode=self.decode,
            encode=encode,
            # Looked up anew: a test may change it.
            handle=lambda op, reply: self.handle(op, reply),  # noqa: PLW0108
        )

    async def wait_for(self, predicate: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not predicate():  # noqa: ASYNC110 nobody tells what a callback did
                await asyncio.sleep(0.001)


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def server(host: Host, service: Service) -> RunningServer:
    return await host(exchange=service.exchange())


@pytest.fixture
async def open_coalescer(channel: Channel, method: Method) -> AsyncIterator[Open]:
    opened: list[Coalescer[Op, Ans]] = []

    def make(**options: Any) -> Coalescer[Op, Ans]:
        coalescer: Coalescer[Op, Ans] = Coalescer(
            channel,
            "/tests.Frames/Exchange",
            encode=encode,
            decode=decode_answers,
            is_read=lambda op: isinstance(op, Read),
            **options,
        )
        opened.append(coalescer)
        return coalescer

    yield make
    for coalescer in opened:
        await coalescer.close(patience_s=0)


async def result(coalescer: Coalescer[Op, Ans], op: Op) -> Ans | TovukError:
    try:
        return await coalescer.call(op)
    except TovukError as error:
        return error


def start(coalescer: Coalescer[Op, Ans], op: Op) -> asyncio.Task[Ans | TovukError]:
    """Submit now; the task gives what came of it."""
    future: asyncio.Future[Ans | TovukError] = asyncio.get_running_loop().create_future()
    coalescer.submit(op, lambda outcome: future.done() or future.set_result(outcome))

    async def wait() -> Ans | TovukError:
        async with asyncio.timeout(20):
            return await future

    return asyncio.create_task(wait())


async def test_operation_gets_its_answer(server: RunningServer, open_coalescer: Open) -> None:
    assert await open_coalescer().call(Read(0, "hello")) == Said(1, "hello")


async def test_operations_of_one_tick_travel_in_one_frame(
    server: RunningServer, open_coalescer: Open, service: Service
) -> None:
    coalescer = open_coalescer()
    await coalescer.call(Read(0, "first"))
    await asyncio.gather(*[coalescer.call(Read(0, str(number))) for number in range(50)])
    assert [operations for operations, _ in service.frames] == [1, 50]


async def test_frame_holds_at_most_128_operations(
    server: RunningServer, open_coalescer: Open, service: Service
) -> None:
    coalescer = open_coalescer()
    await asyncio.gather(*[coalescer.call(Read(0, str(number))) for number in range(FRAME_OPERATIONS_MAX + 1)])
    assert [operations for operations, _ in service.frames] == [FRAME_OPERATIONS_MAX, 1]


async def test_frame_holds_at_most_a_mebibyte_unless_one_operation_is_larger(
    server: RunningServer, open_coalescer: Open, service: Service
) -> None:
    coalescer = open_coalescer()
    await asyncio.gather(*[coalescer.call(Write(0, "x" * 60_000)) for _ in range(100)])
    assert sum(operations for operations, _ in service.frames) == 100
    assert max(size for _, size in service.frames) <= FRAME_BYTES_MAX
    service.frames.clear()
    answer = await coalescer.call(Write(0, "y" * (FRAME_BYTES_MAX + 1)))
    assert isinstance(answer, Said)
    assert [operations for operations, _ in service.frames] == [1]


async def test_answers_larger_than_a_frame_come_in_several(
    server: RunningServer, open_coalescer: Open, service: Service
) -> None:
    texts = [str(number) * 100_000 for number in range(9)]
    service.held = set(texts)
    coalescer = open_coalescer()
    calls = [start(coalescer, Write(0, text)) for text in texts * 3]
    await service.wait_for(lambda: len(service.done) == 27)
    service.held = set()
    for text in texts:
        service.release(text)
    done, _ = await asyncio.wait(calls, timeout=10, return_when=asyncio.FIRST_COMPLETED)
    assert done


async def test_second_frame_of_mutations_waits_while_one_is_unanswered_and_reads_go_on(
    server: RunningServer, open_coalescer: Open, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FRAME_PATIENCE_S", 60)
    service.held = {"1"}
    coalescer = open_coalescer()
    first = start(coalescer, Write(0, "1"))
    await service.wait_for(lambda: "1" in service.holding)
    waiting = [start(coalescer, Write(0, "2")), start(coalescer, Write(0, "3"))]
    assert await coalescer.call(Read(0, "4")) == Said(4, "4")
    assert service.done == ["1", "4"]
    service.release("1")
    assert await first == Said(1, "1")
    assert await asyncio.gather(*waiting) == [Said(2, "2"), Said(3, "3")]


async def test_third_frame_of_reads_waits_until_either_of_two_is_answered(
    server: RunningServer, open_coalescer: Open, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FRAME_PATIENCE_S", 60)
    service.held = {"1", "2"}
    coalescer = open_coalescer()
    held = []
    for text in ("1", "2"):
        held.append(start(coalescer, Read(0, text)))
        await service.wait_for(lambda text=text: text in service.holding)  # type: ignore[misc]
    waiting = [start(coalescer, Read(0, "3")), start(coalescer, Read(0, "4"))]
    await coalescer.call(Write(0, "5"))
    assert service.done == ["1", "2", "5"]
    service.release("2")
    assert await asyncio.gather(*waiting) == [Said(3, "3"), Said(4, "4")]
    assert [operations for operations, _ in service.frames] == [1, 1, 1, 2]
    service.release("1")
    assert await asyncio.gather(*held) == [Said(1, "1"), Said(2, "2")]


async def test_slow_operations_hold_up_nobody_else(
    server: RunningServer, open_coalescer: Open, service: Service
) -> None:
    service.held = {"1", "2"}
    coalescer = open_coalescer()
    slow = []
    for text in ("1", "2"):
        slow.append(start(coalescer, Write(0, text)))
        await service.wait_for(lambda text=text: text in service.holding)  # type: ignore[misc]
    async with asyncio.timeout(4):
        assert await coalescer.call(Write(0, "quick")) == Said(3, "quick")
    service.release("2")
    service.release("1")
    assert await asyncio.gather(*slow) == [Said(1, "1"), Said(2, "2")]


async def test_exception_of_a_callback_harms_no_other_operation(
    server: RunningServer, open_coalescer: Open, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(answer: Ans | TovukError) -> None:
        raise ValueError("a fault of the caller")

    coalescer = open_coalescer()
    coalescer.submit(Read(0, "a"), fail)
    assert await coalescer.call(Read(0, "b")) == Said(2, "b")
    assert await coalescer.call(Read(0, "c")) == Said(3, "c")
    assert "a fault of the caller" in caplog.text


async def test_exception_of_the_service_answers_that_operation_alone(
    server: RunningServer, open_coalescer: Open, caplog: pytest.LogCaptureFixture
) -> None:
    coalescer = open_coalescer()
    calls = [coalescer.call(Write(0, text)) for text in ("a", "fact", "bug", "b")]
    first, fact, bug, last = await asyncio.gather(*calls, return_exceptions=True)
    assert (first, last) == (Said(1, "a"), Said(4, "b"))
    assert isinstance(fact, RemoteError) and fact.code == "storage_full" and fact.outcome is Outcome.NOT_DONE
    assert isinstance(bug, RemoteError) and bug.code == "internal_error"
    assert caplog.text.count("Traceback") == 1


async def test_operation_that_cannot_be_encoded_fails_alone(server: RunningServer, open_coalescer: Open) -> None:
    coalescer = open_coalescer()
    texts = ("a", "\ud800", "b")
    answers = await asyncio.gather(*[result(coalescer, Write(0, text)) for text in texts])
    assert isinstance(answers[1], InternalError)
    assert (answers[0], answers[2]) == (Said(1, "a"), Said(3, "b"))


@pytest.mark.parametrize("payload", [b"", b"\xc1", encode([["q", 1, "x"]]), encode([["r", "1", "x"]])])
async def test_malformed_frame_ends_the_stream(
    server: RunningServer, data_channel: Channel, method: Method, payload: bytes
) -> None:
    call = method(data_channel, "Exchange", "stream_stream")(metadata=data_channel.metadata())
    await call.write(Frame(payload=encode([Read(7, "before")])))
    assert decode_answers((await call.read()).payload) == [Said(7, "before")]
    await call.write(Frame(payload=payload))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_channel_that_holds_too_much_refuses_at_once_but_never_within_the_call(
    server: RunningServer, open_coalescer: Open, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PENDING_OPERATIONS_MAX", 2)
    service.held = {"1"}
    coalescer = open_coalescer()
    first, second = start(coalescer, Write(0, "1")), start(coalescer, Write(0, "2"))
    refused: list[Ans | TovukError] = []
    coalescer.submit(Write(0, "3"), refused.append)
    assert refused == []
    await service.wait_for(lambda: "1" in service.holding)
    assert [type(error) for error in refused] == [ServiceUnavailable]
    service.release("1")
    assert [await first, await second] == [Said(1, "1"), Said(2, "2")]
    assert await coalescer.call(Write(0, "4")) == Said(3, "4")
    assert "3" not in service.done


@pytest.mark.parametrize(("op", "error"), [(Read(0, "x"), ServiceUnavailable), (Write(0, "x"), OutcomeUnknown)])
async def test_deadline_ends_an_operation_and_a_late_answer_is_ignored(
    server: RunningServer,
    open_coalescer: Open,
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    op: Op,
    error: type[TovukError],
) -> None:
    monkeypatch.setattr(module, "SWEEP_S", 0.02)
    service.held = {"x"}
    coalescer = open_coalescer(timeout_s=0.1)
    assert type(await result(coalescer, op)) is error
    service.release("x")
    assert await coalescer.call(Read(0, "next")) == Said(2, "next")


async def test_mutation_whose_deadline_passes_in_the_queue_is_surely_not_done(
    server: RunningServer, open_coalescer: Open, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SWEEP_S", 0.02)
    monkeypatch.setattr(module, "FRAME_PATIENCE_S", 60)
    service.held = {"1"}
    coalescer = open_coalescer(timeout_s=0.3)
    sent = start(coalescer, Write(0, "1"))
    await service.wait_for(lambda: "1" in service.holding)
    queued = start(coalescer, Write(0, "2"))
    assert [type(await call) for call in (sent, queued)] == [OutcomeUnknown, ServiceUnavailable]
    assert await coalescer.call(Write(0, "3")) == Said(3, "3")
    assert "2" not in service.done


async def test_lost_stream_repeats_a_read_once_and_never_a_mutation(
    server: RunningServer, open_coalescer: Open, service: Service
) -> None:
    coalescer = open_coalescer()
    await coalescer.call(Read(0, "first"))
    service.breaks = 1
    read, write = start(coalescer, Read(0, "r")), start(coalescer, Write(0, "w"))
    assert isinstance(await write, OutcomeUnknown)
    assert await read == Said(2, "r")
    assert service.done == ["first", "r"]
    service.breaks = 2
    assert isinstance(await result(coalescer, Read(0, "r")), ServiceUnavailable)
    assert await coalescer.call(Read(0, "last")) == Said(5, "last")


async def test_frames_not_yet_written_when_the_stream_is_lost_go_to_the_next(
    server: RunningServer, open_coalescer: Open, service: Service
) -> None:
    coalescer = open_coalescer(timeout_s=60)
    await coalescer.call(Read(0, "first"))
    service.breaks = 1
    names = [f"{number}{'x' * 60_000}" for number in range(FRAME_OPERATIONS_MAX)]
    outcomes = await asyncio.gather(*[start(coalescer, Write(0, name)) for name in names])
    for name, outcome in zip(names, outcomes, strict=True):
        assert service.done.count(name) == (1 if isinstance(outcome, Said) else 0)
        assert isinstance(outcome, Said | OutcomeUnknown)
    assert isinstance(outcomes[0], OutcomeUnknown)
    assert isinstance(outcomes[-1], Said)


async def test_stream_that_ends_in_order_leaves_even_mutations_to_the_next(
    grpcio_host: GrpcioHost, open_coalescer: Open
) -> None:
    streams = 0
    done: list[str] = []

    async def exchange(requests: AsyncIterator[Frame], context: Any) -> AsyncIterator[Frame]:
        nonlocal streams
        streams += 1
        await context.send_initial_metadata(())
        if streams == 1:
            # The client writes as soon as it was let in; what it wrote is there, unread, when the stream ends.
            await asyncio.sleep(0.05)
            return
        async for frame in requests:
            operations = decode_operations(frame.payload)
            done.extend(op.text for op in operations)
            yield Frame(payload=encode([Said(op.id, op.text) for op in operations]))

    await grpcio_host(Exchange=exchange)
    assert await open_coalescer().call(Write(0, "w")) == Said(1, "w")
    assert done == ["w"]


async def test_killed_service_fails_what_it_had_and_its_successor_is_found(
    host: Host, server: RunningServer, open_coalescer: Open, service: Service
) -> None:
    service.held = {"r", "w"}
    coalescer = open_coalescer()
    read, write = start(coalescer, Read(0, "r")), start(coalescer, Write(0, "w"))
    await service.wait_for(lambda: len(service.holding) == 2)
    await server.stop()
    assert isinstance(await write, OutcomeUnknown)
    assert isinstance(await read, ServiceUnavailable)
    assert isinstance(await result(coalescer, Write(0, "meanwhile")), ServiceUnavailable)
    await host(exchange=service.exchange())
    async with asyncio.timeout(1):
        while isinstance(await result(coalescer, Write(0, "after")), ServiceUnavailable):
            pass
    assert service.done.count("after") == 1
    assert "meanwhile" not in service.done


async def test_draining_service_answers_what_it_read(
    host: Host, server: RunningServer, open_coalescer: Open, service: Service
) -> None:
    service.held = {"w"}
    coalescer = open_coalescer()
    write = start(coalescer, Write(0, "w"))
    await service.wait_for(lambda: "w" in service.holding)
    drain = asyncio.create_task(server.drain())
    await asyncio.sleep(0.05)
    late = start(coalescer, Write(0, "late"))
    await asyncio.sleep(0.05)
    assert not drain.done()
    service.release("w")
    assert await write == Said(1, "w")
    async with asyncio.timeout(5):
        await drain
    assert isinstance(await late, ServiceUnavailable)
    assert service.done == ["w"]


async def test_wrong_key_fails_every_operation_as_a_fault_of_ours(
    server: RunningServer, address: str, method: Method
) -> None:
    channel = Channel(address, "the key of another house", "tests")
    coalescer: Coalescer[Op, Ans] = Coalescer(
        channel,
        "/tests.Frames/Exchange",
        encode=encode,
        decode=decode_answers,
        is_read=lambda op: isinstance(op, Read),
    )
    assert isinstance(await result(coalescer, Write(0, "x")), InternalError)
    await coalescer.close(patience_s=0)
    await channel.close()


async def test_close_waits_for_answers_and_refuses_what_comes_later(
    server: RunningServer, open_coalescer: Open, service: Service
) -> None:
    service.held = {"w"}
    coalescer = open_coalescer()
    write = start(coalescer, Write(0, "w"))
    await service.wait_for(lambda: "w" in service.holding)
    closing = asyncio.create_task(coalescer.close())
    await asyncio.sleep(0.02)
    assert isinstance(await result(coalescer, Write(0, "late")), ServiceUnavailable)
    assert not closing.done()
    service.release("w")
    assert await write == Said(1, "w")
    await closing


async def test_close_that_runs_out_of_patience_tells_what_is_unknown(
    server: RunningServer, open_coalescer: Open, service: Service
) -> None:
    service.held = {"w"}
    coalescer = open_coalescer()
    write = start(coalescer, Write(0, "w"))
    await service.wait_for(lambda: "w" in service.holding)
    await coalescer.close(patience_s=0.01)
    assert isinstance(await write, OutcomeUnknown)


async def test_caller_who_left_harms_no_other_operation(
    server: RunningServer, open_coalescer: Open, service: Service
) -> None:
    service.held = {"gone"}
    coalescer = open_coalescer()
    gone = asyncio.create_task(coalescer.call(Write(0, "gone")))
    await service.wait_for(lambda: "gone" in service.holding)
    gone.cancel()
    await asyncio.wait([gone])
    service.release("gone")
    assert await coalescer.call(Read(0, "next")) == Said(2, "next")


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_happens_each_operation_ends_once_and_as_it_says(
    host: Host, server: RunningServer, open_coalescer: Open, service: Service, seed: int
) -> None:
    """Servers die, drain and break streams under load. Nothing is done twice, nor done when said not to be."""
    chance = random.Random(seed)
    coalescer = open_coalescer()
    outcomes: dict[str, list[Ans | TovukError]] = {}
    mutations: set[str] = set()
    loop = asyncio.get_running_loop()
    answered = asyncio.Event()

    def submit(name: str, make: type[Op]) -> None:
        results = outcomes.setdefault(name, [])
        if make is Write:
            mutations.add(name)

        def note(outcome: Ans | TovukError) -> None:
            results.append(outcome)
            if all(outcomes.values()):
                answered.set()

        coalescer.submit(make(0, name), note)

    def handle_later(op: Op, reply: Callable[[Ans], None]) -> None:
        service.done.append(op.text)
        loop.call_later(chance.choice((0, 0, 0.001, 0.03)), reply, Said(op.id, op.text))

    service.handle = handle_later  # type: ignore[method-assign]
    for step in range(100):
        for number in range(chance.randrange(40)):
            submit(f"{step}.{number}", chance.choice((Read, Write)))
        match chance.randrange(25):
            case 0:
                await server.stop()
                server = await host(exchange=service.exchange())
            case 1:
                await server.drain()
                server = await host(exchange=service.exchange())
            case 2:
                service.breaks += 1
            case _:
                await asyncio.sleep(chance.random() * 0.02)
    answered.clear()
    submit("last", Read)
    async with asyncio.timeout(20):
        await answered.wait()

    assert all(len(results) == 1 for results in outcomes.values())
    done = {name: service.done.count(name) for name in outcomes}
    for name, [outcome] in outcomes.items():
        match outcome:
            case Said():
                assert outcome.text == name
                assert done[name] == 1 if name in mutations else done[name] >= 1
            case OutcomeUnknown():
                assert outcome.outcome is Outcome.UNKNOWN
                assert name in mutations
                assert done[name] <= 1
            case ServiceUnavailable():
                assert outcome.outcome is Outcome.NOT_DONE
                assert name not in mutations or done[name] == 0
            case _:
                pytest.fail(repr(outcome))
    kinds = {type(outcome) for [outcome] in outcomes.values()}
    assert Said in kinds
