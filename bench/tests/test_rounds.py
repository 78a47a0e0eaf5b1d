"""The pieces that need nothing but the drivers, in rounds of one second."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench.machine import Machine
from bench.report import save
from bench.rounds import Plan, Results, run
from bench.targets.base import JsonDialect, Running, Target
from bench.targets.catalogue import LIMIT_BY_NAME, TARGETS

pytestmark = pytest.mark.usefixtures("drivers")


def plan(folder: Path, *targets: Target) -> Plan:
    return Plan(targets, (), ("get", "put"), rounds=1, seconds=1.0, rate_per_s=200.0, open_loops=True, folder=folder)


def measured(plan: Plan) -> Results:
    return run(plan, lambda _line: None)


def test_the_naive_chain_is_measured_and_what_it_wrote_is_there(tmp_path: Path) -> None:
    asked = replace(plan(tmp_path, TARGETS["naive"]), limits=(LIMIT_BY_NAME["engine-sqlite"],))
    results = measured(asked)
    assert results.valid, results
    assert [(sample.operation, bool(sample.rate_per_s)) for sample in results.samples] == [
        ("get", False),
        ("get", True),
        ("put", False),
        ("put", True),
    ]
    for sample in results.samples:
        assert sample.load.requests > 50
        assert {"driver", "bench.naive.gateway", "bench.naive.service"} <= set(sample.cpu_us)
    assert all(rate > 0 for rate in results.limits["engine-sqlite"][0].values())
    report = save(tmp_path / "results", asked, Machine.look(tmp_path, 0.1), results, datetime.now(UTC))
    assert "| naive |" in report.read_text()
    assert len(json.loads(report.with_suffix(".json").read_text())["samples"]) == 4


def test_a_server_that_acknowledges_what_it_does_not_store_is_invalid(tmp_path: Path) -> None:
    @contextlib.contextmanager
    def start(folder: Path) -> Iterator[Running]:
        with TARGETS["constant"].start(folder) as constant:
            dialect = JsonDialect("", operations=frozenset({"put"}))
            yield replace(constant, dialect=dialect)

    results = measured(plan(tmp_path, Target("liar", "answers 200 to everything", start)))
    assert not results.valid
    assert "expected words are missing" in results.samples[0].error


def test_a_target_that_does_not_start_does_not_stop_the_others(tmp_path: Path) -> None:
    @contextlib.contextmanager
    def start(_folder: Path) -> Iterator[Running]:
        raise OSError("no such engine")
        yield

    results = measured(plan(tmp_path, Target("broken", "never starts", start), TARGETS["constant"]))
    assert results.failures == ["broken, round 1: no such engine"]
    assert {sample.target for sample in results.samples} == {"constant"}
