"""The valid rounds of every target and operation, and their medians."""

from dataclasses import dataclass
from statistics import median

from bench.rounds import Results, Sample
from bench.workload import Operation


@dataclass(frozen=True, slots=True)
class Row:
    """The valid rounds of one target and operation."""

    target: str
    closed: tuple[Sample, ...]
    timed: tuple[Sample, ...]

    @property
    def peak(self) -> float:
        """Median requests a second of the closed loops."""
        return median(sample.load.per_second for sample in self.closed)

    def cpu_us(self, name: str | None = None) -> float:
        """Median CPU microseconds a request: of one process name, or of everything, driver included."""
        return median(
            sum(sample.cpu_us.values()) if name is None else sample.cpu_us.get(name, 0.0) for sample in self.closed
        )

    @property
    def fdatasync_per_s(self) -> float:
        """Median of what the disk confirmed around the cells."""
        return median(sample.fdatasync_per_s for sample in self.closed)

    @property
    def p99_ms(self) -> float | None:
        """Median p99 of the open loops."""
        return median(sample.load.p99_ms for sample in self.timed) if self.timed else None


def rows(results: Results, operation: Operation) -> dict[str, Row]:
    """The operation's rows by target, without invalid samples."""
    found: dict[str, Row] = {}
    for name in dict.fromkeys(sample.target for sample in results.samples):
        valid = [s for s in results.samples if s.target == name and s.operation == operation and not s.error]
        closed = tuple(sample for sample in valid if not sample.rate_per_s)
        if closed:
            found[name] = Row(name, closed, tuple(sample for sample in valid if sample.rate_per_s))
    return found
