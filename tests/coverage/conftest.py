"""The report as a module: test files cannot import one another's neighbours by name."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def report_module() -> ModuleType:
    """tests/coverage/report.py."""
    spec = importlib.util.spec_from_file_location("coverage_report", Path(__file__).with_name("report.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
