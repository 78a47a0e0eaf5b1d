"""The fast path: plain gets, puts and deletes of one small KV value, and SQLite queries, in the parser's callbacks.

Hot path: below 12 µs of CPU a request beside uvicorn's transport and the data channel.

    bytes → httptools → on_headers_complete: is it plain? ─ yes → on_message_complete: operation → data channel → answer
                                                         └ no → uvicorn's own callbacks → FastAPI

A request is plain when it is a whole HTTP/1.1 keep-alive request for `S/kv/{namespace}/values/{key}` or
`S/sqlite/{database}/query` without a query string, its caller and service are remembered, its body is at most 64 KiB
and of known length, and nothing else is in flight on its connection. Everything else runs on into FastAPI, on the same
connection and in order: while a plain request is in flight, uvicorn queues what follows it, as it does behind any other
request. Parsing, operations and answers are those of `routes.kv_values` and `routes.sqlite_statements`, so that both
ways say the same. A service may answer that a request is not plain after all: then nothing was done.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from tovuk_gateway import limits
from tovuk_gateway.chain import Chain, Metrics, Need, name_request
from tovuk_gateway.clients.kv import KvClient
from tovuk_gateway.clients.sqlite import SqliteClient
from tovuk_gateway.envelope import Answer, Envelope
from tovuk_gateway.errors import HeaderTooLarge, InvalidPath, InvalidRequest, RequestTimeout
from tovuk_gateway.paths import decode_segment
from tovuk_gateway.routes import kv_values, sqlite_statements
from tovuk_kit.errors import InternalError, TovukError

_log = logging.getLogger(__name__)

_WATCHED: Final = frozenset(
    {
        b"authorization",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"if-match",
        b"if-none-match",
        b"transfer-encoding",
        b"upgrade",
        b"x-request-id",
    }
)
#: Never twice.
_ONCE: Final = frozenset({b"host", b"transfer-encoding", b"content-length"})
#: With one of these a request is not plain.
_NOT_PLAIN: Final = frozenset({b"content-encoding", b"expect", b"transfer-encoding", b"upgrade"})
_NEEDS: Final = {
    b"GET": Need.DATA_READ,
    b"PUT": Need.DATA_WRITE,
    b"DELETE": Need.DATA_WRITE,
    b"POST": Need.DATA_WRITE,
}
_WITH_BODY: Final = frozenset({b"PUT", b"POST"})

#: How long a refused peer may take to stop sending and read its answer.
_LINGER_SECONDS: Final = 2.0
_SWEEP_SECONDS: Final = 1.0


class _Refused(Exception):
    """Ends the parsing of a connection; `error` is its answer."""

    def __init__(self, error: TovukError) -> None:
        super().__init__(error.code)
        self.error = error


class _Head(NamedTuple):
    """What the headers of a message mean, in bytes and names as they came; None for absent ones."""

    headers: list[tuple[bytes, bytes]]
    #: Bytes of all names and values.
    size: int
    has_host: bool
    coding: bytes | None
    length: bytes | None
    #: Whether nothing among them keeps a request off the fast path.
    plain: bool
    is_json: bool
    authorization: bytes
    if_match: bytes | None
    if_none_match: bytes | None
    request_id: bytes | None


def _read_head(headers: list[tuple[bytes, bytes]]) -> _Head:
    """Raises _Refused for repeated headers that two servers could read differently."""
    size = 0
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        size += len(name) + len(value)
        if name in _WATCHED:
            if name in found and name in _ONCE:
                raise _Refused(InvalidRequest(reason=f"it has several {name.decode()} headers"))
            found[name] = b"" if name in found and name == b"authorization" else value
    coding = found.get(b"transfer-encoding")
    return _Head(
        headers,
        size,
        b"host" in found,
        None if coding is None else coding.lower(),
        found.get(b"content-length"),
        _NOT_PLAIN.isdisjoint(found),
        found.get(b"content-type", b"application/json") == b"application/json",
        found.get(b"authorization", b""),
        found.get(b"if-match"),
        found.get(b"if-none-match"),
        found.get(b"x-request-id"),
    )


_NO_HEAD: Final = _read_head([])


class _Place(NamedTuple):
    """What a caller's path means, up to the key, and until when that is believed without a look at the chain."""

    account_id: str
    service_id: str
    #: The namespace's or database's name or id.
    resource: str
    plan: str
    route: "_Route"
    until: float
    generation: int


