"""A process that kills itself at a step of its own."""

import itertools
import os
import signal
import sys

#: What opens, renames or removes a file.
FILES = frozenset({"open", "os.rename", "os.remove"})
EVERYTHING = FILES | {"os.rmdir", "os.mkdir", "os.listdir", "os.scandir"}


def kill_at(step: int, events: frozenset[str] = EVERYTHING) -> None:
    """Die before the step-th file operation of Python's own from now on; each marks one step of what is done."""
    steps = itertools.count(1)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        # Each commit looks at the WAL, and is no step.
        if event in events and not str(arguments[0]).endswith("-wal") and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
