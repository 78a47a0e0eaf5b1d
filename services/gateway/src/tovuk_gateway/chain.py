"""What happens to a request before its route does, in order.

    name it (request id) → split its path → authenticate → authorise → limit its rate → find its service → route

Rate limits are control's: authenticating a control call counts it. Data calls are bounded by caps instead, so they may
be authenticated from the cache. Everything a token or a service reference was found to mean is remembered for seconds
and forgotten at once on a change notice; while control cannot be reached, for half a minute. See decisions.md, Tokens.
"""

import asyncio
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from enum import Enum
from typing import Any, Generic, TypeVar

from tovuk_gateway import limits
from tovuk_gateway.clients.control import Caller, ControlClient, Service
from tovuk_gateway.envelope import Answer, Envelope
from tovuk_gateway.errors import CapabilityDisabled, ForbiddenScope, ServiceNotFound, Unauthenticated
from tovuk_gateway.paths import routing_path
from tovuk_kit import tasks
from tovuk_kit.clock import Clock
from tovuk_kit.errors import InternalError, OutcomeUnknown, ServiceUnavailable, TovukError
from tovuk_kit.telemetry import counter, histogram, request_id
from tovuk_kit.tokens import digest, may_be_genuine

_log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_UNREACHABLE = (ServiceUnavailable, OutcomeUnknown)

_GIVEN_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
# Ids name requests in logs; nobody gains from guessing one.
_ids = random.Random()  # noqa: S311


def name_request(given: bytes | None) -> str:
    """The caller's request id where it is a plain word, else a new one."""
    if given is not None and _GIVEN_REQUEST_ID.fullmatch(given):
        return given.decode()
    return "request_" + _ids.randbytes(10).hex()


class Need(Enum):
    """What a call asks of its caller: the scopes that reach it, and whether it is a control call."""

    #: Reading what an account or a service consists of.
    READ = (("user", "read"), True)
    #: Changing it.
    WRITE = (("user",), True)
    #: The resources of one service, which its own runtime may see.
    INSPECT = (("user", "read", "runtime"), True)
    #: Reading data.
    DATA_READ = (("user", "read", "runtime"), False)
    #: Changing data, and reading it with a method that is not GET.
    DATA_WRITE = (("user", "runtime"), False)
    #: Running the installation.
    OPERATE = (("operator",), True)

    def __init__(self, scopes: tuple[str, ...], control_call: bool) -> None:
        self.scopes = frozenset(scopes)
        self.named_scope = scopes[0]
        self.control_call = control_call


_Key = TypeVar("_Key")
_Found = TypeVar("_Found")


