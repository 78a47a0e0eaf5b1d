"""How results stand to the speeds that issues 3 and 4 set as their own targets."""

from statistics import median
from typing import Final

from bench.rounds import Results
from bench.rows import Row, rows
from bench.workload import CONNECTIONS, Operation

_US: Final = 1_000_000
#: Least share of another's rate. Source: issue 4, done-when, speed.
_SQL_LEAST: Final[tuple[tuple[Operation, str, float], ...]] = (
    ("select", "miniflare-d1", 15.0),
    ("insert", "miniflare-d1", 8.0),
    ("aggregate", "apsw", 0.8),
    ("transfer", "apsw", 0.25),
)


def verdicts(results: Results, cores: int) -> list[str]:
    """Each target of the issues whose figures are all there, with what was reached."""
    get, put = rows(results, "get"), rows(results, "put")
    lines = [
        line
        for engine in ("sqlite", "redis")
        for line in (
            *_ratios(get, engine, "get", {"webdis": 0.7, "miniflare": 15.0, "naive": 10.0}),
            *_ratios(put, engine, "put", {"miniflare": 15.0, "naive": 10.0, "naive-grouped": 10.0}),
            *_of_what_is_allowed(put, engine, cores),
            *_latency(get, engine),
        )
    ]
    for operation, found in (("get", get), ("put", put)):
        lines += _metering_cost(found, operation)
    lines += _databases(results)
    return lines or ["nothing to compare: run ours beside a peer"]


def _best(found: dict[str, Row], engine: str) -> Row | None:
    ours = [row for name, row in found.items() if name in {f"ours-{engine}-1", f"ours-{engine}-2"}]
    return max(ours, key=lambda row: row.peak, default=None)


def _ratios(found: dict[str, Row], engine: str, what: str, least: dict[str, float]) -> list[str]:
    ours = _best(found, engine)
    if ours is None:
        return []
    return [
        f"{_mark(ours.peak / found[peer].peak >= factor)} {what}, {ours.target}: "
        f"{ours.peak / found[peer].peak:.2f} × {peer} (at least {factor:g})"
        for peer, factor in least.items()
        if peer in found
    ]


def _of_what_is_allowed(put: dict[str, Row], engine: str, cores: int) -> list[str]:
    """A sync confirms at most one put of each connection; the cores allow what a put's CPU leaves, driver included."""
    ours = _best(put, engine)
    if ours is None:
        return []
    disk, cpu = CONNECTIONS * ours.fdatasync_per_s, cores * _US / ours.cpu_us()
    allowed = min(disk, cpu)
    what = "the disk" if disk < cpu else "the CPU"
    return [
        (
            f"{_mark(ours.peak >= allowed / 2)} put, {ours.target}: {ours.peak / allowed:.0%} of the {allowed:,.0f}/s "
            f"that {what} allows (at least 50 %; disk {disk:,.0f}, CPU {cpu:,.0f})"
        )
    ]


def _latency(get: dict[str, Row], engine: str) -> list[str]:
    ours = _best(get, engine)
    if ours is None or ours.p99_ms is None:
        return []
    share = median(sample.rate_per_s for sample in ours.timed) / ours.peak
    return [
        f"{_mark(ours.p99_ms < 10)} get, {ours.target}: p99 {ours.p99_ms:.2f} ms at {share:.0%} of its peak (below 10)"
    ]


def _metering_cost(found: dict[str, Row], operation: str) -> list[str]:
    capped, bare = found.get("ours-sqlite-1"), found.get("ours-sqlite-1-unmetered")
    if capped is None or bare is None:
        return []
    cost = 1 - capped.peak / bare.peak
    cpu = capped.cpu_us() - bare.cpu_us()
    return [
        (
            f"{_mark(cost <= 0.15)} {operation}: metering and caps cost {cost:.1%} of the requests/s and {cpu:+.1f} µs "
            "of CPU a request (at most 15 %)"
        )
    ]


def _databases(results: Results) -> list[str]:
    lines = []
    for operation, limit, least in _SQL_LEAST:
        ours = rows(results, operation).get("ours-databases")
        theirs = _peak(results, operation, limit)
        if ours is not None and theirs:
            ratio = ours.peak / theirs
            lines.append(
                f"{_mark(ratio >= least)} {operation}, {ours.target}: {ratio:.2f} × {limit} (at least {least:g})"
            )
    alone, crowded = (_peak(results, "select", name) for name in ("ours-databases", "ours-databases-crowded"))
    if alone and crowded:
        left = crowded / alone
        lines.append(f"{_mark(left >= 0.5)} select beside another tenant's endless queries: {left:.0%} (at least 50 %)")
    return lines


def _peak(results: Results, operation: Operation, name: str) -> float:
    """The median rate of a target or a limit; 0 where it was not measured."""
    row = rows(results, operation).get(name)
    rates = [rates[operation] for rates in results.limits.get(name, ()) if operation in rates]
    return row.peak if row is not None else median(rates) if rates else 0.0


def _mark(reached: bool) -> str:
    return "reached:" if reached else "MISSED:"
