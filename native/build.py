"""Builds the extension and puts it into this Python's environment: `make native`.

`crates.lock` is cargo's lock file without the registry's address: versions and hashes are pinned,
and cargo itself knows where it fetches from.
"""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIBRARY = "tovuk_sqlite_native"


def lock(cargo: str) -> None:
    """Writes Cargo.lock: what crates.lock pins, with the address cargo gives."""
    pinned = (HERE / "crates.lock").read_text(encoding="utf-8")
    path = HERE / "Cargo.lock"
    if path.exists() and without_sources(path.read_text(encoding="utf-8")) == pinned:
        return
    path.unlink(missing_ok=True)
    subprocess.run([cargo, "generate-lockfile", "--quiet"], cwd=HERE, check=True)  # noqa: S603 - cargo, found in PATH
    fresh = path.read_text(encoding="utf-8").splitlines(keepends=True)
    source = next(line for line in fresh if line.startswith("source = "))
    # In cargo's order of fields the source stands before the checksum.
    path.write_text(pinned.replace("checksum = ", source + "checksum = "), encoding="utf-8")


def without_sources(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("source = "))


def main() -> int:
    cargo = shutil.which("cargo")
    if cargo is None:
        sys.stderr.write(
            "Rust is needed to build the exact row meter (cargo, 1.88 or newer). "
            "The sqlite service runs without it, on stock SQLite.\n"
        )
        return 1
    lock(cargo)
    subprocess.run([cargo, "build", "--release", "--locked", "--quiet"], cwd=HERE, check=True)  # noqa: S603 - cargo, found in PATH
    built = next(
        path for path in (HERE / "target" / "release").glob(f"lib{LIBRARY}.*") if path.suffix in {".so", ".dylib"}
    )
    target = Path(sysconfig.get_path("platlib")) / f"{LIBRARY}.abi3.so"
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_suffix(".new")
    shutil.copyfile(built, beside)
    beside.replace(target)  # a process that has the old one loaded keeps it
    sys.stdout.write(f"{target}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
