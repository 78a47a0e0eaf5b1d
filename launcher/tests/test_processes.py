import asyncio
import os
import signal
from collections.abc import Callable

import pytest

from tovuk_launcher.processes import Child, Program

MakeProgram = Callable[[str], Program]

_PATIENCE_S = 20.0
SLEEPS = "import os, time; print('pid', os.getpid()); time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPS}"


async def _line(capfd: pytest.CaptureFixture[str], seen: list[str], part: str, times: int = 1) -> str:
    """The latest log line with `part` in it, once `times` of them were written."""
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            seen += capfd.readouterr().err.splitlines()
            found = [line for line in seen if part in line]
            if len(found) >= times:
                return found[-1]
            await asyncio.sleep(0.01)


def _pid(line: str) -> int:
    return int(line.rsplit(" ", 1)[1])


async def test_lines_of_a_child_carry_its_name(program: MakeProgram, capfd: pytest.CaptureFixture[str]) -> None:
    child = Child(program("import sys; sys.stderr.write('said on stderr, no newline'); import time; time.sleep(600)"))
    seen: list[str] = []
    child_of_lines = Child(program("print('one'); print('two'); import time; time.sleep(600)"))
    assert await _line(capfd, seen, "two") == "toy        | two"
    assert await _line(capfd, seen, "one") == "toy        | one"
    await child_of_lines.stop()
    await child.stop()
    assert await _line(capfd, seen, "no newline") == "toy        | said on stderr, no newline"


async def test_a_killed_child_is_started_again_and_the_log_says_so(
    program: MakeProgram, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []
    child = Child(program(SLEEPS))
    first = _pid(await _line(capfd, seen, "pid"))
    os.kill(first, signal.SIGKILL)
    second = _pid(await _line(capfd, seen, "pid", times=2))
    assert second != first
    assert "toy ended (killed by SIGKILL); starting it again in 0.2 s" in await _line(capfd, seen, "ended")
    await child.stop()


async def test_a_child_that_keeps_dying_is_started_ever_more_slowly(
    program: MakeProgram, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []
    child = Child(program("raise SystemExit(3)"))
    await _line(capfd, seen, "starting it again", times=3)
    await child.stop()
    waits = [line.rsplit("in ", 1)[1] for line in seen if "exit status 3" in line]
    assert waits[:3] == ["0.2 s", "0.4 s", "0.8 s"]


async def test_a_child_with_wrong_settings_is_not_started_again(program: MakeProgram) -> None:
    child = Child(program("raise SystemExit(2)"))
    async with asyncio.timeout(_PATIENCE_S):
        await child.hopeless.wait()
        await child.stop()


@pytest.mark.parametrize("source", [SLEEPS, DEAF])
async def test_a_stopped_child_is_gone_even_if_it_is_deaf(
    program: MakeProgram, capfd: pytest.CaptureFixture[str], source: str
) -> None:
    child = Child(program(source))
    pid = _pid(await _line(capfd, [], "pid"))
    async with asyncio.timeout(_PATIENCE_S):
        await child.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_child_can_be_stopped_before_it_has_started(program: MakeProgram) -> None:
    child = Child(program(SLEEPS))
    async with asyncio.timeout(_PATIENCE_S):
        await child.stop()


async def test_a_line_longer_than_the_pipe_is_passed_on_in_pieces(
    program: MakeProgram, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []
    child = Child(program("import sys, time; sys.stdout.write('#' * 300_000 + ' end\\n'); time.sleep(600)"))
    await _line(capfd, seen, " end")
    assert sum(line.count("#") for line in seen) == 300_000
    await child.stop()
