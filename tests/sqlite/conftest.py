"""What the tests of databases share: how often they run, a database of their own, a product they may harm."""

import importlib.util
import os
import random
from collections.abc import Iterator

import pytest
from composition import Composition
from product import Product
from tenant import Tenant
from tenant_database import TenantDatabase


def pytest_configure(config: pytest.Config) -> None:
    """Names this folder's mark."""
    config.addinivalue_line("markers", "seeds(short, full): how many seeds a test takes, and in its long form")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes a seed says by its mark how many there are."""
    if "seed" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("seeds")
        seeds = mark.kwargs["full" if metafunc.config.getoption("--full") else "short"] if mark else 1
        metafunc.parametrize("seed", range(seeds))


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Chosen by the test's own name, its seed included."""
    return random.Random(request.node.name)


@pytest.fixture(scope="package", params=["native", "stock"])
def engine(request: pytest.FixtureRequest) -> str:
    """The name of each engine; where the native one is not built, CI fails and others skip."""
    name: str = request.param
    if name == "native" and importlib.util.find_spec("tovuk_sqlite_native") is None:
        missing = "the native engine is not built: make native"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return name


@pytest.fixture(scope="package")
def product(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """The product on each engine."""
    with Product.launched(tmp_path_factory.mktemp(engine), TOVUK_SQLITE_ENGINE=engine) as launched:
        yield launched


@pytest.fixture
def database(product: Product) -> Iterator[TenantDatabase]:
    """Of a new tenant."""
    made = TenantDatabase.made(product.url, product.token)
    yield made
    made.close()


@pytest.fixture(scope="package")
def composition(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    """The product's processes one by one, to be killed; databases lie at two shards."""
    with Composition.started(tmp_path_factory.mktemp("composition"), shards=2) as started:
        yield started


@pytest.fixture
def tenant(composition: Composition) -> Tenant:
    """An account of this test's own, in the composition."""
    composition.wait_until_ready()
    return Tenant.made(composition.url, composition.token)
