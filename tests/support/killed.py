"""A process that kills itself at a step of its own."""

import itertools
import os
import signal
import sys

_EVENTS = frozenset({"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.listdir", "os.scandir"})


def kill_at(step: int) -> None:
    """Die before the step-th file operation of Python's own from now on; each marks one step of what is done."""
    steps = itertools.count(1)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        # Each commit looks at the WAL, and is no step.
        if event in _EVENTS and not str(arguments[0]).endswith("-wal") and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
