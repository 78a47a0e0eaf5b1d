"""The published client, version 0.1.105: where it is found, and what one call of it gives."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

VERSION = "0.1.105"
#: The command that brings it.
INSTALL = f"cargo install --locked --root ~/.cache/tovuk-tools tovuk --version {VERSION}"
_CACHED = Path.home() / ".cache/tovuk-tools/bin/tovuk"


class Run(NamedTuple):
    """What one call of the client printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON; the call must have succeeded."""
        assert self.status == 0, self.err
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """Standard error as JSON; the call must have failed, and printed nothing else."""
        assert self.status != 0 and not self.out, self.out
        return json.loads(self.err)


Client = Callable[..., Run]


def _on_path() -> str | None:
    found = shutil.which("tovuk")
    # The launcher's script has the same name, and would start a product.
    return None if found is None or Path(found).parent == Path(sys.executable).parent else found


def find() -> str | None:
    """The client's path: TOVUK_CLIENT, else the cached build, else one on the PATH; None when it is nowhere."""
    for found in (os.environ.get("TOVUK_CLIENT"), str(_CACHED), _on_path()):
        if found and Path(found).exists():
            said = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=10).stdout.strip()
            if said == VERSION:
                return found
    return None
