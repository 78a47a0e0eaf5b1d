"""One child process: started, its log passed on line by line, started again when it dies, stopped within a bound."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from tovuk_launcher.death import ON_LINUX, die_with, tethered

_BACKOFF_FIRST_S = 0.2
_BACKOFF_MAX_S = 5.0
#: A child that lived this long has recovered: its next death waits the first back-off again.
_RECOVERED_AFTER_S = 10.0
_LOG_CHUNK_BYTES = 65_536
#: The exit status of a service whose settings are wrong; starting it again cannot help.
EXIT_BAD_SETTINGS = 2


@dataclass(frozen=True, slots=True)
class Program:
    """What to run: a name for the log, an argument list, a whole environment, how long a stop may take."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    stop_within_s: float


def say(line: str) -> None:
    """One line of the launcher's own log, on standard error."""
    _emit(b"tovuk      | ", line.encode())


def _emit(prefix: bytes, line: bytes) -> None:
    # One write a line: lines of several children never mix. A closed terminal must not stop the product.
    try:
        os.write(sys.stderr.fileno(), prefix + line + b"\n")
    except OSError:
        return


class Child:
    """A program kept running until it is stopped."""

    def __init__(self, program: Program) -> None:
        self.program = program
        #: Set when the program said that its settings are wrong.
        self.hopeless = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._keeper = asyncio.create_task(self._keep(), name=program.name)

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        backoff_s = _BACKOFF_FIRST_S
        while True:
            started_at = loop.time()
            process = await self._start()
            if self._stopping:  # asked to stop while the fork was under way
                _signal(process, signal.SIGTERM)
            await self._pass_log_on(process)
            status = await process.wait()
            self._process = None
            if self._stopping:
                return
            if status == EXIT_BAD_SETTINGS:
                self.hopeless.set()
                return
            if loop.time() - started_at >= _RECOVERED_AFTER_S:
                backoff_s = _BACKOFF_FIRST_S
            say(f"{self.program.name} ended ({describe(status)}); starting it again in {backoff_s:.1f} s")
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, _BACKOFF_MAX_S)

    async def _start(self) -> asyncio.subprocess.Process:
        # A session of its own: Ctrl-C at the terminal reaches the launcher alone, which stops children in order.
        process = await asyncio.create_subprocess_exec(
            *(self.program.command if ON_LINUX else tethered(self.program.command)),
            env=dict(self.program.env),
            stdin=subprocess.DEVNULL if ON_LINUX else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with(os.getpid()) if ON_LINUX else None,
        )
        self._process = process
        return process

    async def _pass_log_on(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        prefix = f"{self.program.name:<10} | ".encode()
        rest = b""
        while chunk := await process.stdout.read(_LOG_CHUNK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                _emit(prefix, line)
            if len(rest) > _LOG_CHUNK_BYTES:
                _emit(prefix, rest)
                rest = b""
        if rest:
            _emit(prefix, rest)

    async def stop(self) -> None:
        """Ends the program: politely, and after `stop_within_s` for good. Returns when it is gone."""
        self._stopping = True
        if self._process is None:
            self._keeper.cancel()
        else:
            _signal(self._process, signal.SIGTERM)
            done, _ = await asyncio.wait({self._keeper}, timeout=self.program.stop_within_s)
            if not done:
                say(f"{self.program.name} did not stop within {self.program.stop_within_s:.0f} s; killing it")
                self.kill()
        await asyncio.wait({self._keeper})

    def kill(self) -> None:
        """Ends the program at once."""
        self._stopping = True
        if self._process is not None:
            _signal(self._process, signal.SIGKILL)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    # The child leads its own group: a kill takes whatever it started along.
    try:
        os.killpg(process.pid, number) if number == signal.SIGKILL else process.send_signal(number)
    except ProcessLookupError:
        return


def describe(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
