"""UTC days and months, named by how they begin: `2026-11-21` and `2026-11`."""

from datetime import UTC, datetime, timedelta

from tovuk_kit.meters import Period

DAY_MS = 86_400_000


def day_of(ms: int) -> str:
    """The UTC day of a moment in Unix milliseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")


def window_of(ms: int, period: Period) -> str:
    """The window of a moment."""
    day = day_of(ms)
    return day if period == "day" else day[:7]


def begins_ms(window: str) -> int:
    """The first millisecond of a day or month."""
    first = window if _is_day(window) else f"{window}-01"
    return int(datetime.strptime(first, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) * 1000


def ends_ms(window: str) -> int:
    """The first millisecond after a day or month."""
    if _is_day(window):
        return begins_ms(window) + DAY_MS
    # Any month is over 32 days after its first, and no month after it is.
    return begins_ms(day_of(begins_ms(window) + 32 * DAY_MS)[:7])


def days_before(day: str, days: int) -> str:
    """The day so many days earlier."""
    return (datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC) - timedelta(days=days)).strftime("%Y-%m-%d")


def _is_day(window: str) -> bool:
    return len(window) == len("2026-11-21")


def spans(from_ms: int, to_ms: int) -> list[tuple[str, int]]:
    """The days a span of time touches, each with its milliseconds of it."""
    parts = []
    while from_ms < to_ms:
        day = day_of(from_ms)
        until = min(to_ms, ends_ms(day))
        parts.append((day, until - from_ms))
        from_ms = until
    return parts
