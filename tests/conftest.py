"""The launched product, for tests that stand outside it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from product import Product


@pytest.fixture(scope="session")
def tovuk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """The whole product, as `make run` runs it, on a free port and in a directory of its own, once for the session."""
    with Product.launched(tmp_path_factory.mktemp("tovuk")) as product:
        yield product


@pytest.fixture
def own_tovuk(tmp_path: Path) -> Iterator[Product]:
    """A product that this test may harm."""
    with Product.launched(tmp_path) as product:
        yield product
