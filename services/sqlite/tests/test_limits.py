"""What the limits have in common with the price book, which a user reads."""

import pytest

from tovuk_metering.meter.prices import PriceBook
from tovuk_sqlite.limits import DATABASE_BYTES_MAX


@pytest.mark.parametrize("plan", PriceBook.load().plans.values(), ids=lambda plan: plan.name)
def test_a_database_may_be_as_large_as_the_price_book_says(plan: object) -> None:
    mebibytes = plan.limits["sqliteDatabaseMib"]  # type: ignore[attr-defined]
    assert DATABASE_BYTES_MAX[plan.name] == mebibytes * 1024 * 1024  # type: ignore[attr-defined]