class _Memory(Generic[_Key, _Found]):
    """A bounded memory of answers with the moment each was given; the oldest go first."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._entries: dict[_Key, tuple[_Found, float]] = {}
        #: Rises whenever something is forgotten: an answer asked for before must not be remembered after.
        self.generation = 0

    def get(self, key: _Key, now: float, seconds: float | None = None) -> _Found | None:
        """What was found at most `seconds` ago."""
        entry = self._entries.get(key)
        if entry is None or now - entry[1] > (self._seconds if seconds is None else seconds):
            return None
        return entry[0]

    def ages_past(self, key: _Key, now: float, seconds: float) -> bool:
        """Whether the entry is older than that."""
        entry = self._entries.get(key)
        return entry is not None and now - entry[1] > seconds

    def put(self, key: _Key, found: _Found, now: float) -> None:
        self._entries.pop(key, None)
        if len(self._entries) >= limits.CACHE_ENTRIES_MAX:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = (found, now)

    def drop(self, key: _Key) -> None:
        """Forget one entry; nothing happens where there is none."""
        if self._entries.pop(key, None) is not None:
            self.generation += 1

    def forget(self, wanted: Callable[[_Key, _Found], bool]) -> None:
        self.generation += 1
        for key in [key for key, (found, _) in self._entries.items() if wanted(key, found)]:
            del self._entries[key]


class Chain:
    """Authenticates, authorises, limits the rate and finds services, for both ways a request can take."""

    def __init__(self, control: ControlClient, clock: Clock) -> None:
        self._control = control
        self._clock = clock
        # By the Authorization header as it came: hashing each time would cost more than the rest of a hot request.
        self._callers: _Memory[bytes, Caller] = _Memory(limits.CACHE_SECONDS)
        self._refused: _Memory[bytes, bool] = _Memory(limits.REFUSAL_CACHE_SECONDS)
        self._services: _Memory[tuple[str, str], Service] = _Memory(limits.CACHE_SECONDS)
        self._refreshing: dict[object, asyncio.Task[None]] = {}

    @property
    def generation(self) -> int:
        """Rises whenever a caller or a service is forgotten before its time."""
        return self._callers.generation + self._services.generation

    async def authenticate(self, authorization: bytes | None, *, control_call: bool) -> Caller:
        """The caller of an Authorization header. A control call is always asked of control, which counts it."""
        if authorization is None:
            raise Unauthenticated
        now = time.monotonic()
        if not control_call:
            caller = self.cached_caller(authorization)
            if caller is not None:
                return caller
        if self._refused.get(authorization, now):
            raise Unauthenticated
        token = _bearer(authorization)
        if token is None or not may_be_genuine(token):
            raise Unauthenticated
        generation = self._callers.generation
        try:
            caller = await self._control.authenticate(digest(token), control_call=control_call)
        except _UNREACHABLE:
            remembered = self._callers.get(authorization, now, limits.CACHE_UNREACHABLE_SECONDS)
            if remembered is None or self._expired(remembered):
                raise
            return remembered
        except TovukError as error:
            if error.code == Unauthenticated.code:
                self._callers.drop(authorization)
                self._refused.put(authorization, True, now)
                # Expired, revoked, unknown: the caller learns nothing more than this.
                raise Unauthenticated from None
            raise
        if generation == self._callers.generation:
            self._callers.put(authorization, caller, now)
        return caller

    def cached_caller(self, authorization: bytes) -> Caller | None:
        """The caller, if it was asked for in the last seconds; an entry that ages is asked for anew beside."""
        now = time.monotonic()
        caller = self._callers.get(authorization, now)
        if caller is None or self._expired(caller):
            return None
        if self._callers.ages_past(authorization, now, limits.CACHE_SECONDS / 2):
            self._refresh(authorization, lambda: self._ask_caller_again(authorization))
        return caller

    def authorise(self, caller: Caller, need: Need) -> None:
        """ForbiddenScope unless one of the caller's scopes reaches the call."""
        if not caller.scopes & need.scopes:
            raise ForbiddenScope(scope=need.named_scope)

    async def find_service(self, caller: Caller, ref: str, *, fresh: bool) -> Service:
        """The caller's service of this id or name. Foreign, deleted and absent ones raise the same ServiceNotFound."""
        key = (caller.account_id, ref)
        now = time.monotonic()
        service = None if fresh else self.cached_service(caller, ref)
        if service is None:
            service = await self._ask_service(key, now)
        if caller.service_id and service.id != caller.service_id:
            raise ServiceNotFound
        return service

    def cached_service(self, caller: Caller, ref: str) -> Service | None:
        """The service, if it was asked for in the last seconds; not checked against a runtime token's own service."""
        key = (caller.account_id, ref)
        now = time.monotonic()
        service = self._services.get(key, now)
        if service is not None and self._services.ages_past(key, now, limits.CACHE_SECONDS / 2):
            self._refresh(key, lambda: self._ask_service_again(key))
        return service

    async def admit(self, authorization: bytes | None, need: Need) -> Caller:
        """The caller, let in: authenticate, limit the rate, authorise."""
        caller = await self.authenticate(authorization, control_call=need.control_call)
        self.authorise(caller, need)
        return caller

    async def admit_to_service(self, authorization: bytes | None, need: Need, ref: str) -> tuple[Caller, Service]:
        """The caller, let in, and its service."""
        caller = await self.admit(authorization, need)
        return caller, await self.find_service(caller, ref, fresh=need.control_call)

    def forget_tokens(self) -> None:
        """A token was made or revoked, somewhere: ask anew."""
        self._callers.forget(lambda _, __: True)
        self._refused.forget(lambda _, __: True)

    def forget_services(self, account_id: str) -> None:
        """A service of the account was changed: ask anew."""
        self._services.forget(lambda key, _: key[0] == account_id)

    async def close(self) -> None:
        """End what runs beside requests."""
        await tasks.end(self._refreshing.values())

    def _expired(self, caller: Caller) -> bool:
        return 0 < caller.expires_at_ms <= self._clock.wall_ms()

    async def _ask_service(self, key: tuple[str, str], now: float) -> Service:
        generation = self._services.generation
        try:
            service = await self._control.resolve_service(*key)
        except _UNREACHABLE:
            remembered = self._services.get(key, now, limits.CACHE_UNREACHABLE_SECONDS)
            if remembered is None:
                raise
            return remembered
        except TovukError as error:
            if error.code == ServiceNotFound.code:
                self._services.forget(lambda other, _: other == key)
                raise ServiceNotFound from None
            raise
        if generation == self._services.generation:
            self._services.put(key, service, now)
        return service

    def _refresh(self, key: object, ask: Callable[[], Awaitable[None]]) -> None:
        if key not in self._refreshing:
            task = asyncio.ensure_future(ask())
            self._refreshing[key] = task
            task.add_done_callback(lambda _: self._refreshing.pop(key, None))

    async def _ask_caller_again(self, authorization: bytes) -> None:
        token = _bearer(authorization)
        generation = self._callers.generation
        now = time.monotonic()
        try:
            caller = await self._control.authenticate(digest(token or ""), control_call=False)
        except TovukError as error:
            if error.code == Unauthenticated.code:
                self._callers.forget(lambda key, _: key == authorization)
            return
        if generation == self._callers.generation:
            self._callers.put(authorization, caller, now)

    async def _ask_service_again(self, key: tuple[str, str]) -> None:
        try:
            await self._ask_service(key, time.monotonic())
        except TovukError:
            return


