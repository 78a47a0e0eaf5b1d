"""The tables: medians and spreads, latencies, CPU a request, ratios, and how the results stand to the targets set."""

import dataclasses
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Final

from bench.machine import Machine
from bench.rounds import Plan, Results, Sample
from bench.rows import Row, rows
from bench.verdicts import verdicts
from bench.workload import BULK_CONNECTIONS, CONNECTIONS, ENTRIES, VALUE_BYTES, Operation

#: Above this share, what others did on the machine is said beside the figure.
_OTHERS_SHARE_MAX: Final = 0.10
_REFERENCE: Final = "ours-sqlite-1"


def markdown(plan: Plan, machine: Machine, results: Results, at: datetime) -> str:
    """The whole report."""
    lines = [
        f"# Measured {at:%Y-%m-%d %H:%M} UTC at {machine.commit}",
        "",
        (
            f"{machine.cores} cores ({machine.model}), {machine.memory_mib} MiB, {machine.kernel}, "
            f"Python {machine.python}; {machine.file_system}, {machine.fdatasync_per_s:,.0f} fdatasync/s before the "
            f"first round, load average {machine.load_average:.2f}."
        ),
        (
            f"{plan.rounds} rounds of {plan.seconds:g} s a cell, {CONNECTIONS} connections ({BULK_CONNECTIONS} for "
            f"bulk requests of {ENTRIES} entries), values of {VALUE_BYTES} bytes; every target alone on the "
            "machine, driver included."
        ),
        "",
    ]
    for operation in plan.operations:
        lines += _operation(results, operation)
    lines += _limits(results)
    lines += ["## Against the targets set", "", *(f"- {line}" for line in verdicts(results, machine.cores)), ""]
    lines += ["## What was measured", "", *(f"- `{target.name}`: {target.meaning}" for target in plan.targets)]
    lines += [f"- `{limit.name}`: {limit.meaning}" for limit in plan.limits]
    faults = results.failures + [
        f"{s.target} {s.operation}, round {s.round}: {s.error}" for s in results.samples if s.error
    ]
    if faults:
        lines += ["", "## Invalid, and left out above", "", *(f"- {fault.splitlines()[0]}" for fault in faults)]
    return "\n".join([*lines, ""])


def _operation(results: Results, operation: Operation) -> list[str]:
    found = rows(results, operation)
    if not found:
        return []
    reference = found.get(_REFERENCE) or next(iter(found.values()))
    lines = [
        f"## {operation}",
        "",
        (
            f"| target | requests/s min / med / max | {reference.target} is × | open loop at /s: p50 / p99 ms "
            "| µs CPU a request | fdatasync/s | others |"
        ),
        "|---|---|---|---|---|---|---|",
    ]
    for row in found.values():
        rates = [sample.load.per_second for sample in row.closed]
        lines.append(
            f"| {row.target} | {min(rates):,.0f} / {row.peak:,.0f} / {max(rates):,.0f} "
            f"| {reference.peak / row.peak:.2f} | {_timed(row.timed)} "
            f"| {_cpu(row)} | {_or_dash(row.fdatasync_per_s)} | {_others(row.closed)} |"
        )
    return [*lines, ""]


def _timed(timed: Sequence[Sample]) -> str:
    if not timed:
        return "–"
    rate = median(sample.rate_per_s for sample in timed)
    p50, p99 = median(s.load.p50_ms for s in timed), median(s.load.p99_ms for s in timed)
    lag = median(sample.load.driver_lag_p99_ms for sample in timed)
    late = f" (driver late by {lag:.1f})" if lag > p99 / 4 else ""
    return f"{rate:,.0f}: {p50:.2f} / {p99:.2f}{late}"


def _cpu(row: Row) -> str:
    names = dict.fromkeys(name for sample in row.closed for name in sample.cpu_us)
    costs = {name: row.cpu_us(name) for name in names}
    return ", ".join(f"{name} {cost:.1f}" for name, cost in costs.items() if cost >= 0.05)


def _or_dash(figure: float) -> str:
    return f"{figure:,.0f}" if figure else "–"


def _others(samples: Sequence[Sample]) -> str:
    worst = max(sample.others_share for sample in samples)
    return f"**{worst:.0%}**" if worst > _OTHERS_SHARE_MAX else f"{worst:.0%}"


def _limits(results: Results) -> list[str]:
    if not results.limits:
        return []
    lines = ["## Limits without HTTP", "", "| limit | operation | per second min / med / max |", "|---|---|---|"]
    for name, rounds in results.limits.items():
        for operation in rounds[0]:
            rates = [rates[operation] for rates in rounds]
            lines.append(f"| {name} | {operation} | {min(rates):,.0f} / {median(rates):,.0f} / {max(rates):,.0f} |")
    return [*lines, ""]


def save(folder: Path, plan: Plan, machine: Machine, results: Results, at: datetime) -> Path:
    """Writes the report and all samples below `folder`; returns the report's path."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{at:%Y-%m-%d-%H%M}"
    report = folder / f"{stem}.md"
    report.write_text(markdown(plan, machine, results, at))
    raw = {
        "at": at.isoformat(),
        "machine": dataclasses.asdict(machine),
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "samples": [dataclasses.asdict(sample) for sample in results.samples],
        "limits": results.limits,
        "failures": results.failures,
    }
    (folder / f"{stem}.json").write_text(json.dumps(raw, indent=1) + "\n")
    return report
