"""What a month costs: integers only, in micro-USD, rounded down per line."""

from collections.abc import Mapping
from typing import Any

from tovuk_kit.meters import METER_NAMES, METERS, Counting
from tovuk_metering.meter.calendar import begins_ms, ends_ms
from tovuk_metering.meter.prices import Plan, PriceBook

#: 1 cent in micro-USD.
_CENT_MICROS = 10_000


def estimate(
    book: PriceBook, plan: Plan, month: str, used: Mapping[str, int], byte_ms: Mapping[str, int]
) -> dict[str, Any]:
    """The estimate as `GET /v1/usage` shows it.

    `used` are the month's units of count meters, `byte_ms` the byte-milliseconds of level meters, which are billed by
    the bytes stored on average over the whole month. Source: contract.md 4.10; seeds, Product catalog.
    """
    month_ms = ends_ms(month) - begins_ms(month)
    lines = [
        _line(
            book,
            plan,
            meter,
            byte_ms.get(meter, 0) // month_ms if METERS[meter].counting is Counting.LEVEL else used.get(meter, 0),
        )
        for meter in METER_NAMES
    ]
    subscription = plan.figure("pricing.subscriptionUsdCentsPerMonth") * _CENT_MICROS
    overage = sum(line["amountUsdMicros"] for line in lines)
    return {
        "plan": plan.name,
        "month": month,
        "currency": "USD",
        "subscriptionUsdMicrosPerMonth": subscription,
        "currentMonthOverageUsdMicros": overage,
        "estimatedMonthlyTotalUsdMicros": subscription + overage,
        "lineItems": lines,
    }


def _line(book: PriceBook, plan: Plan, meter: str, used: int) -> dict[str, Any]:
    price = book.prices[meter]
    # Where overages are not sold, and on free meters, all that is used is included.
    paid = bool(price.price) and plan.figure("pricing.paidOveragesEnabled")
    included = plan.figure(price.included) if paid else used
    billable = max(0, used - included)
    unit_price = plan.figure(price.price) if paid else 0
    return {
        "meter": meter,
        "product": book.product_of(meter),
        "unit": METERS[meter].unit,
        "usedUnits": used,
        "includedUnits": included,
        "billableUnits": billable,
        "billingUnit": price.billing_unit,
        "unitsPerBillingUnit": price.units,
        "unitPriceUsdMicros": unit_price,
        "amountUsdMicros": billable * unit_price // price.units,
    }
