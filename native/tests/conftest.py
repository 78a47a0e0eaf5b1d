"""Tests of the extension; without it they are skipped by name, and fail where CI must have built it."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

_BUILT = importlib.util.find_spec("tovuk_sqlite_native") is not None

if not _BUILT:
    collect_ignore = [path.name for path in Path(__file__).parent.glob("test_*.py") if path.name != "test_build.py"]


def pytest_configure(config: pytest.Config) -> None:
    if not _BUILT and os.environ.get("CI") == "true":
        raise pytest.UsageError("the native extension is not built: make native")


@pytest.fixture
def connection(tmp_path: Path) -> "Iterator[object]":
    from tovuk_sqlite_native import Connection

    opened = Connection(str(tmp_path / "tenant.db"), create=True)
    yield opened
    opened.close()
