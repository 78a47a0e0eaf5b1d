"""What a target is, and the JSON dialect that most of them speak."""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from bench.client import Client, UnexpectedAnswer, raw_request
from bench.workload import ENTRIES, KEY_OPERATIONS, READ_KEYS, WRITE_KEYS, Operation, slices, value_of

#: Keys that are read back after puts.
_READ_BACK = 50


class Dialect(Protocol):
    """How a target is asked."""

    @property
    def operations(self) -> frozenset[Operation]:
        """What it can be asked."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of every request."""
        ...

    def fill(self, client: Client) -> None:
        """Writes what is read: READ_KEYS, or a table of TABLE_ROWS."""
        ...

    def requests(self, operation: Operation) -> list[bytes]:
        """The raw requests a driver repeats in turn."""
        ...

    def check(self, client: Client, operation: Operation, written: int) -> None:
        """Raises UnexpectedAnswer unless the operation truly does its work.

        `written` is how many of the operation's requests, in turn from the first, are surely acknowledged.
        """
        ...


@dataclass(frozen=True, slots=True)
class Running:
    """A started target: where it listens, the processes it consists of (with descendants), how to ask it."""

    port: int
    processes: tuple[int, ...]
    dialect: Dialect


@dataclass(frozen=True, slots=True)
class Target:
    """A name, one line on what it is, and how to start it in an empty folder.

    Starting raises MissingTool, DidNotStart or UnexpectedAnswer.
    """

    name: str
    meaning: str
    start: Callable[[Path], AbstractContextManager[Running]]


@dataclass(frozen=True, slots=True)
class JsonDialect:
    """The paths and bodies of the product's own API below `base`: `/values/{key}`, `/keys`, `/bulk`."""

    base: str
    headers: Mapping[str, str] = field(default_factory=dict)
    operations: frozenset[Operation] = frozenset(KEY_OPERATIONS)

    def fill(self, client: Client) -> None:
        if "bulk_put" in self.operations:
            for keys in slices(READ_KEYS):
                client.ask("PUT", f"{self.base}/bulk", _entries(keys))
        else:
            for key in READ_KEYS:
                client.ask("PUT", f"{self.base}/values/{key}", _value(key))

    def requests(self, operation: Operation) -> list[bytes]:
        match operation:
            case "get":
                return [self._raw("GET", f"/values/{key}") for key in READ_KEYS]
            case "put":
                return [self._raw("PUT", f"/values/{key}", _value(key)) for key in WRITE_KEYS]
            case "list":
                return [self._raw("GET", f"/keys?limit={ENTRIES}")]
            case "bulk_get":
                return [self._raw("POST", "/bulk", _keys(keys)) for keys in slices(READ_KEYS)]
            case "bulk_put":
                return [self._raw("PUT", "/bulk", _entries(keys)) for keys in slices(WRITE_KEYS)]
            case _:
                raise ValueError(operation)

    def check(self, client: Client, operation: Operation, written: int) -> None:
        match operation:
            case "get":
                expect_values(client.ask("GET", f"{self.base}/values/{READ_KEYS[7]}"), READ_KEYS[7:8])
            case "put" | "bulk_put":
                keys = WRITE_KEYS[: written * (ENTRIES if operation == "bulk_put" else 1)]
                for key in keys[:: max(1, len(keys) // _READ_BACK)]:
                    expect_values(client.ask("GET", f"{self.base}/values/{key}"), (key,))
            case "list":
                expect_words(client.ask("GET", f"{self.base}/keys?limit={ENTRIES}"), READ_KEYS[:ENTRIES])
            case "bulk_get":
                keys = READ_KEYS[:ENTRIES]
                expect_values(client.ask("POST", f"{self.base}/bulk", _keys(keys)), keys)
            case _:
                raise ValueError(operation)

    def _raw(self, method: str, path: str, body: bytes = b"") -> bytes:
        return raw_request(method, self.base + path, self.headers, body)


def expect_values(answer: bytes, keys: tuple[str, ...]) -> None:
    """Raises UnexpectedAnswer unless every key's value stands in the answer."""
    expect_words(answer, tuple(value_of(key) for key in keys))


def expect_words(answer: bytes, words: tuple[str, ...]) -> None:
    """Raises UnexpectedAnswer unless every word stands in the answer."""
    missing: Final = [word for word in words if word.encode() not in answer]
    if missing:
        raise UnexpectedAnswer(f"{len(missing)} of {len(words)} expected words are missing, as {missing[0]!r}")


def _value(key: str) -> bytes:
    return json.dumps({"value": value_of(key), "encoding": "text"}, separators=(",", ":")).encode()


def _keys(keys: tuple[str, ...]) -> bytes:
    return json.dumps({"keys": keys}, separators=(",", ":")).encode()


def _entries(keys: tuple[str, ...]) -> bytes:
    entries = [{"key": key, "value": value_of(key), "encoding": "text"} for key in keys]
    return json.dumps({"entries": entries}, separators=(",", ":")).encode()
