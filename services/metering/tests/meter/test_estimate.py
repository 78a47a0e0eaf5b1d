"""Golden estimates: integers only."""

from tovuk_kit.meters import METER_NAMES
from tovuk_metering.meter.estimate import estimate
from tovuk_metering.meter.prices import PriceBook

GB = 1_000_000_000
MONTH_MS = 31 * 86_400_000


def test_an_idle_month_on_pro_costs_the_subscription(book: PriceBook) -> None:
    found = estimate(book, book.plan("pro"), "2027-01", {}, {})
    assert found["subscriptionUsdMicrosPerMonth"] == 5_000_000
    assert found["currentMonthOverageUsdMicros"] == 0
    assert found["estimatedMonthlyTotalUsdMicros"] == 5_000_000
    assert [line["meter"] for line in found["lineItems"]] == list(METER_NAMES)


def test_a_busy_month_on_pro(book: PriceBook) -> None:
    used = {
        "kv_reads": 12_000_001,
        "kv_writes": 1_000_001,
        "object_storage_class_a_operations": 1_100_000,
        "object_storage_egress_bytes": 1_500 * GB,
        "worker_transfer_bytes": 77 * GB,
    }
    found = estimate(book, book.plan("pro"), "2027-01", used, {"kv_storage_bytes": 3 * GB * MONTH_MS})
    amounts = {line["meter"]: line["amountUsdMicros"] for line in found["lineItems"] if line["amountUsdMicros"]}
    assert amounts == {
        "kv_reads": 1_000_000,
        "kv_writes": 5,
        "kv_storage_bytes": 1_000_000,
        "object_storage_class_a_operations": 450_000,
        "object_storage_egress_bytes": 600_000,
    }
    assert found["currentMonthOverageUsdMicros"] == sum(amounts.values()) == 3_050_005
    assert found["estimatedMonthlyTotalUsdMicros"] == 8_050_005


def test_a_line_says_how_its_amount_comes_about(book: PriceBook) -> None:
    found = estimate(book, book.plan("pro"), "2027-01", {"kv_reads": 12_000_001}, {})
    assert next(line for line in found["lineItems"] if line["meter"] == "kv_reads") == {
        "meter": "kv_reads",
        "product": "kv",
        "unit": "read",
        "usedUnits": 12_000_001,
        "includedUnits": 10_000_000,
        "billableUnits": 2_000_001,
        "billingUnit": "million_reads",
        "unitsPerBillingUnit": 1_000_000,
        "unitPriceUsdMicros": 500_000,
        "amountUsdMicros": 1_000_000,
    }


def test_free_transfer_is_a_line_of_zero(book: PriceBook) -> None:
    found = estimate(book, book.plan("pro"), "2027-01", {"worker_transfer_bytes": 77 * GB}, {})
    line = next(line for line in found["lineItems"] if line["meter"] == "worker_transfer_bytes")
    assert (line["billingUnit"], line["usedUnits"], line["amountUsdMicros"]) == ("free_transfer", 77 * GB, 0)


def test_nothing_is_billed_on_free(book: PriceBook) -> None:
    found = estimate(book, book.plan("free"), "2027-01", dict.fromkeys(METER_NAMES, 10**15), {})
    assert found["estimatedMonthlyTotalUsdMicros"] == 0
    assert {line["billableUnits"] for line in found["lineItems"]} == {0}


def test_self_hosted_has_the_prices_of_pro(book: PriceBook) -> None:
    used = dict.fromkeys(METER_NAMES, 10**12)
    pro, own = (estimate(book, book.plan(name), "2027-01", used, {}) for name in ("pro", "self_hosted"))
    assert own["lineItems"] == pro["lineItems"]
    assert own["estimatedMonthlyTotalUsdMicros"] == pro["estimatedMonthlyTotalUsdMicros"]


def test_every_figure_is_an_integer_however_large(book: PriceBook) -> None:
    used = dict.fromkeys(METER_NAMES, 2**53 - 1)
    found = estimate(book, book.plan("pro"), "2027-02", used, {"kv_storage_bytes": 2**90})
    for line in found["lineItems"]:
        assert {type(value) for key, value in line.items() if key.endswith(("Units", "Micros"))} == {int}
