"""The HTTP side of the naive chain: python -m bench.naive.gateway <port> <service port> <token>."""

import contextlib
import hashlib
import hmac
import sys
from collections.abc import AsyncIterator
from typing import Annotated, Any

import grpc
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel

from bench.naive.wire import messages, stubs


class Value(BaseModel):
    """The body of a put."""

    value: str
    encoding: str = "text"


def application(service_port: int, token: str) -> FastAPI:
    """The two routes, behind a token."""
    digest = hashlib.sha256(token.encode()).digest()
    stub: dict[str, Any] = {}

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{service_port}") as channel:
            stub["naive"] = stubs.NaiveStub(channel)
            yield

    def authenticated(authorization: Annotated[str, Header()] = "") -> None:
        sent = hashlib.sha256(authorization.removeprefix("Bearer ").encode()).digest()
        if not hmac.compare_digest(sent, digest):
            raise HTTPException(401)

    app = FastAPI(lifespan=lifespan, dependencies=[Depends(authenticated)])

    @app.get("/kv/{namespace}/values/{key}")
    async def get(namespace: str, key: str) -> dict[str, str]:
        reply = await stub["naive"].Get(messages.GetRequest(namespace=namespace, key=key))
        if not reply.found:
            raise HTTPException(404)
        return {"key": key, "value": reply.value, "encoding": "text"}

    @app.put("/kv/{namespace}/values/{key}")
    async def put(namespace: str, key: str, body: Value) -> dict[str, str]:
        await stub["naive"].Put(messages.PutRequest(namespace=namespace, key=key, value=body.value))
        return {"key": key}

    return app


if __name__ == "__main__":
    uvicorn.run(
        application(int(sys.argv[2]), sys.argv[3]),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )
