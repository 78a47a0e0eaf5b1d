"""Children never outlive the launcher, even one that was killed and could not stop them.

Linux sends a signal to a child whose parent died (prctl PR_SET_PDEATHSIG). Elsewhere the child runs under a tether: a
process whose standard input is a pipe from the launcher, and which kills its child when that pipe closes.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

_PR_SET_PDEATHSIG = 1

ON_LINUX = sys.platform == "linux"


def die_with(parent_pid: int) -> Callable[[], None]:
    """What a forked child of `parent_pid` runs on Linux before its program, so that it is killed with its parent."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def arm() -> None:
        if prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0 or os.getppid() != parent_pid:
            os._exit(1)  # the parent died between fork and prctl, or the kernel has no such call

    return arm


def tethered(command: Sequence[str]) -> tuple[str, ...]:
    """The command that runs `command` under a tether; its standard input must be a pipe from the launcher."""
    return (sys.executable, "-m", "tovuk_launcher.death", *command)


def _hold(command: Sequence[str]) -> int:
    """Runs the command; kills it when standard input ends; passes SIGTERM on; returns its exit status."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - the launcher's own argument list

    def kill_at_end_of_input() -> None:
        while os.read(0, 1):  # not sys.stdin, whose lock a daemon thread would hold while the interpreter ends
            pass
        child.kill()

    threading.Thread(target=kill_at_end_of_input, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    return child.wait()


if __name__ == "__main__":
    sys.exit(_hold(sys.argv[1:]))
