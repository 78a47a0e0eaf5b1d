import os
import subprocess
import sys
import time

import pytest

from tovuk_launcher import death

_PATIENCE_S = 20.0


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    return status.startswith("Z") or not status


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not _gone(pid):
        assert time.monotonic() < deadline, f"process {pid} outlived its parent"
        time.sleep(0.01)


PARENT = """
import os, subprocess, sys, time
from tovuk_launcher import death
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], preexec_fn=death.die_with(os.getpid()))
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(not death.ON_LINUX, reason="PR_SET_PDEATHSIG is Linux's")
def test_a_child_is_killed_with_its_parent_on_linux() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not _gone(child)
        parent.kill()
    _wait_until_gone(child)


def test_a_tethered_child_is_killed_when_the_launchers_end_of_the_pipe_closes() -> None:
    child_source = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    tether = subprocess.Popen(
        death.tethered([sys.executable, "-c", child_source]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert tether.stdin is not None and tether.stdout is not None
    child = int(tether.stdout.readline())
    assert not _gone(child)
    tether.stdin.close()
    _wait_until_gone(child)
    assert tether.wait(_PATIENCE_S) != 0
    tether.stdout.close()


def test_a_tether_passes_the_polite_signal_on_and_the_exit_status_back() -> None:
    source = (
        "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); print(flush=True); signal.pause()"
    )
    with subprocess.Popen(
        death.tethered([sys.executable, "-c", source]), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as tether:
        assert tether.stdout is not None
        tether.stdout.readline()
        tether.terminate()
        assert tether.wait(_PATIENCE_S) == 7