def _bearer(authorization: bytes) -> str | None:
    scheme, _, token = authorization.partition(b" ")
    if scheme.lower() != b"bearer":
        return None
    return token.strip().decode("latin-1")


def need_capability(service: Service, capability: str) -> None:
    """CapabilityDisabled unless the service has it."""
    if not service.capabilities.get(capability, False):
        raise CapabilityDisabled(capability=capability)


class Metrics:
    """Counts answers in memory; `flush` adds them to the registry, off the request's path."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, int], tuple[int, float]] = {}

    def add(self, route: str, status: int, seconds: float) -> None:
        key = (route, status)
        count, total = self._answers.get(key, (0, 0.0))
        self._answers[key] = (count + 1, total + seconds)

    def flush(self) -> None:
        answers, self._answers = self._answers, {}
        for (route, status), (count, seconds) in answers.items():
            counter("tovuk_http_requests_total", route, str(status)).inc(count)
            # One observation of the mean: a bucket a second is enough, one call a request is not free.
            histogram("tovuk_http_request_seconds", route).observe(seconds / count)


class Front:
    """The ASGI entry: names the request, splits its path, and turns whatever goes wrong into an envelope."""

    def __init__(self, app: App, envelope: Envelope, metrics: Metrics) -> None:
        self._app = app
        self._envelope = envelope
        self._metrics = metrics

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        began = time.monotonic()
        headers = dict(scope["headers"])
        name = name_request(headers.get(b"x-request-id"))
        token = request_id.set(name)
        exchange = _Exchange(receive, send, name, expects=headers.get(b"expect", b"").lower() == b"100-continue")
        scope["state"] = {"request_id": name}
        try:
            scope["path"] = routing_path(scope["method"], scope["raw_path"])
            await self._app(scope, exchange.receive, exchange.send)
        except Disconnected:
            _log.info("the peer left before its answer")
        except TovukError as error:
            await self._fail(exchange, error)
        except Exception:  # noqa: BLE001 this is where every fault of ours becomes an answer
            # Starlette answers 500 through our handler and raises all the same, so that somebody logs it: here, once.
            _log.exception("%s %s failed", scope["method"], _route_of(scope))
            await self._fail(exchange, InternalError())
        finally:
            request_id.reset(token)
            self._metrics.add(_route_of(scope), exchange.status, time.monotonic() - began)

    async def _fail(self, exchange: "_Exchange", error: TovukError) -> None:
        if exchange.status == 0:
            await write_answer(exchange.send, self._envelope.error(error, exchange.request_id))
        elif not exchange.complete:
            # Half an answer is out. Only a cut connection says so.
            raise error


class Disconnected(Exception):
    """The peer closed the connection before its request was complete."""


class _Exchange:
    """One request's ASGI callables, with what is added to every answer."""

    def __init__(self, receive: Receive, send: Send, name: str, *, expects: bool) -> None:
        self._receive = receive
        self._send = send
        self.request_id = name
        self._waits_for_100 = expects
        self.status = 0
        self.complete = False

    async def receive(self) -> Message:
        self._waits_for_100 = False
        return await self._receive()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], (b"x-request-id", self.request_id.encode())]
            if self._waits_for_100:
                # The body was never asked for; what comes next on this connection may be it or another request.
                message["headers"].append((b"connection", b"close"))
        elif not message.get("more_body", False):
            self.complete = True
        await self._send(message)


async def write_answer(send: Send, answer: Answer) -> None:
    """Send a complete answer over ASGI."""
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.all_headers()})
    await send({"type": "http.response.body", "body": answer.body})


def _route_of(scope: Message) -> str:
    return getattr(scope.get("route"), "path_format", "none")
