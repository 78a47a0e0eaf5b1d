"""`python -m bench`: measures, prints the tables, saves them below bench/results."""

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.load import cache
from bench.machine import Machine
from bench.report import markdown, save
from bench.rounds import Plan, run
from bench.targets.catalogue import LIMIT_BY_NAME, NAMES, TARGETS
from bench.workload import OPERATIONS, Operation

_RESULTS = Path(__file__).parent / "results"
_DISK_S = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 1 when anything asked for could not be measured, or answered wrongly."""
    asked = _parser().parse_args(arguments)
    # Ended from outside, it still stops what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(dir=asked.folder or cache()) as name:
        folder = Path(name)
        plan = _plan(asked, folder)
        at, machine = datetime.now(UTC), Machine.look(folder, min(_DISK_S, plan.seconds))
        results = run(plan, lambda line: print(line, flush=True))
    print()
    print(markdown(plan, machine, results, at))
    print(f"saved as {save(asked.results, plan, machine, results, at)}")
    return 0 if results.valid else 1


def _plan(asked: argparse.Namespace, folder: Path) -> Plan:
    return Plan(
        targets=tuple(TARGETS[name] for name in asked.targets if name in TARGETS),
        limits=tuple(LIMIT_BY_NAME[name] for name in asked.targets if name in LIMIT_BY_NAME),
        operations=asked.only,
        rounds=1 if asked.quick else asked.rounds,
        seconds=1.0 if asked.quick else asked.seconds,
        rate_per_s=asked.rate,
        open_loops=not asked.no_latency,
        folder=folder,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--targets", type=_names, default=NAMES, help=f"comma-separated, of {', '.join(NAMES)}")
    parser.add_argument("--only", type=_operations, default=OPERATIONS, help=f"of {', '.join(OPERATIONS)}")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions of everything, interleaved (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of one cell, whole seconds (%(default)g)")
    parser.add_argument("--rate", type=float, help="requests/s of the open loops; half of each own peak when absent")
    parser.add_argument("--no-latency", action="store_true", help="closed loops alone")
    parser.add_argument("--quick", action="store_true", help="one round of one second")
    parser.add_argument("--folder", type=Path, help="where the data lies while measuring; the user's cache when absent")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="where the report goes (bench/results)")
    return parser


def _names(text: str) -> tuple[str, ...]:
    return _chosen(text, NAMES)


def _operations(text: str) -> tuple[Operation, ...]:
    chosen = _chosen(text, OPERATIONS)
    return tuple(operation for operation in OPERATIONS if operation in chosen)


def _chosen(text: str, known: Sequence[str]) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    for name in chosen:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(known)}")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
