"""The price book is whole, and a book that is not is refused at start."""

from importlib.resources import files

import pytest

from tovuk_kit.capabilities import CAPABILITIES
from tovuk_kit.meters import METER_NAMES, METERS
from tovuk_metering.meter.prices import PRODUCT_KEYS, PriceBook, PriceBookInvalid

TEXT = files("tovuk_metering").joinpath("price_book.toml").read_text("utf-8")


def test_every_product_is_a_capability_that_a_service_can_have() -> None:
    assert set(PRODUCT_KEYS) < set(CAPABILITIES)


@pytest.mark.proves("RES-073", "CAP-004", "CAP-007")
def test_every_product_is_described_by_fields_that_every_plan_has(book: PriceBook) -> None:
    products = [product.as_json() for product in book.products]
    assert tuple(product["key"] for product in products) == PRODUCT_KEYS
    for product in products:
        assert product["features"]
        assert product["best_for"]
        assert product["avoid_for"]
        for plan in book.plans.values():
            shown = plan.as_json()
            assert set(product["limit_fields"]) <= set(shown["limits"])
            for path in product["pricing_fields"]:
                found = shown
                for part in path.split("."):
                    found = found[part]
                assert isinstance(found, int)


@pytest.mark.proves("CAP-039")
def test_usage_caps_has_all_24_meters_with_their_units_and_commands(book: PriceBook) -> None:
    details = book.products[-1].as_json()["meter_details"]
    assert [detail["name"] for detail in details] == list(METER_NAMES)
    assert len(details) == 24
    for detail in details:
        assert (detail["unit"], detail["description"]) == (
            METERS[detail["name"]].unit,
            METERS[detail["name"]].description,
        )
        assert detail["cap_commands"]["month"] == (
            f"tovuk limits set {detail['name']} --period month --value <value> --notify-at-percent 80 --json"
        )


def test_the_published_figures_are_in_the_book(book: PriceBook) -> None:
    pro, free = book.plan("pro"), book.plan("free")
    assert pro.figure("pricing.subscriptionUsdCentsPerMonth") == 500
    assert pro.figure("pricing.objectStorage.classAOverageUsdMicrosPerMillion") == 4_500_000
    assert pro.figure("pricing.objectStorage.classBOverageUsdMicrosPerMillion") == 360_000
    assert pro.figure("pricing.objectStorage.egressOverageUsdMicrosPerTb") == 1_200_000
    assert (free.limits["workerCompressedSizeMib"], free.limits["sqliteDatabases"]) == (3, 10)
    assert free.limits["stateStorageMibPerObject"] == 953


@pytest.mark.proves("RES-142")
def test_free_stops_state_storage_at_five_gigabytes(book: PriceBook) -> None:
    limits = {limit.meter: limit.units for limit in book.plan("free").meter_limits}
    assert limits["state_sqlite_storage_bytes"] == 4_768 * 2**20


def test_self_hosted_limits_no_meter(book: PriceBook) -> None:
    plan = book.plan("self_hosted")
    assert plan.meter_limits == ()
    assert plan.limits["projects"] == 1_000_000
    assert plan.pricing == book.plan("pro").pricing


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('kvReadsPerDay = { meter = "kv_reads"', 'kvReadsPerDay = { meter = "kv_reeds"', "meter_limits.kvReadsPerDay"),
        (
            'price = "pricing.kv.readOverage',
            'price = "pricing.kv.reedOverage',
            "pricing.kv.reedOverage",
        ),
        ('  "kvReadsPerDay",', '  "kvReedsPerDay",', "kv: kvReedsPerDay is no limit of free"),
        ('key = "queue"', 'key = "queues"', "the products are not"),
        ("[prices.kv_lists]", "[prices.kv_list]", "the prices are not those of the 24 meters"),
        ('projects = { value = 100, source = "design" }', "projects = { value = 100 }", "projects has no source"),
        ("projects = { value = 100,", "projects = { value = -1,", "projects is neither"),
        ("projects = { value = 100,", "projects = { value = 1.5,", "projects is neither"),
        ("projects = { value = 100,", "project = { value = 100,", "do not have the same limits"),
    ],
)
def test_a_book_that_contradicts_itself_is_refused(old: str, new: str, problem: str) -> None:
    assert old in TEXT
    with pytest.raises(PriceBookInvalid, match=problem):
        PriceBook.load(TEXT.replace(old, new, 1))
