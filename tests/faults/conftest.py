"""What fault tests share: how long they are, the compositions they harm, an account for each test."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from composition import Composition
from tenant import Tenant

from tovuk_kit.testing import redis_server


@dataclass(frozen=True)
class Size:
    """How much a test does."""

    cap: int
    mixed_operations: int


@pytest.fixture(scope="session")
def size(pytestconfig: pytest.Config) -> Size:
    """Long with --full."""
    return Size(10_000, 1_000_000) if pytestconfig.getoption("--full") else Size(600, 20_000)


#: Kv processes on one Redis; 0 is the embedded engine, which has one process by its nature.
REPLICAS = {"embedded": 0, "redis-1": 1, "redis-2": 2, "redis-4": 4}
METERS = ("kv_writes", "kv_deletes", "kv_reads", "kv_lists")
SEEDS = 20


def pytest_configure(config: pytest.Config) -> None:
    """Names this folder's marks."""
    config.addinivalue_line("markers", "everywhere: in its long form, every seed of this test on every composition")
    config.addinivalue_line(
        "markers", "once(*short): in its long form, one seed on every composition; in its short form, on these alone"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Where a test with a seed runs: in its long form 20 seeds take turns on the compositions, or all run on each.

    In its short form, one seed on the smallest and the largest. A test that takes a meter gets all four, or two.
    """
    full = metafunc.config.getoption("--full")
    if "replicas" in metafunc.fixturenames:
        metafunc.parametrize("replicas", [0, 2], ids=["embedded", "redis-2"])
        metafunc.parametrize("seed", range(SEEDS // 2 if full else 1))
    elif "seed" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("once")
        names = list(REPLICAS) if full else (mark and mark.args) or ["embedded", "redis-4"]
        once = mark or not full
        everywhere = once or metafunc.definition.get_closest_marker("everywhere")
        chosen = [
            (seed, name)
            for at, name in enumerate(names)
            for seed in range(1 if once else SEEDS)
            if everywhere or seed % len(names) == at
        ]
        # The wider scope sorts the tests by it: a composition starts once.
        metafunc.parametrize(("seed", "composition"), chosen, indirect=["composition"], scope="package")
    if "meter" in metafunc.fixturenames:
        everywhere = metafunc.definition.get_closest_marker("everywhere")
        metafunc.parametrize("meter", METERS if full or everywhere else METERS[::2])


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Chosen by the test's own name, its seed included."""
    return random.Random(request.node.name)


@pytest.fixture(scope="package")
def composition(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    """The whole product on the embedded engine, or on Redis with one, two or four kv processes."""
    directory = tmp_path_factory.mktemp("composition")
    replicas = REPLICAS[request.param]
    if replicas == 0:
        with Composition.started(directory) as started:
            yield started
        return
    with redis_server() as url, Composition.started(directory, redis_url=url, replicas=replicas) as started:
        yield started


@pytest.fixture
def tenant(composition: Composition) -> Tenant:
    """An account of this test's own."""
    composition.wait_until_ready()
    return Tenant.made(composition.url, composition.token)


Choose = Callable[[], str]


@pytest.fixture
def keys(rng: random.Random) -> Callable[[str], Choose]:
    """Keys of a load: `even`, all on `one` key, or `uneven`: most on a few that change as it goes on."""

    def choice(skew: str) -> Choose:
        made = iter(range(10**9))

        def next_key() -> str:
            number = next(made)
            match skew:
                case "even":
                    return f"k{number}"
                case "one":
                    return "the-one"
                case _:
                    return f"hot-{number // 200 + rng.randrange(2)}" if rng.random() < 0.9 else f"k{number}"

        return next_key

    return choice
