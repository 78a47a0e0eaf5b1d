"""SQLite's own published test cases, as far as they are plain SQL with a plain result: read from its Tcl scripts.

A script is a sequence of commands. Of these, `do_execsql_test`, `do_catchsql_test` and `do_test` are cases, `execsql`
and `db eval` set up what cases after them need; everything else, Tcl's control structures above all, is passed over.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Where the module that carries the scripts is pinned.
PIN: Final = Path(__file__).parent.parent / "sqlite" / "published"
_MODULE: Final = "modernc.org/sqlite"
_FETCH_WITHIN_S: Final = 300
_SPACE: Final = " \t\r"
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "\n": " "}


class CasesMissing(Exception):
    """The scripts cannot be had; the message says what is needed."""


@dataclass(frozen=True, slots=True)
class Block:
    """SQL that is run; a case when `expected` is there.

    `expected` is the result's words; where the case `catches`, 0 and a list of them, or 1 and the error.
    """

    name: str
    sql: str
    catches: bool
    expected: tuple[str, ...] | None


def scripts() -> list[Path]:
    """Every script, by name; fetched once, into Go's own cache. Raises CasesMissing."""
    if shutil.which("go") is None:
        raise CasesMissing("go is missing: apt-get install golang-go")
    fetched = subprocess.run(
        ["go", "mod", "download", "-json", _MODULE],
        cwd=PIN,
        capture_output=True,
        text=True,
        timeout=_FETCH_WITHIN_S,
        env={**os.environ, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"},
    )
    if fetched.returncode:
        raise CasesMissing(f"{_MODULE} cannot be fetched: {fetched.stdout}{fetched.stderr}")
    return sorted((Path(json.loads(fetched.stdout)["Dir"]) / "testdata" / "tcl").glob("*.test"))


def blocks(script: str) -> list[Block]:
    """What a script runs, in order."""
    return list(_blocks(script))


def words(text: str) -> tuple[str, ...] | None:
    """The elements of a Tcl list; None where it is none."""
    try:
        return tuple(word for word, _ in _Words(text, commands=False).line())
    except _NotPlain:
        return None


class _NotPlain(Exception):
    """Not without a Tcl interpreter."""


def _blocks(script: str) -> Iterator[Block]:
    for command in _commands(script):
        match command:
            case [("do_execsql_test", _), *rest]:
                yield from _case(rest, catches=False)
            case [("do_catchsql_test", _), *rest]:
                yield from _case(rest, catches=True)
            case [("do_test", _), (name, True), (body, True), (expected, True)]:
                yield from _body(name, body, words(expected))
            case [("ifcapable", _), (condition, True), (body, True), *_] if "!" not in condition:
                yield from _blocks(body)
            case [("finish_test", _)]:
                return
            case _:
                yield from _run(command)


def _case(rest: Sequence[tuple[str, bool]], *, catches: bool) -> Iterator[Block]:
    match rest:
        case [(name, True), (sql, True)]:
            yield Block(name, sql, catches, ())
        case [(name, True), (sql, True), (expected, True)]:
            yield Block(name, sql, catches, words(expected))


def _body(name: str, body: str, expected: tuple[str, ...] | None) -> Iterator[Block]:
    """A do_test whose body is nothing but SQL: what the last command gives is its result."""
    commands = list(_commands(body))
    runs = [run for command in commands for run in _run(command)]
    if len(runs) != len(commands):
        # The rest may be needed by what follows, all the same.
        expected = None
    for run in runs[:-1]:
        yield run
    for run in runs[-1:]:
        yield Block(name, run.sql, run.catches, expected)


def _run(command: Sequence[tuple[str, bool]]) -> Iterator[Block]:
    match command:
        case [("execsql", _), (sql, True)] | [("db", _), ("eval", _), (sql, True)]:
            yield Block("", sql, False, None)
        case [("catchsql", _), (sql, True)]:
            yield Block("", sql, True, None)


def _commands(script: str) -> Iterator[list[tuple[str, bool]]]:
    reader = _Words(script, commands=True)
    while not reader.ended:
        line = reader.line()
        if line:
            yield line


class _Words:
    """Words of Tcl with whether they are plain: without substitution of variables or commands."""

    def __init__(self, text: str, *, commands: bool) -> None:
        self._text = text
        self._at = 0
        self._commands = commands

    @property
    def ended(self) -> bool:
        return self._at >= len(self._text)

    def line(self) -> list[tuple[str, bool]]:
        """The words of the next command, or of the whole list."""
        found: list[tuple[str, bool]] = []
        text = self._text
        while self._at < len(text):
            char = text[self._at]
            if char in _SPACE or (not self._commands and char == "\n"):
                self._at += 1
            elif text.startswith("\\\n", self._at):
                self._at += 2
            elif self._commands and char in "\n;":
                self._at += 1
                return found
            elif self._commands and char == "#" and not found:
                self._skip_comment()
            else:
                found.append(self._word(char))
        return found

    def _skip_comment(self) -> None:
        while self._at < len(self._text) and self._text[self._at] != "\n":
            self._at += 2 if self._text[self._at] == "\\" else 1

    def _word(self, char: str) -> tuple[str, bool]:
        if char == "{":
            return self._braced(), True
        if char == '"':
            return self._until('"', start=self._at + 1)
        return self._until("", start=self._at)

    def _braced(self) -> str:
        text, depth, start = self._text, 0, self._at + 1
        while self._at < len(text):
            char = text[self._at]
            if char == "\\":
                self._at += 1
            elif char == "{":
                depth += 1
            elif char == "}":
                depth -= 1
                if not depth:
                    self._at += 1
                    return re.sub(r"\\\n[ \t]*", " ", text[start : self._at - 1])
            self._at += 1
        raise _NotPlain

    def _until(self, quote: str, start: int) -> tuple[str, bool]:
        text, plain, said = self._text, True, []
        self._at = start
        ends = quote or _SPACE + "\n" + (";" if self._commands else "")
        brackets = 0
        while self._at < len(text) and (brackets or text[self._at] not in ends):
            char = text[self._at]
            if char == "\\" and self._at + 1 < len(text):
                self._at += 1
                said.append(_ESCAPES.get(text[self._at], text[self._at]))
            else:
                if self._commands and char in "$[]":
                    plain = False
                    brackets += {"[": 1, "]": -1}.get(char, 0)
                said.append(char)
            self._at += 1
        self._at += len(quote)
        return "".join(said), plain
