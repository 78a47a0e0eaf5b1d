"""The composed product, once for all tests here, which harm it and let it recover."""

import random
from collections.abc import Iterator

import pytest
from composed import Composed, why_not
from shard_operator import Operator
from tenant import Tenant


@pytest.fixture(scope="package")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    """Where Docker works."""
    if missing := why_not():
        pytest.skip(missing)
    with Composed.started(tmp_path_factory.mktemp("composed")) as started:
        yield started


@pytest.fixture
def tenant(composed: Composed) -> Tenant:
    """An account of this test's own."""
    composed.wait_until_ready()
    return Tenant.made(composed.url, composed.token)


@pytest.fixture
def operator(composed: Composed) -> Iterator[Operator]:
    """Of the shards."""
    made = Operator(composed.url, composed.token)
    yield made
    made.close()


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Chosen by the test's own name."""
    return random.Random(request.node.name)
