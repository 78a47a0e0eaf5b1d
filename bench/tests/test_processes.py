import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.processes import DidNotStart, cpu_by_process, cpu_spent, running


def test_a_process_is_gone_after_its_block(tmp_path: Path) -> None:
    with running(["sleep", "60"], log=tmp_path / "log", ready=lambda: True) as process:
        os.kill(process, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_one_that_ends_at_once_shows_its_last_lines(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no room')"]
    with (
        pytest.raises(DidNotStart) as raised,
        running(command, log=tmp_path / "log", ready=lambda: False),
    ):
        pass
    assert "no room" in raised.value.__notes__[0]


def test_one_that_never_becomes_ready_is_ended(tmp_path: Path) -> None:
    with (
        pytest.raises(DidNotStart, match="did not become ready"),
        running(["sleep", "60"], log=tmp_path / "log", ready=lambda: False, start_within_s=0.1),
    ):
        pass


def test_the_cpu_of_descendants_counts() -> None:
    child = "for i in range(3_000_000): pass\ninput()"
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE) as process:
        deadline, child_cpu_s = time.monotonic() + 30, 0.0
        while child_cpu_s < 0.05 and time.monotonic() < deadline:
            used = cpu_by_process([process.pid])
            child_cpu_s = sum(cpu_s for (pid, _name), cpu_s in used.items() if pid != process.pid)
        process.communicate(b"\n")
    assert child_cpu_s >= 0.05


def test_cpu_of_one_name_is_one_sum_and_a_new_process_counts_whole() -> None:
    before = {(1, "tovuk-gateway"): 1.0, (2, "tovuk-gateway"): 2.0}
    after = {(1, "tovuk-gateway"): 1.5, (2, "tovuk-gateway"): 2.25, (3, "tovuk-kv"): 0.5}
    assert cpu_spent(before, after) == {"tovuk-gateway": 0.75, "tovuk-kv": 0.5}
