"""Processes of a measurement: started in a session of their own, watched through /proc, stopped by id."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_START_WITHIN_S = 60.0
_STOP_WITHIN_S = 20.0
_POLL_S = 0.02
_LOG_TAIL_CHARACTERS = 2000


class DidNotStart(Exception):
    """A process ended, or never became ready; its last lines are in the exception's notes."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: Sequence[object],
    *,
    log: Path,
    ready: Callable[[], bool],
    env: Mapping[str, str] | None = None,
    start_within_s: float = _START_WITHIN_S,
) -> Iterator[int]:
    """Runs a command while the block runs, from the moment `ready` is true; yields its process id.

    Output goes to `log`, whose last lines are noted on an exception that passes through.
    At the end SIGTERM, and SIGKILL for its whole session when that does not end it in time.
    Raises DidNotStart.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if env is None else {**os.environ, **env},
            start_new_session=True,
        )
    try:
        _wait_until(ready, process, log, start_within_s)
        yield process.pid
    except Exception as error:
        error.add_note(f"{command[0]} said last:\n{_tail(log)}")
        raise
    finally:
        _stop(process)


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            what = "did not become ready" if process.poll() is None else f"ended with status {process.returncode}"
            raise DidNotStart(f"{process.args!r} {what}")
        time.sleep(_POLL_S)


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-_LOG_TAIL_CHARACTERS:]


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def listens(port: int) -> Callable[[], bool]:
    """A `ready` that is true once the port of 127.0.0.1 takes connections."""

    def ready() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return True
        except OSError:
            return False

    return ready


@dataclass(frozen=True, slots=True)
class Stat:
    """One line of /proc/<pid>/stat: whose child it is and the CPU seconds it has used, all threads together."""

    parent: int
    cpu_s: float


def cpu_by_process(roots: Sequence[int]) -> dict[tuple[int, str], float]:
    """CPU seconds used so far by the roots and all their descendants, by (pid, name)."""
    stats = {
        int(entry.name): stat for entry in Path("/proc").iterdir() if entry.name.isdigit() and (stat := _stat(entry))
    }
    family = set(roots)
    grown = True
    while grown:
        children = {pid for pid, stat in stats.items() if stat.parent in family}
        grown = not children <= family
        family |= children
    return {(pid, _name(pid)): stats[pid].cpu_s for pid in family if pid in stats}


def cpu_spent(before: Mapping[tuple[int, str], float], after: Mapping[tuple[int, str], float]) -> dict[str, float]:
    """CPU seconds spent between two looks, by name; processes of one name together. A new process counts from 0."""
    spent: dict[str, float] = {}
    for key, cpu_s in after.items():
        spent[key[1]] = spent.get(key[1], 0.0) + cpu_s - before.get(key, 0.0)
    return spent


def machine_busy_s() -> float:
    """CPU seconds that all cores together have been busy since boot, steal included."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) * _TICK_S


def _stat(process: Path) -> Stat | None:
    try:
        line = (process / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name stands in brackets and may hold anything, brackets too.
    fields = line.rpartition(")")[2].split()
    return Stat(parent=int(fields[1]), cpu_s=(int(fields[11]) + int(fields[12])) * _TICK_S)


def _name(pid: int) -> str:
    """What a reader would call the process: the script an interpreter runs, else the program."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return "gone"
    program = Path(words[0].split(" ")[0]).name
    if program.startswith(("python", "node")):
        script = next((word for word in words[1:] if word and not word.startswith("-")), "")
        program = Path(script).name if "/" in script else script or program
    return program or "unnamed"
