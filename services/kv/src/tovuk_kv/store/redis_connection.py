"""The engine's line to Redis: connected again for ever, scripts loaded, settings found durable before anything is sent.

Source of the settings: design.md 4.
"""

import asyncio
import hashlib
import logging
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from urllib.parse import unquote, urlsplit

import hiredis

from tovuk_kit import tasks
from tovuk_kit.errors import StoreUnavailable, TovukError
from tovuk_kv.store.redis_wire import Argument, Done, RedisWire, Reply, settle, translated

#: Seconds to connect, and to answer the first questions.
CONNECT_SECONDS_MAX = 2.0
#: Seconds without an answer after which a connection with commands under way is given up.
SILENCE_SECONDS_MAX = 5.0
#: Seconds between attempts to connect, growing from the first to the last.
RECONNECT_FIRST_S, RECONNECT_LAST_S = 0.02, 0.25
#: Settings without which an acknowledged write can be lost or silently evicted.
SETTINGS = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}

_log = logging.getLogger(__name__)


class SettingsRefused(Exception):
    """This Redis is set up so that acknowledged writes could be lost; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script: its text, the digest Redis knows it by, whether it may write."""

    text: str
    digest: str
    mutates: bool


def load_script(name: str, *, flags: str = "") -> Script:
    """The script of scripts/<name>.lua behind what all share; `flags` are added to those of its first line."""
    folder = files("tovuk_kv.store").joinpath("scripts")
    first, body = folder.joinpath(f"{name}.lua").read_text("utf-8").split("\n", 1)
    text = f"{first} {flags}".rstrip() + "\n" + folder.joinpath("common.lua").read_text("utf-8") + body
    digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return Script(text, digest, "no-writes" not in first)


class RedisConnection:
    """Commands and scripts, by callback or awaited. While there is no connection everything fails at once."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._loop = asyncio.get_running_loop()
        self._wire: RedisWire | None = None
        self._runner: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect and keep connected. Raises SettingsRefused, StoreUnavailable."""
        wire = await self._connect()
        self._runner = self._loop.create_task(self._keep_connected(wire))

    async def close(self) -> None:
        """End the connection; what is unanswered fails."""
        if self._runner is not None:
            await tasks.end([self._runner])
        if self._wire is not None:
            self._wire.drop()

    def call(self, *command: Argument, done: Done, mutates: bool) -> None:
        """Send a command; `done` is called once with the reply or an error, never from within this call."""
        if self._wire is None:
            self._loop.call_soon(done, StoreUnavailable(retry_after_ms=1000))
        else:
            self._wire.send(command, done, mutates=mutates)

    def run(self, script: Script, tag: str, *arguments: Argument, done: Done) -> None:
        """Run a script in one partition, its text sent again where Redis has forgotten it."""

        def replied(reply: Reply) -> None:
            if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
                self.call("EVAL", script.text, 1, tag, *arguments, done=given, mutates=script.mutates)
            else:
                given(reply)

        def given(reply: Reply) -> None:
            done(translated(reply))

        self.call("EVALSHA", script.digest, 1, tag, *arguments, done=replied, mutates=script.mutates)

    async def ask(self, *command: Argument, mutates: bool = False) -> Reply:
        """The reply to a command; raises the errors `call` gives."""
        future: asyncio.Future[Reply] = self._loop.create_future()
        self.call(*command, done=lambda reply: settle(future, reply), mutates=mutates)
        return await future

    async def ask_script(self, script: Script, tag: str, *arguments: Argument) -> Reply:
        """The reply of a script; raises the errors `run` gives."""
        future: asyncio.Future[Reply] = self._loop.create_future()
        self.run(script, tag, *arguments, done=lambda reply: settle(future, reply))
        return await future

    async def ask_scripts(self, script: Script, arguments: Mapping[str, Sequence[Argument]]) -> list[Reply]:
        """The replies of a script run in several partitions, in the order of their tags.

        Raises one of the errors `run` gives, once all have answered.
        """
        replies: list[Reply] = [None] * len(arguments)
        left = len(replies)
        answered: asyncio.Future[None] = self._loop.create_future()

        def take(index: int, reply: Reply) -> None:
            nonlocal left
            replies[index] = reply
            left -= 1
            if not left and not answered.done():
                answered.set_result(None)

        for index, (tag, given) in enumerate(arguments.items()):
            self.run(script, tag, *given, done=partial(take, index))
        if arguments:
            await answered
        for reply in replies:
            if isinstance(reply, TovukError):
                raise reply
        return replies

    async def _keep_connected(self, wire: RedisWire) -> None:
        while True:
            while not wire.lost.done():
                await asyncio.wait([wire.lost], timeout=1.0)
                if wire.is_silent(SILENCE_SECONDS_MAX):
                    _log.warning("Redis has not answered for %d s", SILENCE_SECONDS_MAX)
                    wire.drop()
            self._wire = None
            wait_s = RECONNECT_FIRST_S
            while self._wire is None:
                try:
                    wire = await self._connect()
                except (StoreUnavailable, SettingsRefused) as error:
                    _log.warning("no connection to Redis: %s", error)
                    await asyncio.sleep(wait_s)
                    wait_s = min(wait_s * 2, RECONNECT_LAST_S)

    async def _connect(self) -> RedisWire:
        wire = RedisWire()
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                await self._open_transport(wire)
                await self._introduce(wire)
        except (OSError, TovukError) as error:
            wire.drop()
            raise StoreUnavailable(retry_after_ms=1000) from error
        except BaseException:
            wire.drop()
            raise
        self._wire = wire
        return wire

    async def _open_transport(self, wire: RedisWire) -> None:
        url = self._url
        if url.scheme == "unix":
            await self._loop.create_unix_connection(lambda: wire, url.path)
        else:
            tls = ssl.create_default_context() if url.scheme == "rediss" else None
            await self._loop.create_connection(lambda: wire, url.hostname or "127.0.0.1", url.port or 6379, ssl=tls)

    async def _introduce(self, wire: RedisWire) -> None:
        """Log in, choose the database, and refuse settings that are not durable."""

        async def ask(*command: Argument) -> Reply:
            future: asyncio.Future[Reply] = self._loop.create_future()
            wire.send(command, lambda reply: settle(future, reply), mutates=False)
            return await future

        url = self._url
        if url.password is not None:
            user = [unquote(url.username)] if url.username else []
            await ask("AUTH", *user, unquote(url.password))
        database = url.path.strip("/") if url.scheme != "unix" else ""
        if database:
            await ask("SELECT", database)
        wrong = []
        for name, wanted in SETTINGS.items():
            reply = await ask("CONFIG", "GET", name)
            value = reply[1].decode() if len(reply) == 2 else "unknown"
            if value != wanted:
                wrong.append(f"{name} is {value}, must be {wanted}")
        if wrong:
            raise SettingsRefused(f"acknowledged writes would not be safe in this Redis: {'; '.join(wrong)}")
