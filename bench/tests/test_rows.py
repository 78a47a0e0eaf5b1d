from bench.load import Load
from bench.rounds import Results, Sample
from bench.rows import rows
from bench.verdicts import verdicts
from bench.workload import Operation


def sample(
    target: str, per_s: float, *, operation: Operation = "get", rate: float = 0.0, p99_ms: float = 1.0, error: str = ""
) -> Sample:
    load = Load(int(per_s), 1.0, 0, 0.5, p99_ms, 0.0)
    return Sample(1, target, operation, rate, load, {"driver": 5.0, target: 20.0}, 0.0, 1_000.0, error)


def test_a_row_is_the_median_of_its_valid_rounds() -> None:
    samples = [sample("webdis", 10), sample("webdis", 30), sample("webdis", 20), sample("webdis", 999, error="wrong")]
    row = rows(Results(samples), "get")["webdis"]
    assert row.peak == 20
    assert row.cpu_us() == 25
    assert not Results(samples).valid


def test_ratios_are_judged_by_the_better_of_our_rows() -> None:
    samples = [sample("ours-sqlite-1", 600), sample("ours-sqlite-2", 800), sample("webdis", 1_000)]
    [line] = verdicts(Results(samples), 2)
    assert line.startswith("reached: get, ours-sqlite-2: 0.80 × webdis")
    [line] = verdicts(Results([samples[0], samples[2]]), 2)
    assert line.startswith("MISSED: get, ours-sqlite-1: 0.60 × webdis")


def test_the_open_loops_p99_is_judged() -> None:
    samples = [sample("ours-redis-1", 600), sample("ours-redis-1", 300, rate=300, p99_ms=12.0)]
    assert verdicts(Results(samples), 2) == ["MISSED: get, ours-redis-1: p99 12.00 ms at 50% of its peak (below 10)"]


def test_a_put_is_judged_by_what_the_slower_of_disk_and_cores_allows() -> None:
    # 25 µs of CPU on two cores allow 80,000; 1,000 syncs confirm 64 each.
    [line] = verdicts(Results([sample("ours-sqlite-1", 32_000, operation="put")]), 2)
    assert line.startswith("reached: put, ours-sqlite-1: 50% of the 64,000/s that the disk allows")


def test_metering_is_judged_against_a_kv_without_meters() -> None:
    samples = [sample("ours-sqlite-1", 80), sample("ours-sqlite-1-unmetered", 100)]
    [line] = verdicts(Results(samples), 2)
    assert line.startswith("MISSED: get: metering and caps cost 20.0%")


def test_databases_are_judged_by_d1_by_bare_apsw_and_by_themselves_in_a_crowd() -> None:
    samples = [
        sample("ours-databases", 3_000, operation="select"),
        sample("ours-databases-crowded", 1_200, operation="select"),
        sample("miniflare-d1", 200, operation="select"),
        sample("ours-databases", 20, operation="transfer"),
    ]
    limits: dict[str, list[dict[Operation, float]]] = {"apsw": [{"transfer": 100.0}]}
    assert verdicts(Results(samples, limits), 2) == [
        "reached: select, ours-databases: 15.00 × miniflare-d1 (at least 15)",
        "MISSED: transfer, ours-databases: 0.20 × apsw (at least 0.25)",
        "MISSED: select beside another tenant's endless queries: 40% (at least 50 %)",
    ]
