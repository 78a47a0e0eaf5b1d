"""A query under way, and how it is interrupted when its caller leaves."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tovuk_sqlite.errors import QueryInterrupted
from tovuk_sqlite.store.base import Reader


class Call:
    """One caller's query, on whatever connection it runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: Reader | None = None
        self._left = False

    @contextmanager
    def on(self, connection: Reader) -> Iterator[None]:
        """Around a run. Raises QueryInterrupted when the caller has left already."""
        with self._lock:
            if self._left:
                raise QueryInterrupted(retry_after_ms=1_000)
            connection.arm()
            self._connection = connection
        try:
            yield
        finally:
            with self._lock:
                self._connection = None

    def leave(self) -> None:
        """The caller is gone: end what runs for it."""
        with self._lock:
            self._left = True
            if self._connection is not None:
                self._connection.interrupt()
