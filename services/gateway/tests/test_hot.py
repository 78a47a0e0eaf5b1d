"""The fast path says what FastAPI says, in order, and survives what peers do to a connection."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio

from tovuk_gateway import hot as fast
from tovuk_gateway import limits
from tovuk_kit.errors import catalogue


@dataclass
class Taken:
    """How many requests the fast path took."""

    requests: int = 0


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Taken:
    counted = Taken()
    begin = fast.HotProtocol._begin

    def count(self: fast.HotProtocol) -> None:
        counted.requests += 1
        begin(self)

    monkeypatch.setattr(fast.HotProtocol, "_begin", count)
    return counted


@dataclass
class Way:
    """One of the two ways to the same service, with a namespace of its own."""

    client: httpx.AsyncClient
    prefix: str
    #: Versions in the order they were seen.
    versions: dict[str, int]

    async def ask(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> dict[str, Any]:
        """The answer without what must differ: dates, request ids, and versions by their order."""
        for name, value in headers.items():
            headers = {**headers, name: re.sub(r"<(\d+)>", lambda m: self._version(int(m[1])), value)}
        answer = await self.client.request(method, self.prefix + path, headers=headers, content=body)
        assert answer.headers["x-request-id"]
        if method != "HEAD" and "content-length" in answer.headers:
            assert int(answer.headers["content-length"]) == len(answer.content)
        seen = {name: value for name, value in answer.headers.items() if name not in {"date", "x-request-id"}}
        seen.pop("content-length", None)
        content = re.sub(r'"request_id":"[^"]*"', "", answer.text)
        content = re.sub(r'\\"(\d+)\\"', lambda m: f"<{self._order(m[1])}>", content)
        if "etag" in seen:
            seen["etag"] = f"<{self._order(seen['etag'].strip(chr(34)))}>"
        return {"status": answer.status_code, "headers": seen, "content": content}

    def _order(self, version: str) -> int:
        return self.versions.setdefault(version, len(self.versions))

    def _version(self, order: int) -> str:
        return next(version for version, place in self.versions.items() if place == order)


@pytest_asyncio.fixture
async def ways(house: Any, served: Any, owner: Any, conftest: Any) -> AsyncIterator[tuple[Way, Way]]:
    """The fast way and the slow way."""
    async with (
        conftest.serving(house.settings(), hot=False) as slow,
        served.client(owner.token) as one,
        slow.client(owner.token) as two,
    ):
        made = []
        for client, name in ((one, "FAST"), (two, "SLOW")):
            await client.post(f"/v1/services/{owner.service_id}/kv/namespaces", json={"name": name})
            # Both callers and services are remembered from here on.
            prefix = f"/v1/services/{owner.service_id}/kv/{name}/values"
            assert (await client.get(f"{prefix}/warm")).status_code == 404
            made.append(Way(client, prefix, {}))
        yield made[0], made[1]


def _json(**content: Any) -> bytes:
    return orjson.dumps(content)


# Each case: its steps, each a method, a path below the namespace's values, headers, a body and the status.
CASES: dict[str, list[tuple[str, str, dict[str, str], bytes | None, int]]] = {
    "a value comes back": [
        ("PUT", "/user:1", {}, _json(value='{"name":"Ada"}', encoding="text", metadata={"kind": "profile"}), 200),
        ("GET", "/user:1", {}, None, 200),
        ("DELETE", "/user:1", {}, None, 200),
        ("GET", "/user:1", {}, None, 404),
        ("DELETE", "/user:1", {}, None, 200),
    ],
    "bytes come back as base64": [
        ("PUT", "/b", {}, _json(value="AP+AwyjtoIA=", encoding="base64"), 200),
        ("GET", "/b", {}, None, 200),
        ("GET", "/b?encoding=base64", {}, None, 200),
        ("GET", "/b?encoding=text", {}, None, 400),
    ],
    "text can be asked for as base64": [
        ("PUT", "/t", {}, _json(value='é\u2028\u0000"\\'), 200),
        ("GET", "/t", {}, None, 200),
        ("GET", "/t?encoding=base64", {}, None, 200),
    ],
    "keys of every shape": [
        ("PUT", "/a%2Fb%2f..%2F", {}, _json(value="slash"), 200),
        ("GET", "/a%2Fb%2F..%2f", {}, None, 200),
        ("PUT", "/%E2%82%AC%20%25%3F%23", {}, _json(value="euro"), 200),
        ("GET", "/%e2%82%ac%20%25%3f%23", {}, None, 200),
        ("PUT", "/%252F", {}, _json(value="percent"), 200),
        ("GET", "/%252F", {}, None, 200),
        ("GET", "/%2F", {}, None, 404),
        ("PUT", "/" + "k" * 512, {}, _json(value="long"), 200),
        ("PUT", "/" + "k" * 513, {}, _json(value="long"), 400),
        ("GET", "/" + "k" * 513, {}, None, 400),
        ("DELETE", "/" + "k" * 513, {}, None, 400),
        ("PUT", "/" + "%C3%A9" * 256, {}, _json(value="long"), 200),
        ("PUT", "/" + "%C3%A9" * 256 + "x", {}, _json(value="long"), 400),
        ("GET", "/%ff", {}, None, 400),
        ("GET", "/%2e%2E", {}, None, 400),
        ("GET", "/%zz", {}, None, 400),
        ("GET", "/a/b", {}, None, 404),
        ("GET", "/a/", {}, None, 404),
        ("PUT", "/a/", {}, _json(value="x"), 404),
        ("DELETE", "/", {}, None, 404),
    ],
    "conditions": [
        ("PUT", "/c", {"if-none-match": "*"}, _json(value="1"), 200),
        ("PUT", "/c", {"if-none-match": "*"}, _json(value="2"), 412),
        ("GET", "/c", {"if-none-match": '"<0>"'}, None, 304),
        ("GET", "/c", {"if-none-match": 'W/"<0>", "x"'}, None, 304),
        ("PUT", "/c", {"if-match": '"<0>"'}, _json(value="2"), 200),
        ("PUT", "/c", {"if-match": '"<0>"'}, _json(value="3"), 412),
        ("PUT", "/c", {"if-match": 'W/"<1>"'}, _json(value="3"), 412),
        ("GET", "/c", {"if-none-match": '"<0>"'}, None, 200),
        ("DELETE", "/c", {"if-match": '"<0>"'}, None, 412),
        ("DELETE", "/c", {"if-match": "nonsense"}, None, 400),
        ("GET", "/c", {"if-none-match": "nonsense"}, None, 400),
        ("DELETE", "/c", {"if-match": '"x", "<1>"'}, None, 200),
    ],
    "expiry": [
        ("PUT", "/e", {}, _json(value="1", expiration=1780272000), 200),
        ("GET", "/e", {}, None, 404),
        ("PUT", "/e", {}, _json(value="1", expiration=0), 200),
        ("GET", "/e", {}, None, 404),
        ("PUT", "/e", {}, _json(value="1", expiration=4102444800), 200),
        ("GET", "/e", {}, None, 200),
        ("PUT", "/e", {}, _json(value="1", expirationTtlSeconds=29), 400),
        ("PUT", "/e", {}, _json(value="1", expirationTtlSeconds=0), 400),
        ("PUT", "/e", {}, _json(value="1", expirationTtlSeconds=60, expiration=4102444800), 400),
        ("PUT", "/e", {}, _json(value="1", expiration=1.0), 400),
        ("PUT", "/e", {}, _json(value="1", expiration="1"), 400),
    ],
    "metadata": [
        ("PUT", "/m", {}, _json(value="1", metadata={"a": "x" * 1016}), 200),
        ("PUT", "/m", {}, _json(value="1", metadata={"a": "x" * 1017}), 400),
        ("PUT", "/m", {}, b'{"value":"1","metadata":{ "b" : 1.0, "a":[1e2, 12345678901234567890123] }}', 200),
        ("GET", "/m", {}, None, 200),
        ("PUT", "/m", {}, _json(value="1", metadata=[1]), 400),
        ("PUT", "/m", {}, _json(value="1"), 200),
        ("GET", "/m", {}, None, 200),
    ],
    "bad bodies": [
        ("PUT", "/x", {}, b"", 400),
        ("PUT", "/x", {}, b"{}", 400),
        ("PUT", "/x", {}, b"[]", 400),
        ("PUT", "/x", {}, b'"text"', 400),
        ("PUT", "/x", {}, b'{"value":1}', 400),
        ("PUT", "/x", {}, b'{"value":"a"', 400),
        ("PUT", "/x", {}, b'{"value":"\xff"}', 400),
        ("PUT", "/x", {}, b'{"value":"\\ud800"}', 400),
        ("PUT", "/x", {}, b'{"value":NaN}', 400),
        ("PUT", "/x", {}, b'{"value":"a","metadata":{"a":NaN}}', 400),
        ("PUT", "/x", {}, b'{"value":"a","metadata":' + b'{"a":' * 64 + b"1" + b"}" * 64 + b"}", 400),
        ("PUT", "/x", {}, b'{"value":"a","encoding":"hex"}', 400),
        ("PUT", "/x", {}, b'{"value":"YQ","encoding":"base64"}', 400),
        ("PUT", "/x", {"content-type": "text/plain"}, b'{"value":"a"}', 415),
        ("PUT", "/x", {"content-type": "application/json; charset=utf-8"}, b'{"value":"a"}', 200),
        ("PUT", "/x", {"content-encoding": "gzip"}, b'{"value":"a"}', 415),
        ("PUT", "/x", {}, b'{"value":"a","value":"b"}', 200),
        ("GET", "/x", {}, None, 200),
        ("GET", "/x", {}, b'{"ignored":1}', 200),
    ],
    "values at and beyond a frame": [
        ("PUT", "/f", {}, _json(value="x" * (limits.SMALL_BODY_BYTES_MAX - 12)), 200),
        ("GET", "/f", {}, None, 200),
        ("PUT", "/f", {}, _json(value="x" * (limits.SMALL_BODY_BYTES_MAX - 11)), 200),
        ("GET", "/f", {}, None, 200),
        ("PUT", "/f", {}, _json(value="x" * 65537), 200),
        ("GET", "/f", {}, None, 200),
        ("GET", "/f", {"if-none-match": '"<2>"'}, None, 304),
        ("PUT", "/f", {}, _json(value='é"\\' * 100_000, metadata={"a": 1}), 200),
        ("GET", "/f", {}, None, 200),
        ("GET", "/f?encoding=base64", {}, None, 200),
        ("PUT", "/f", {}, _json(value="x" * 200_000, expiration="never"), 400),
        ("PUT", "/f", {}, b" " * 70_000 + b'{"value":7}', 413),
        ("PUT", "/f", {}, b'{"value":7, "pad":"%b"}' % (b"x" * 65_500), 400),
    ],
    "methods and places": [
        ("PATCH", "/x", {}, None, 405),
        ("HEAD", "/x", {}, None, 405),
        ("OPTIONS", "/x", {}, None, 405),
        ("GET", "/../../../../../../health", {}, None, 200),
    ],
}


@pytest.mark.proves(
    "KV-031", "KV-032", "KV-033", "KV-034", "KV-050", "KV-051", "KV-052", "KV-053", "RES-107", "RES-023"
)
@pytest.mark.parametrize("case", CASES)
async def test_both_ways_give_the_same_answers(case: str, ways: tuple[Way, Way], taken: Taken) -> None:
    before = taken.requests
    for method, path, headers, body, status in CASES[case]:
        given = {"content-type": "application/json", **headers} if body else headers
        fast_answer, slow_answer = [await way.ask(method, path, dict(given), body) for way in ways]
        assert fast_answer == slow_answer
        assert fast_answer["status"] == status, (method, path, fast_answer)
        if status >= 400 and method != "HEAD":
            code = json.loads(fast_answer["content"].replace(",}", "}"))["code"]
            assert catalogue()[code].family.http == status
    assert taken.requests > before or case == "methods and places"


@pytest_asyncio.fixture
async def query_ways(house: Any, served: Any, owner: Any, conftest: Any) -> AsyncIterator[tuple[Way, Way]]:
    """The fast way and the slow way to a database of their own, each written and read before."""
    async with (
        conftest.serving(house.settings(), hot=False) as slow,
        served.client(owner.token) as one,
        slow.client(owner.token) as two,
    ):
        made = []
        for client, name in ((one, "FAST"), (two, "SLOW")):
            await client.post(f"/v1/services/{owner.service_id}/sqlite/databases", json={"name": name})
            prefix = f"/v1/services/{owner.service_id}/sqlite/{name}/query"
            for sql in ("create table t(id integer primary key, v)", "insert into t values (1, 'x')", "select 1"):
                assert (await client.post(prefix, json={"sql": sql})).status_code == 200
            made.append(Way(client, prefix, {}))
        yield made[0], made[1]


def _batch(*sql: str) -> bytes:
    return _json(statements=[{"sql": one} for one in sql])


COUNT = "with recursive c(x) as (select 1 union all select x + 1 from c where x < {}) "

# Each case: its steps, each a query string, headers, a body and the status.
STATEMENTS: dict[str, list[tuple[str, dict[str, str], bytes, int]]] = {
    "rows": [
        ("", {}, _json(sql="insert into t(v) values (?)", params=["é"]), 200),
        ("", {}, _json(sql="select v from t where id = ?", params=[2]), 200),
        ("", {}, _json(sql="SELECT v FROM t WHERE id = :id", params={":id": 2}), 200),
        ("", {}, _json(sql="update t set v = ? where id = 2 returning v", params=[{"base64": "AP8="}]), 200),
        ("", {}, _json(sql="values (?, ?, ?, ?)", params=[None, 1.5, True, {"real": "-inf"}]), 200),
        ("", {}, _json(sql="delete from t where id > 1"), 200),
        ("", {}, _json(sql="select count(*) from t"), 200),
    ],
    "what fails": [
        ("", {}, _json(sql="selec 1"), 400),
        ("", {}, _json(sql="select nowhere from t"), 400),
        ("", {}, _json(sql="insert into t values (1, 'taken')"), 409),
        ("", {}, _json(sql="attach 'x' as y"), 403),
        ("", {}, _json(sql="select ?"), 400),
        ("", {}, _json(sql="select 1; select 2"), 400),
        ("", {}, _json(sql=" "), 400),
        ("", {}, _json(sql="select cast(x'ff' as text)"), 400),
        ("", {}, _json(sql="select count(*) from t"), 200),
    ],
    "bodies": [
        ("", {}, b"", 400),
        ("", {}, b"{}", 400),
        ("", {}, b"[]", 400),
        ("", {}, b'{"sql":1}', 400),
        ("", {}, b'{"sql":"select ?","params":7}', 400),
        ("", {}, b'{"sql":"select ?","params":[9223372036854775808]}', 400),
        ("", {}, b'{"sql":"select ?","params":[{"base64":"?"}]}', 400),
        ("", {}, b'{"sql":"select ?","params":[NaN]}', 400),
        ("", {}, b'{"sql":"select 1","cursor":null}', 200),
        ("", {}, b'{"sql":"select 1","cursor":7}', 400),
        ("", {}, b'{"sql":"select 1","cursor":"nonsense"}', 400),
        ("", {"content-type": "text/plain"}, _json(sql="select 1"), 415),
        ("", {"content-type": "application/json; charset=utf-8"}, _json(sql="select 1"), 200),
        ("", {}, _json(sql="select ?", params=["x" * 70_000]), 200),
        ("", {}, _json(sql="select 1 --" + "x" * 20_000), 200),
    ],
    "what is not short": [
        ("", {}, _json(sql=COUNT.format(5_000) + "insert into t(v) select x from c"), 200),
        ("", {}, _json(sql="select count(*) from t"), 200),
        ("", {}, _json(sql="select count(*) from t a, t b where a.id < 20"), 200),
        ("", {}, _json(sql="select zeroblob(70000)"), 200),
        ("?estimate=true", {}, _json(sql="select * from t"), 200),
        ("?estimate=maybe", {}, _json(sql="select * from t"), 400),
        ("", {}, _batch(*["insert into t(v) values (zeroblob(1000)) returning v"] * 60), 200),
        ("", {}, _batch(*["select v from t"] * 2), 200),
        ("", {}, _batch(*["select 1 --" + "x" * 70_000]), 200),
    ],
    "batches": [
        ("", {}, _batch("insert into t(v) values (1)", "select count(*) from t"), 200),
        ("", {}, _batch("select count(*) from t", "values (1, 'é')"), 200),
        ("", {}, _batch("select 1"), 200),
        ("", {}, _json(statements=[{"sql": "insert into t(v) values (?)", "params": [i]} for i in range(300)]), 200),
        ("", {}, _json(statements=[{"sql": "select :a", "params": {"a": {"base64": "AP8="}}}], more=1), 200),
        ("", {}, _batch("insert into t(v) values (2)", "insert into t values (1, 'taken')"), 409),
        ("", {}, _batch("insert into t(v) values (2)", "select nowhere from t"), 400),
        ("", {}, _batch("select 1", "selec 2"), 400),
        ("", {}, _batch("select 1", "select ?"), 400),
        ("", {}, _batch("select 1", "attach 'x' as y"), 403),
        ("", {}, _batch("select 1", " "), 400),
        ("", {}, _json(statements=[{"sql": "select ?", "params": [[]]}]), 400),
        ("", {}, _json(statements=[{"sql": "select 1"}, {"sql": 1}]), 400),
        ("", {}, _json(statements=[]), 400),
        ("", {}, _batch(*["select 1"] * 1_001), 400),
        ("", {}, _json(statements="select 1"), 400),
        ("", {}, _json(statements=[{"sql": "select 1"}], sql="select 1"), 400),
        ("", {}, _json(statements=[{"sql": "select 1"}], cursor="x"), 400),
        ("", {}, _batch("select count(*) from t"), 200),
    ],
}


@pytest.mark.parametrize("case", STATEMENTS)
async def test_both_ways_give_the_same_answers_to_statements(
    case: str, query_ways: tuple[Way, Way], taken: Taken
) -> None:
    before = taken.requests
    for query, headers, body, status in STATEMENTS[case]:
        given = {"content-type": "application/json", **headers}
        answers = [await way.ask("POST", query, dict(given), body) for way in query_ways]
        for answer in answers:
            answer["content"] = re.sub(r'"durationMs":[\d.]+', "", answer["content"])
        assert answers[0] == answers[1]
        assert answers[0]["status"] == status, (body, answers[0])
    assert taken.requests > before


async def test_statements_of_one_connection_are_done_in_order(query_ways: tuple[Way, Way], served: Any) -> None:
    fast = query_ways[0]
    token = fast.client.headers["authorization"]

    def request(sql: str, params: list[Any]) -> bytes:
        body = _json(sql=sql, params=params)
        return (
            f"POST {fast.prefix} HTTP/1.1\r\nhost: x\r\nauthorization: {token}\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body

    sent = b""
    for index in range(20):
        sent += request("insert into t(v) values (?)", [index])
        sent += request("select max(id) from t where v = ?" + " " * (9_000 if index % 5 == 0 else 0), [index])
    got = await _exchange(served, sent)
    assert re.findall(rb'"rows":\[\[(\d+)\]\]', got) == [b"%d" % (index + 2) for index in range(20)]


async def _exchange(served: Any, *requests: bytes, pause: float = 0.0) -> bytes:
    """Everything the gateway sends for these bytes until it closes or falls silent."""
    reader, writer = await asyncio.open_connection(*served.address)
    got = bytearray()
    try:
        for request in requests:
            writer.write(request)
            await asyncio.sleep(pause)
        while True:
            try:
                async with asyncio.timeout(1.5):
                    piece = await reader.read(65536)
            except TimeoutError:
                break
            if not piece:
                break
            got += piece
    except ConnectionResetError:
        pass
    finally:
        writer.close()
    return bytes(got)


def _statuses(raw: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", raw)]


def _request(owner: Any, method: str, key: str, body: bytes | None = None, **headers: str) -> bytes:
    head = f"{method} {owner.values}/{key} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {owner.token}\r\n"
    if body is not None:
        head += f"Content-Length: {len(body)}\r\n"
    head += "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return head.encode() + b"\r\n" + (body or b"")


async def test_pipelined_requests_are_answered_in_order_and_read_what_was_written(
    served: Any, owner: Any, client: httpx.AsyncClient, taken: Taken
) -> None:
    await client.get(f"{owner.values}/warm")
    steps = []
    for turn in range(20):
        steps.append(_request(owner, "PUT", "p", b'{"value":"%d"}' % turn))
        steps.append(_request(owner, "GET", "p"))
        steps.append(
            b"GET /v1/account HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + owner.token.encode() + b"\r\n\r\n"
        )
    raw = await _exchange(served, b"".join(steps))
    assert _statuses(raw) == [200] * 60
    assert [int(value) for value in re.findall(rb'"value":"(\d+)"', raw)] == list(range(20))
    assert taken.requests > 0


async def test_a_request_in_small_pieces_is_the_same_request(
    served: Any, owner: Any, client: httpx.AsyncClient, taken: Taken
) -> None:
    await client.get(f"{owner.values}/warm")
    before = taken.requests
    raw = _request(owner, "PUT", "pieces", b'{"value":"abc"}')
    answer = await _exchange(served, *(raw[at : at + 7] for at in range(0, len(raw), 7)), pause=0.001)
    assert _statuses(answer) == [200]
    assert taken.requests == before + 1


SMUGGLED = {
    "both lengths": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n",
    "the same length twice": b"Content-Length: 5\r\nContent-Length: 5\r\n",
    "a signed length": b"Content-Length: +5\r\n",
    "a negative length": b"Content-Length: -5\r\n",
    "a list of lengths": b"Content-Length: 5, 5\r\n",
    "a hexadecimal length": b"Content-Length: 0x5\r\n",
    "another coding": b"Transfer-Encoding: identity\r\n",
    "a coding before chunked": b"Transfer-Encoding: gzip, chunked\r\n",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "a coding with a tab": b"Transfer-Encoding:\tx chunked\r\n",
    "a folded header": b"X: a\r\n b\r\nContent-Length: 5\r\n",
    "a space before the colon": b"Content-Length : 5\r\n",
    "a bare line feed": b"X: a\nContent-Length: 5\r\n",
    "a bare carriage return": b"X: a\rContent-Length: 5\r\n",
    "a zero byte": b"X: a\x00b\r\nContent-Length: 5\r\n",
    "a second host": b"Host: y\r\n",
}


@pytest.mark.parametrize("name", SMUGGLED)
async def test_a_head_that_two_servers_could_read_differently_ends_the_connection(
    name: str, served: Any, owner: Any
) -> None:
    head = f"PUT {owner.values}/smuggled HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {owner.token}\r\n".encode()
    smuggled = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    raw = await served.raw(head + SMUGGLED[name] + b"\r\n" + b"5\r\nabcde\r\n0\r\n\r\n" + smuggled)
    assert _statuses(raw) == [400], raw
    content = json.loads(raw.partition(b"\r\n\r\n")[2])
    assert content["code"] in catalogue()
    assert b"connection: close" in raw


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET /health\xffz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_what_is_no_request_gets_an_envelope(raw: bytes, served: Any) -> None:
    answer = await _exchange(served, raw)
    assert _statuses(answer) == [400], answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] in catalogue()


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 5_000_000,
        b"GET /" + b"a" * 5_000_000,
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 101 + b"\r\n",
    ],
)
async def test_a_head_that_is_too_large_is_refused(raw: bytes, served: Any) -> None:
    answer = await served.raw(raw)
    assert _statuses(answer) == [431], answer[:300]
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "header_too_large"


async def test_slow_heads_and_bodies_time_out(
    served: Any, owner: Any, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.get(f"{owner.values}/warm")
    monkeypatch.setattr(limits, "HEAD_SECONDS_MAX", 0.2)
    monkeypatch.setattr(limits, "BODY_PAUSE_SECONDS_MAX", 0.2)
    large = f"PUT {owner.values}/slow HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {owner.token}\r\n".encode()
    answers = await asyncio.gather(
        served.raw(b"GET /healthz HTTP/1.1\r\nHost:"),
        served.raw(_request(owner, "PUT", "slow", b'{"value":"abc"}')[:-3]),
        served.raw(large + b'Content-Length: 100000\r\n\r\n{"value":"'),
        served.raw(b""),
    )
    assert [_statuses(answer) for answer in answers] == [[408], [408], [408], []]
    for answer in answers[:3]:
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "request_timeout"


async def test_an_idle_connection_ends(
    served: Any, owner: Any, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, taken: Taken
) -> None:
    await client.get(f"{owner.values}/warm")
    before = taken.requests
    monkeypatch.setattr(limits, "KEEP_ALIVE_SECONDS", 0.1)
    assert _statuses(await served.raw(_request(owner, "GET", "warm"))) == [404]
    assert taken.requests == before + 1


async def test_a_peer_that_does_not_read_is_not_written_to_for_ever(
    served: Any, owner: Any, client: httpx.AsyncClient
) -> None:
    value = "x" * 60_000
    await client.put(f"{owner.values}/much", json={"value": value})
    reader, writer = await asyncio.open_connection(*served.address, limit=1024)
    for _ in range(200):
        writer.write(_request(owner, "GET", "much"))
    await asyncio.sleep(0.5)
    protocol = next(c for c in served.gateway.hot.connections if c.transport.get_write_buffer_size() > 0)
    assert protocol.transport.get_write_buffer_size() < 1_000_000
    got = 0
    async with asyncio.timeout(20):
        while got < 200 * len(value):
            got += len(await reader.read(65536))
    writer.close()


async def test_what_is_in_flight_is_answered_on_the_way_down(
    served: Any, owner: Any, client: httpx.AsyncClient
) -> None:
    await client.get(f"{owner.values}/warm")
    begun = _request(owner, "PUT", "drain", b'{"value":"abc"}')
    reader, writer = await asyncio.open_connection(*served.address)
    idle_reader, idle_writer = await asyncio.open_connection(*served.address)
    writer.write(begun[:-5])
    await asyncio.sleep(0.05)
    stopping = asyncio.create_task(served.stop())
    async with asyncio.timeout(5):
        assert await idle_reader.read() == b""
        writer.write(begun[-5:])
        raw = await reader.read()
        await stopping
    assert _statuses(raw) == [200]
    assert b"connection: close" in raw
    writer.close()
    idle_writer.close()


async def test_a_body_that_was_never_asked_for_ends_the_connection(served: Any) -> None:
    raw = await served.raw(
        b"POST /v1/services HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n"
    )
    assert _statuses(raw) == [401]
    assert b"connection: close" in raw


async def test_an_expected_body_is_asked_for(served: Any, owner: Any, client: httpx.AsyncClient) -> None:
    await client.get(f"{owner.values}/warm")
    raw = await _exchange(
        served, _request(owner, "PUT", "expect", b'{"value":"abc"}', Expect="100-continue", Connection="close")
    )
    assert _statuses(raw) == [100, 200]


async def test_the_request_id_of_the_caller_is_kept_if_it_is_a_plain_word(
    served: Any, owner: Any, client: httpx.AsyncClient
) -> None:
    for path in ("/healthz", f"{owner.values}/absent", f"{owner.values}/absent", "/nowhere"):
        kept = await client.get(path, headers={"x-request-id": "abc-1"})
        assert kept.headers["x-request-id"] == "abc-1"
        for bad in ("a b", "x" * 65, 'a"b'):
            made = await client.get(path, headers={"x-request-id": bad})
            assert made.headers["x-request-id"].startswith("request_")


async def test_an_upgrade_is_not_spoken(served: Any) -> None:
    raw = await served.raw(
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nGET / HTTP/1.1\r\n\r\n"
    )
    assert _statuses(raw) == [200]
