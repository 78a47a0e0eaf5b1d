"""Sums over usage rows."""

from tovuk_kit.usage import UsageRow, units_of


def test_units_are_those_of_all_rows() -> None:
    assert units_of([]) == 0
    assert units_of([UsageRow(1, "a", "b", 2), UsageRow(1, "a", "c", 3)]) == 5
