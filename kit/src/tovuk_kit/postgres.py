"""The kit's relational port over PostgreSQL.

Transactions run on a few threads, READ COMMITTED with advisory locks. One that surely did not commit is run again; one
whose COMMIT was lost is reported as unknown.
"""

import asyncio
import hashlib
import logging
import random
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Final, Self, TypeVar

import psycopg
from psycopg import errors, sql
from psycopg.adapt import Loader
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from tovuk_kit.database import ConstraintViolated, Tx, Value
from tovuk_kit.errors import Outcome, StorageFull, StoreUnavailable

T = TypeVar("T")
_Connection = psycopg.Connection[tuple[Any, ...]]

log = logging.getLogger(__name__)

CONNECTIONS_MAX: Final = 8
#: How long one call goes on trying what surely was not done.
RETRY_SECONDS_MAX: Final = 4.0
#: A peer that vanished without a word is noticed after this long.
SILENCE_SECONDS_MAX: Final = 5

_RETRIED: Final = (
    errors.SerializationFailure,
    errors.DeadlockDetected,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.ReadOnlySqlTransaction,
)


class UnsafeServer(Exception):
    """The server may lose what it has acknowledged."""


class PostgresTx:
    """A running transaction on one connection."""

    def __init__(self, connection: _Connection) -> None:
        self._cursor = connection.cursor()
        self.failed: BaseException | None = None

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    def execute(self, sql: str, params: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        try:
            if params:
                # Truth is 0 or 1 in the common dialect; PostgreSQL would not store its own booleans in a BIGINT.
                values = [int(value) if isinstance(value, bool) else value for value in params]
                self._cursor.execute(_with_format_placeholders(sql).encode(), values)
            else:
                self._cursor.execute(sql.encode())
            return self._cursor.fetchall() if self._cursor.description else []
        except psycopg.IntegrityError as error:
            self.failed = ConstraintViolated(str(error))
            raise self.failed from error
        except BaseException as error:
            self.failed = error
            raise

    def lock(self, name: str) -> None:
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
        self.execute("SELECT pg_advisory_xact_lock(?)", (key,))


class _NumericLoader(Loader):
    """NUMERIC, which sums of BIGINT are here, as the int or float the other engine gives."""

    def load(self, data: "bytes | bytearray | memoryview") -> int | float:
        text = bytes(data)
        return float(text) if b"." in text or b"N" in text else int(text)


class PostgresDatabase:
    """A `Database` on a PostgreSQL server."""

    def __init__(self, pool: "ConnectionPool[_Connection]") -> None:
        self._pool = pool
        self._threads = ThreadPoolExecutor(CONNECTIONS_MAX, thread_name_prefix="postgres")

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect; raises StoreUnavailable when the server is not there or is not safe (the log tells)."""
        pool: ConnectionPool[_Connection] = ConnectionPool(
            url,
            min_size=1,
            max_size=CONNECTIONS_MAX,
            open=False,
            configure=_configure,
            timeout=RETRY_SECONDS_MAX,
            reconnect_timeout=60,
            kwargs={
                "connect_timeout": SILENCE_SECONDS_MAX,
                "keepalives_idle": SILENCE_SECONDS_MAX,
                "tcp_user_timeout": SILENCE_SECONDS_MAX * 1000,
            },
        )
        try:
            await asyncio.to_thread(pool.open, wait=True, timeout=10.0)
        except PoolTimeout as error:
            await asyncio.to_thread(pool.close)
            raise StoreUnavailable(retry_after_ms=1000) from error
        return cls(pool)

    async def write(self, work: Callable[[Tx], T]) -> T:
        return await self._in_thread(work, writing=True)

    async def read(self, work: Callable[[Tx], T]) -> T:
        return await self._in_thread(work, writing=False)

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._pool.close)

    async def _in_thread(self, work: Callable[[Tx], T], *, writing: bool) -> T:
        try:
            future = self._threads.submit(self._until_done, work, writing)
        except RuntimeError as error:
            raise StoreUnavailable from error
        return await asyncio.wrap_future(future)

    def _until_done(self, work: Callable[[Tx], T], writing: bool) -> T:
        end = time.monotonic() + RETRY_SECONDS_MAX
        pause = 0.005
        while True:
            try:
                return self._once(work, writing)
            except (PoolTimeout, PoolClosed) as error:
                raise StoreUnavailable(retry_after_ms=1000) from error
            except errors.DiskFull as error:
                raise StorageFull(retry_after_ms=1000) from error
            except _RETRIED as error:
                if time.monotonic() > end:
                    log.error("PostgreSQL failed until the deadline: %s", error)
                    raise StoreUnavailable(retry_after_ms=1000) from error
                if _is_loss(error):
                    # The others of the pool are as dead; without this each would cost one attempt.
                    self._pool.check()
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 -- spreads attempts, hides nothing
            pause = min(pause * 2, 0.5)

    def _once(self, work: Callable[[Tx], T], writing: bool) -> T:
        connection = self._pool.getconn()
        try:
            connection.isolation_level = None if writing else psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = not writing
            tx = PostgresTx(connection)
            try:
                result = work(tx)
            except Exception:
                if isinstance(tx.failed, _RETRIED):
                    raise tx.failed from None
                raise
            if tx.failed is not None:
                raise tx.failed
            try:
                connection.commit()
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                if writing and _is_loss(error):
                    raise StoreUnavailable(outcome=Outcome.UNKNOWN, retry_after_ms=1000) from error
                raise
            except psycopg.IntegrityError as error:
                raise ConstraintViolated(str(error)) from error
            return result
        finally:
            # Rolls back what is open, and drops the connection when it is broken.
            self._pool.putconn(connection)


def _is_loss(error: BaseException) -> bool:
    """Whether the server, or the way to it, is gone, so that a COMMIT under way may have happened."""
    state = getattr(error, "sqlstate", None)
    return isinstance(error, psycopg.InterfaceError) or state is None or state[:2] in {"08", "57"}


def _configure(connection: _Connection) -> None:
    connection.adapters.register_loader("numeric", _NumericLoader)
    connection.autocommit = True
    # A server, a role or a database may have turned these off; then an acknowledged commit is not on the disk.
    for setting in ("fsync", "full_page_writes"):
        row = connection.execute(sql.SQL("SHOW {}").format(sql.Identifier(setting))).fetchone()
        if row != ("on",):
            raise UnsafeServer(f"PostgreSQL runs with {setting} = {row and row[0]}")
    connection.execute("SET synchronous_commit = on")
    connection.execute("SET lock_timeout = '10s'")
    connection.execute("SET idle_in_transaction_session_timeout = '60s'")
    connection.autocommit = False


@lru_cache(maxsize=1024)
def _with_format_placeholders(statement: str) -> str:
    """`?` as psycopg's `%s`, outside of string literals."""
    pieces = re.split(r"('(?:[^']|'')*')", statement.replace("%", "%%"))
    return "".join(piece if piece.startswith("'") else piece.replace("?", "%s") for piece in pieces)
