"""The service of the naive chain: python -m bench.naive.service <port> <file> <one-by-one|grouped>."""

import asyncio
import contextlib
import sys

import apsw
import grpc
import uvloop

from bench.naive.wire import messages, stubs
from tovuk_kit.sqlite import SqliteFile
from tovuk_kit.sqlite_apsw import ApswLibrary


class Naive(stubs.NaiveServicer):  # type: ignore[misc]  # generated at import
    """Values in the same durable SQLite file that the product uses."""

    def __init__(self, file: SqliteFile[apsw.Connection], *, one_by_one: bool) -> None:
        self._file = file
        # Held over a commit, every put is a transaction and a sync of its own.
        self._turn: contextlib.AbstractAsyncContextManager[object] = (
            asyncio.Lock() if one_by_one else contextlib.nullcontext()
        )

    async def Get(self, request: messages.GetRequest, _context: object) -> messages.GetReply:  # noqa: N802
        """A value, or found = false."""
        found = self._file.read(
            lambda connection: (
                connection.execute(
                    "SELECT value FROM entry WHERE namespace = ? AND key = ?", (request.namespace, request.key)
                ).get
            )
        )
        return messages.GetReply(found=found is not None, value=found or "")

    async def Put(self, request: messages.PutRequest, _context: object) -> messages.PutReply:  # noqa: N802
        """Durable on return."""

        def work(connection: apsw.Connection) -> None:
            connection.execute(
                "INSERT OR REPLACE INTO entry VALUES (?, ?, ?)", (request.namespace, request.key, request.value)
            )

        async with self._turn:
            await self._file.write(work)
        return messages.PutReply()


async def serve(port: int, path: str, *, one_by_one: bool) -> None:
    """Serves until the process is ended."""
    file = SqliteFile.open(path, ApswLibrary())
    await file.write(
        lambda connection: connection.execute(
            "CREATE TABLE entry (namespace TEXT, key TEXT, value TEXT, PRIMARY KEY (namespace, key)) WITHOUT ROWID"
        ).fetchall()
    )
    server = grpc.aio.server()
    stubs.add_NaiveServicer_to_server(Naive(file, one_by_one=one_by_one), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2], one_by_one=sys.argv[3] == "one-by-one"))
