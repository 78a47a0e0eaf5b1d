"""The repository as its rules see it."""

import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@cache
def _tracked() -> tuple[Path, ...]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    if listed.returncode == 0:
        names = listed.stdout.decode().rstrip("\0").split("\0")
        return tuple(sorted(path for name in names if (path := ROOT / name).is_file()))
    # An unpacked archive has no git to ask; what .gitignore names by folder is left out by hand.
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()} | {".git"}
    return tuple(
        sorted(path for path in ROOT.rglob("*") if path.is_file() and not ignored & set(path.relative_to(ROOT).parts))
    )


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's top."""
    return ROOT


@pytest.fixture(scope="session")
def files() -> tuple[Path, ...]:
    """Every file of the repository, new ones included, ignored ones not."""
    return _tracked()


@pytest.fixture(scope="session")
def services() -> tuple[Path, ...]:
    """The folders of the services."""
    return tuple(sorted(path.parent for path in (ROOT / "services").glob("*/pyproject.toml")))
