"""Programs to start: small Python scripts that say on standard output what happens to them."""

import sys
from collections.abc import Callable

import pytest

from tovuk_launcher.processes import Program

MakeProgram = Callable[[str], Program]


@pytest.fixture
def program() -> MakeProgram:
    """A program of the given Python source; it may take 0.5 s to stop."""

    def make(source: str) -> Program:
        return Program("toy", (sys.executable, "-I", "-u", "-c", source), {}, 0.5)

    return make
