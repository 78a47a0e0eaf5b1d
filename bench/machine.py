"""The machine a measurement ran on: what it is, and how fast its disk confirms a write."""

import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_WRITE = b"\x5a" * 4096


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts for the header of a result."""

    cores: int
    model: str
    memory_mib: int
    kernel: str
    python: str
    file_system: str
    fdatasync_per_s: float
    load_average: float
    commit: str

    @classmethod
    def look(cls, folder: Path, seconds: float) -> "Machine":
        """The machine, its disk measured in `folder` for so long."""
        return cls(
            cores=len(os.sched_getaffinity(0)),
            model=_field(Path("/proc/cpuinfo"), "model name"),
            memory_mib=int(_field(Path("/proc/meminfo"), "MemTotal").split()[0]) // 1024,
            kernel=f"{platform.system()} {platform.release()}",
            python=sys.version.split()[0],
            file_system=_file_system(folder),
            fdatasync_per_s=fdatasync_per_s(folder, seconds),
            load_average=os.getloadavg()[0],
            commit=_commit(),
        )


def fdatasync_per_s(folder: Path, seconds: float) -> float:
    """How often a second the disk under `folder` confirms 4 KiB appended to a file, one after the other."""
    file = folder / "fdatasync"
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        count, started_at = 0, time.perf_counter()
        while (spent_s := time.perf_counter() - started_at) < seconds:
            os.write(handle, _WRITE)
            os.fdatasync(handle)
            count += 1
        return count / spent_s
    finally:
        os.close(handle)
        file.unlink()


def _field(file: Path, name: str) -> str:
    for line in file.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "0 unknown"


def _file_system(folder: Path) -> str:
    """The type of the longest mount point above the folder."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    above = [mount for mount in mounts if folder.resolve().is_relative_to(mount[1])]
    return max(above, key=lambda mount: len(mount[1]))[2] if above else "unknown"


def _commit() -> str:
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return asked.stdout.strip() or "unknown"
