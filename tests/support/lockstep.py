"""A database over HTTP and SQLite itself, given the same statements: what each says, and whether that is the same."""

import base64
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import apsw
from tenant_database import TenantDatabase

_BARE_SECONDS_MAX: Final = 10.0
_LOOK_STEPS: Final = 100_000
_BLANK: Final = re.compile(r"(?>\s|;|--[^\n]*|/\*.*?(?:\*/|\Z))*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Said:
    """What a block gave: the words of its rows, or its error."""

    words: tuple[str, ...] = ()
    error: str = ""


class Denied(Exception):
    """The database does not take the statement; nothing of it was done on either side."""

    def __init__(self, statement: str, answer: dict[str, Any]) -> None:
        super().__init__(statement, answer["message"])
        self.statement = statement
        self.message: str = answer["message"]


class Endless(Exception):
    """One of the two does not come to an end: the case's own harness ends it."""


class Differs(Exception):
    """The two sides do not say the same."""


class Lockstep:
    """Runs statements on both sides, one by one, each by itself."""

    def __init__(self, database: TenantDatabase) -> None:
        self._database = database
        self._bare = apsw.Connection(":memory:")
        self._bare.execute("PRAGMA foreign_keys = ON").fetchall()
        self._bare.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        self._bare.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        # No case makes a file here.
        self._bare.limit(apsw.SQLITE_LIMIT_ATTACHED, 0)
        self._ends_at = 0.0
        self._bare.set_progress_handler(lambda: time.monotonic() > self._ends_at, _LOOK_STEPS)

    def run(self, sql: str) -> Said:
        """What SQLite says of the statements, the first error ending them. Raises Denied, Endless, Differs."""
        words: list[str] = []
        for statement in statements(sql):
            said, answer = self._ask(statement)
            told = self._tell(statement)
            if not _equal(said, told, answer):
                raise Differs(statement, answer, told)
            if told.error:
                return told
            words += told.words
        return Said(tuple(words))

    def close(self) -> None:
        """Let go of the database in memory."""
        self._bare.close(True)

    def _ask(self, statement: str) -> tuple[Said, dict[str, Any]]:
        words: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            answer: dict[str, Any] = self._database.send(statement, **cursor).json()
            if answer.get("code") == "sqlite_statement_denied" or "cannot VACUUM" in answer.get("message", ""):
                raise Denied(statement, answer)
            if answer.get("code") == "sqlite_query_too_slow":
                raise Endless(statement)
            if "code" in answer:
                return Said(error=answer["message"]), answer
            words += [_word(_value(value)) for row in answer["rows"] for value in row]
            if not answer["cursor"]:
                return Said(tuple(words)), answer
            cursor = {"cursor": answer["cursor"]}

    def _tell(self, statement: str) -> Said:
        self._ends_at = time.monotonic() + _BARE_SECONDS_MAX
        try:
            return Said(tuple(_word(value) for row in self._bare.execute(statement).fetchall() for value in row))
        except apsw.InterruptError as error:
            raise Endless(statement) from error
        except (apsw.Error, UnicodeDecodeError) as error:
            return Said(error=str(error))


def statements(sql: str) -> Iterator[str]:
    """The statements of a text, one by one."""
    start = 0
    for end in [match.end() for match in re.finditer(";", sql)] + [len(sql)]:
        part = sql[start:end]
        if end < len(sql) and not apsw.complete(part):
            continue
        if not _BLANK.fullmatch(part):
            yield part.strip()
        start = end


def _equal(said: Said, told: Said, answer: dict[str, Any]) -> bool:
    if answer.get("code") == "sqlite_parameters_invalid":
        return "bindings" in told.error
    if answer.get("code") == "sqlite_text_invalid":
        return "utf-8" in told.error
    if told.error:
        return said.error.endswith(f": {told.error}.")
    return said == told


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        return base64.b64decode(value["base64"]) if "base64" in value else float(value["real"])
    return value


def _word(value: Any) -> str:
    """A value as Tcl shows it."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, float):
        if math.isinf(value):
            return "Inf" if value > 0 else "-Inf"
        return re.sub(r"e([+-])0(\d)$", r"e\1\2", repr(value))
    return str(value)
