"""The product, for tests that stand outside it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from product import Product, Reached


@pytest.fixture(scope="session")
def tovuk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reached]:
    """The whole product, once for the session.

    That which TOVUK_TEST_URL and TOVUK_TEST_TOKEN (its first account's) name; else as `make run` runs it, on a free
    port and in a directory of its own.
    """
    url = os.environ.get("TOVUK_TEST_URL")
    if url:
        yield Reached(url.rstrip("/"), os.environ["TOVUK_TEST_TOKEN"])
    else:
        with Product.launched(tmp_path_factory.mktemp("tovuk")) as product:
            yield product


@pytest.fixture
def own_tovuk(tmp_path: Path) -> Iterator[Product]:
    """A product that this test may harm."""
    with Product.launched(tmp_path) as product:
        yield product