class _Route(NamedTuple):
    """How plain requests of one route are done."""

    #: As metrics name it, on either path.
    name: str
    #: The operation, given the request and its body; None for what FastAPI does. Raises TovukError.
    operation: Callable[["_Plain", bytes], Any]
    submit: Callable[[Any, Callable[[Any], None]], None]
    #: The answer to an operation's result; None for what FastAPI does. Raises TovukError.
    answer: Callable[[Any, Any], Answer | None]


def _value_op(plain: "_Plain", body: bytes) -> Any:
    place = plain.place
    target = (place.account_id, place.service_id, place.resource, plain.key)
    if plain.method == b"GET":
        return kv_values.get_op(*target, plain.if_none_match)
    if plain.method == b"PUT":
        return kv_values.put_op(*target, body, plain.if_match, plain.if_none_match)
    return kv_values.delete_op(*target, plain.if_match)


def _statement_op(plain: "_Plain", body: bytes) -> Any:
    place = plain.place
    return sqlite_statements.op_of(place.account_id, place.service_id, place.resource, place.plan, body)


def _statement_answer(_op: Any, result: Any) -> Answer | None:
    return sqlite_statements.answer_of(result)


class Hot:
    """What the connections of one process share."""

    def __init__(self, chain: Chain, kv: KvClient, sqlite: SqliteClient, envelope: Envelope, metrics: Metrics) -> None:
        self.chain = chain
        self._values = _Route(
            "/v1/services/{service}/kv/{namespace}/values/{key}", _value_op, kv.submit, kv_values.answer_of
        )
        self._query = _Route(
            "/v1/services/{service}/sqlite/{database}/query", _statement_op, sqlite.submit, _statement_answer
        )
        self.envelope = envelope
        self.metrics = metrics
        self.connections: set[HotProtocol] = set()
        self._places: dict[tuple[bytes, bytes, bytes], _Place] = {}
        self._default_headers: list[tuple[bytes, bytes]] | None = None
        self._default_block = b""
        self._sweeper: asyncio.TimerHandle | None = None

    def protocol(self, **given: Any) -> "HotProtocol":
        """A protocol for one connection; uvicorn's `http` setting."""
        if self._sweeper is None:
            self._sweep()
        return HotProtocol(self, **given)

    def place(self, method: bytes, need: Need, authorization: bytes, prefix: bytes, now: float) -> _Place | None:
        """Where a path leads for this caller, a value's without its key, if everything about it is remembered."""
        known = self._places.get((method, authorization, prefix))
        if known is not None and now < known.until and known.generation == self.chain.generation:
            return known
        place = self._find_place(method, need, authorization, prefix, now)
        if place is not None:
            if len(self._places) >= limits.CACHE_ENTRIES_MAX:
                self._places.clear()
            self._places[method, authorization, prefix] = place
        return place

    def _find_place(self, method: bytes, need: Need, authorization: bytes, prefix: bytes, now: float) -> _Place | None:
        parts = prefix.split(b"/")
        if len(parts) != 7 or parts[:3] != [b"", b"v1", b"services"]:
            return None
        capability, route = ("sqlite", self._query) if method == b"POST" else ("kv", self._values)
        if (parts[4], parts[6]) != ((b"sqlite", b"query") if method == b"POST" else (b"kv", b"values")):
            return None
        chain = self.chain
        caller = chain.cached_caller(authorization)
        if caller is None or need.scopes.isdisjoint(caller.scopes):
            return None
        try:
            reference, resource = decode_segment(parts[3]), decode_segment(parts[5])
        except InvalidPath:
            return None
        service = chain.cached_service(caller, reference)
        if service is None or not service.capabilities.get(capability, False):
            return None
        if caller.service_id and caller.service_id != service.id:
            return None
        # A token that ends is looked at each time.
        until = now if caller.expires_at_ms else now + limits.PLACE_SECONDS
        return _Place(caller.account_id, service.id, resource, caller.plan, route, until, chain.generation)

    def default_block(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """uvicorn's own headers, Date above all, as bytes; uvicorn makes a new list every second."""
        if headers is not self._default_headers:
            self._default_headers = headers
            self._default_block = b"".join(b"%b: %b\r\n" % header for header in headers)
        return self._default_block

    def close(self) -> None:
        """End what runs beside connections."""
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(_SWEEP_SECONDS, self._sweep)
        now = loop.time()
        for connection in list(self.connections):
            connection.check_time(now)


class _Running:
    """Stands where uvicorn keeps a request's cycle while a plain request is in flight, so that the next ones queue."""

    __slots__ = ("disconnected", "keep_alive", "message_event", "more_body", "response_complete", "response_started")

    def __init__(self) -> None:
        self.response_complete = True
        self.response_started = False
        self.keep_alive = True
        self.disconnected = False
        self.more_body = False
        self.message_event = asyncio.Event()


class _Plain:
    """A plain request: whose, for what."""

    __slots__ = (
        "began",
        "headers",
        "if_match",
        "if_none_match",
        "key",
        "method",
        "op",
        "place",
        "request_id",
        "url",
    )

    began: float
    headers: list[tuple[bytes, bytes]]
    if_match: bytes | None
    if_none_match: bytes | None
    key: str
    method: bytes
    op: Any
    place: _Place
    request_id: str
    url: bytes


class HotProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        hot: Hot,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._hot = hot
        self._running = _Running()
        #: The plain request whose body is being received, or that is in flight.
        self._plain: _Plain | None = None
        self._receiving = False
        self._body = b""
        self._messages = 0
        self._in_message = False
        self._in_head = False
        self._head = _NO_HEAD
        #: HTTP's, of the message whose head came last.
        self._version = ""
        self._head_bytes = 0
        self._discarded_bytes = 0
        self._deadline = 0.0
        self._stalled_since = 0.0
        self._draining = False
        #: The peer was refused: nothing it sends is read any more.
        self._refused = False
        self._upgraded = False
        self.url = b""
        self.headers = []

    # The transport's callbacks.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._hot.connections.add(self)
        self._deadline = self.loop.time() + limits.HEAD_SECONDS_MAX

    def connection_lost(self, exc: Exception | None) -> None:
        self._hot.connections.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused or self._upgraded:
            return
        self._unset_keepalive_if_required()
        message, in_head = self._messages, self._in_head
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # No other protocol is spoken here: the request is answered as it is, and the connection ends with it.
            self._upgraded = True
            return
        except httptools.HttpParserCallbackError as failure:
            cause = failure.__context__ or failure.__cause__
            if isinstance(cause, _Refused):
                self._refuse(cause.error)
            else:
                _log.exception("a request could not be taken")
                self._refuse(InternalError())
            return
        except httptools.HttpParserError:
            self._refuse(InvalidRequest(reason="it is not well-formed HTTP/1.1"))
            return
        if self._in_message:
            self._wait_for_more(len(data), new=message != self._messages or not in_head)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled_since = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stalled_since = 0.0

    def shutdown(self) -> None:
        """Finish what is in flight or half received, then close."""
        self._draining = True
        idle = self.cycle is None or self.cycle.response_complete
        if not (idle and self._in_message):
            super().shutdown()

    def check_time(self, now: float) -> None:
        """Called every second: end what takes too long."""
        if self._stalled_since and now - self._stalled_since > limits.WRITE_STALL_SECONDS_MAX:
            self.transport.abort()
        elif now < self._deadline or self.transport.is_closing():
            return
        elif self._refused:
            self.transport.abort()
        elif self._in_head or self._receiving:
            self._refuse(RequestTimeout())
        elif self.cycle is None or self.cycle.response_complete:
            if self._in_message:
                self.transport.abort()
            elif self.timeout_keep_alive_task is None:
                self.transport.close()

    # The parser's callbacks.

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self._in_message = self._in_head = True
        self._messages += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        head = self._check_head()
        if head.plain and (self.cycle is None or self.cycle.response_complete):
            plain = self._as_plain(head)
            if plain is not None:
                self._plain = plain
                self._receiving = True
                self._body = b""
                running = self._running
                running.response_complete = running.disconnected = False
                running.keep_alive = True
                self.cycle = running  # type: ignore[assignment]
                return
        self._hand_over()

    def on_body(self, body: bytes) -> None:
        if self._receiving:
            self._body += body
            return
        if self.cycle.response_complete:
            self._discarded_bytes += len(body)
            if self._discarded_bytes > limits.DISCARD_BYTES_MAX:
                self.transport.abort()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_message = False
        self._discarded_bytes = 0
        if self._receiving:
            self._receiving = False
            self._begin()
        else:
            super().on_message_complete()

    def _check_head(self) -> _Head:
        """What the head says. Raises _Refused for one that two servers could read differently."""
        headers, known = self.headers, self._head
        # A client's requests on one connection mostly have the same headers.
        if headers != known.headers:
            known = self._head = _read_head(headers)
        if len(self.url) + known.size > limits.HEAD_BYTES_MAX or len(headers) > limits.HEADERS_MAX:
            raise _Refused(HeaderTooLarge())
        if not self.url.isascii():
            raise _Refused(InvalidPath(reason="bytes beyond ASCII must be percent-encoded"))
        self._version = version = self.parser.get_http_version()
        if version == "1.1":
            if not known.has_host:
                raise _Refused(InvalidRequest(reason="it has no Host header"))
        elif version != "1.0":
            raise _Refused(InvalidRequest(reason="only HTTP/1.1 and HTTP/1.0 are spoken here"))
        coding = known.coding
        if coding is not None and (coding != b"chunked" or version == "1.0" or known.length is not None):
            raise _Refused(InvalidRequest(reason="its Transfer-Encoding is not plain chunked"))
        return known

    def _as_plain(self, head: _Head) -> _Plain | None:
        """The request, if the fast path can take it."""
        url = self.url
        if b"?" in url or b"#" in url:
            return None
        method = self.parser.get_method()
        need = _NEEDS.get(method)
        if need is None or self._draining or self.flow.write_paused:
            return None
        if not self.parser.should_keep_alive() or self._version != "1.1":
            return None
        length = head.length
        if method in _WITH_BODY:
            if length is None or int(length) > limits.SMALL_BODY_BYTES_MAX or not head.is_json:
                return None
        elif length is not None and int(length):
            return None
        prefix, raw_key = url, None
        if method != b"POST":
            prefix, _, raw_key = url.rpartition(b"/")
        began = time.monotonic()
        place = self._hot.place(method, need, head.authorization, prefix, began)
        if place is None:
            return None
        try:
            key = decode_segment(raw_key) if raw_key is not None else ""
        except InvalidPath:
            return None
        plain = _Plain()
        plain.place = place
        plain.key = key
        plain.method = method
        plain.if_match = head.if_match
        plain.if_none_match = head.if_none_match
        plain.request_id = name_request(head.request_id)
        plain.began = began
        plain.url = url
        plain.headers = self.headers
        plain.op = None
        return plain

    def _hand_over(self) -> None:
        """Let uvicorn take the request, as if its own callbacks had been called all along."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        try:
            path = httptools.parse_url(url).path
        except httptools.HttpParserInvalidURLError:
            path = None
        if not path:
            raise _Refused(InvalidPath(reason="the request line has none"))
        super().on_headers_complete()
        if self._draining or self.parser.should_upgrade():
            self.cycle.keep_alive = False

    # A plain request on its way.

    def _begin(self) -> None:
        plain = self._plain
        assert plain is not None
        route = plain.place.route
        try:
            plain.op = op = route.operation(plain, self._body)
        except TovukError as error:
            self._answer(self._hot.envelope.error(error, plain.request_id))
            return
        if op is None:
            self._go_on(plain)
        else:
            route.submit(op, self._settle)

    def _settle(self, result: Any) -> None:
        plain = self._plain
        assert plain is not None
        if self.transport.is_closing():
            self._running.response_complete = True
            return
        answer: Answer | None
        try:
            answer = plain.place.route.answer(plain.op, result)
        except TovukError as error:
            answer = self._hot.envelope.error(error, plain.request_id)
        except Exception:  # noqa: BLE001 this is where every fault of ours becomes an answer
            _log.exception("an answer could not be written, request %s", plain.request_id)
            answer = self._hot.envelope.error(InternalError(), plain.request_id)
        if answer is None:
            self._go_on(plain)
        else:
            self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        plain, running = self._plain, self._running
        assert plain is not None
        keep_alive = running.keep_alive and not self._draining
        self._plain = None
        self._body = b""
        running.response_complete = True
        self.transport.write(
            b"".join(
                (
                    STATUS_LINE[answer.status],
                    self._hot.default_block(self.server_state.default_headers),
                    answer.head(),
                    b"x-request-id: ",
                    plain.request_id.encode(),
                    b"\r\n\r\n" if keep_alive else b"\r\nconnection: close\r\n\r\n",
                    answer.body,
                )
            )
        )
        # uvloop's clock is the same one, cached once a tick.
        now = time.monotonic()
        self._hot.metrics.add(plain.place.route.name, answer.status, now - plain.began)
        if not keep_alive:
            self.server_state.total_requests += 1
            self.transport.close()
        elif self.pipeline:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1
            self._deadline = now + limits.KEEP_ALIVE_SECONDS

    def _go_on(self, plain: _Plain) -> None:
        """It is not plain after all, and FastAPI does it. The parser may be further on, so the cycle is made here."""
        self._plain = None
        body, self._body = self._body, b""
        self._running.response_complete = True
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": self.root_path,
            "headers": plain.headers,
            "state": self.app_state.copy(),
            "method": plain.method.decode(),
            "path": plain.url.decode("ascii"),
            "raw_path": plain.url,
            "query_string": b"",
        }
        cycle = RequestResponseCycle(
            scope=scope,  # type: ignore[arg-type]
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=self._running.keep_alive and not self._draining,
            on_response=self.on_response_complete,
        )
        cycle.body = bytearray(body)
        cycle.more_body = False
        cycle.message_event.set()
        if self.cycle is self._running:  # type: ignore[comparison-overlap]
            self.cycle = cycle
        self._start_asgi_task(cycle, self.app)

    # What goes wrong on the connection itself.

    def _wait_for_more(self, received_bytes: int, *, new: bool) -> None:
        """A message is incomplete after what came: bound its head, and the time until more comes."""
        now = self.loop.time()
        if not self._in_head:
            self._deadline = now + limits.BODY_PAUSE_SECONDS_MAX
            return
        if new:
            self._deadline = now + limits.HEAD_SECONDS_MAX
            self._head_bytes = 0
        self._head_bytes += received_bytes
        if self._head_bytes > 2 * limits.HEAD_BYTES_MAX and not new:
            self._refuse(HeaderTooLarge())

    def _refuse(self, error: TovukError) -> None:
        """Answer with an error and end the connection, unless an earlier request is still owed its answer."""
        self._refused = True
        cycle = self.cycle
        own = self._receiving or cycle is None or cycle.response_complete or (cycle.more_body and not self.pipeline)
        if not own:
            # Its answer comes first, and the peer learns the rest from the end of the connection.
            cycle.keep_alive = False
            return
        if cycle is not None and not self._receiving and cycle.response_started and not cycle.response_complete:
            self.transport.abort()
            return
        self._receiving = False
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        request_id = name_request(None)
        answer = self._hot.envelope.error(error, request_id)
        headers = [header for header in answer.all_headers() if header[0] != b"connection"]
        self.transport.write(
            b"".join(
                (
                    STATUS_LINE[answer.status],
                    self._hot.default_block(self.server_state.default_headers),
                    *(b"%b: %b\r\n" % header for header in headers),
                    b"x-request-id: %b\r\nconnection: close\r\n\r\n" % request_id.encode(),
                    answer.body,
                )
            )
        )
        self._hot.metrics.add("none", answer.status, 0.0)
        # Closing at once with bytes unread would reset the connection and take the answer with it.
        self._deadline = self.loop.time() + _LINGER_SECONDS
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
