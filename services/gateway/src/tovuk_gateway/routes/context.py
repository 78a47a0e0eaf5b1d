"""What the routes share: the owners they ask, how a caller is let in, how an answer is written."""

import time
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import Path, Request, Response
from starlette.convertors import Convertor, register_url_convertor

from tovuk_gateway import limits
from tovuk_gateway.bodies import Gate, json_object, whole
from tovuk_gateway.chain import Chain, Need
from tovuk_gateway.clients.control import Caller, ControlClient, Service
from tovuk_gateway.clients.kv import KvClient
from tovuk_gateway.clients.metering import MeteringClient
from tovuk_gateway.clients.sqlite import SqliteClient
from tovuk_gateway.envelope import Answer, Envelope, ok
from tovuk_gateway.errors import InvalidLimit, InvalidRequest, Unauthenticated
from tovuk_gateway.paths import SLASH


class _Segment(Convertor[str]):
    """One path segment, with the slashes that were percent-encoded in it; see `paths.routing_path`."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        return value.replace(SLASH, "/")

    def to_string(self, value: str) -> str:
        return value.replace("/", SLASH)


register_url_convertor("segment", _Segment())

ServiceRef = Annotated[str, Path(description="A service's id or name.", examples=["service_4f1d0c7a9b2e8d3f6a50"])]
NamespaceRef = Annotated[str, Path(description="A namespace's id or name.", examples=["CACHE"])]
Key = Annotated[str, Path(description="The key; percent-encode a slash as %2F.", examples=["user:1"])]


class Reply(Response):
    """An answer as FastAPI wants it, its headers exactly those of the fast path."""

    def __init__(self, answer: Answer) -> None:
        self.status_code = answer.status
        self.body = answer.body
        self.background = None
        self.raw_headers = answer.all_headers()


@dataclass(frozen=True, slots=True)
class Context:
    """The owners and the shared parts of this process."""

    chain: Chain
    envelope: Envelope
    control: ControlClient
    metering: MeteringClient
    kv: KvClient
    sqlite: SqliteClient
    gate: Gate
    operator_contact: str

    async def admit(self, request: Request, need: Need) -> Caller:
        """The caller of a request, let in."""
        return await self.chain.admit(authorization(request), need)

    async def admit_to_service(self, request: Request, need: Need, ref: str) -> tuple[Caller, Service]:
        """The caller of a request, let in, and the service it names."""
        return await self.chain.admit_to_service(authorization(request), need, ref)

    def hinted(
        self, content: dict[str, Any], instruction: str, docs: str, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> Reply:
        """A success whose next step is not obvious. `instruction` is constant text; `docs` a path of ours."""
        url = f"{self.envelope.public_url}{docs}"
        return Reply(ok({**content, "agent_instruction": instruction, "docs_url": url}, headers=headers))


def authorization(request: Request) -> bytes | None:
    """The Authorization header as it came; several of them are as good as none."""
    values = request.headers.getlist("authorization")
    if len(values) > 1:
        raise Unauthenticated
    return values[0].encode("latin-1") if values else None


def success(content: object) -> Reply:
    """A JSON success."""
    return Reply(ok(content))


def raw_success(body: bytes) -> Reply:
    """A JSON success that is bytes already."""
    return Reply(Answer(200, body))


async def body_object(request: Request) -> dict[str, Any]:
    """The JSON object of a small body."""
    return json_object(await whole(request.receive, request.headers, limit_bytes=limits.PLAIN_BODY_BYTES_MAX))


def text_field(content: dict[str, Any], name: str, default: str | None = None) -> str:
    """A string field of a body; required where there is no default."""
    value = content.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise InvalidRequest(reason=f"{name} must be a string")
    return value


def query_text(request: Request, name: str) -> str:
    """A query parameter; empty when absent, the last one when repeated."""
    values = request.query_params.getlist(name)
    if values and "\ufffd" in values[-1]:
        raise InvalidRequest(reason=f"{name} must be UTF-8")
    return values[-1] if values else ""


def page_limit(request: Request, minimum: int, maximum: int, default: int) -> int:
    """`limit` of the query; InvalidLimit unless it is an integer of the range."""
    text = query_text(request, "limit")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and minimum <= int(text) <= maximum):
        raise InvalidLimit(minimum=minimum, maximum=maximum)
    return int(text)


def moment(unix_ms: int) -> str | None:
    """A moment as RFC 3339 in UTC with milliseconds; None for 0."""
    if not unix_ms:
        return None
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(unix_ms // 1000))}.{unix_ms % 1000:03d}Z"


def embedded(json: bytes) -> Any:
    """JSON of an owner, as a value to embed."""
    return orjson.loads(json) if json else None
