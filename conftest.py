"""What every test shares: the engines' fixtures, and the tie between tests and the seeds' sentences."""

from pathlib import Path

import pytest

pytest_plugins = ["tovuk_kit.testing"]

_ROOT = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run crash tests in their long form")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fail the collection when a test claims to prove a sentence that is nobody's."""
    known = _sentences()
    for item in items:
        for mark in item.iter_markers("proves"):
            unknown = [sentence for sentence in mark.args if sentence not in known]
            if unknown or not mark.args:
                raise pytest.UsageError(f"{item.nodeid} proves {unknown or 'nothing'}, no sentence of the seeds")


def _sentences() -> frozenset[str]:
    shared = _ROOT.parent / "shared" / "seeds" / "sentences.tsv"
    source = shared if shared.exists() else _ROOT / "docs" / "sentences.tsv"
    return frozenset(line.split("\t", 1)[0] for line in source.read_text("utf-8").splitlines())
