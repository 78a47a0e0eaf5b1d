"""Tests of the extension. Where it is not built, each file is skipped with the command that does; CI must have it."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tovuk_sqlite_native import Connection

_BUILT = importlib.util.find_spec("tovuk_sqlite_native") is not None
_MISSING = "the native extension is not built: make native"


class _Unbuilt(pytest.Module):
    def collect(self) -> list[pytest.Item | pytest.Collector]:
        if os.environ.get("CI") == "true":
            pytest.fail(_MISSING)
        pytest.skip(_MISSING, allow_module_level=True)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    if _BUILT or not module_path.is_relative_to(Path(__file__).parent):
        return None
    return _Unbuilt.from_parent(parent, path=module_path)


@pytest.fixture
def tenant(tmp_path: Path) -> "Iterator[Connection]":
    """A connection to a new, empty file, tenant.db in tmp_path."""
    from tovuk_sqlite_native import Connection

    connection = Connection(str(tmp_path / "tenant.db"), create=True)
    yield connection
    connection.close()
