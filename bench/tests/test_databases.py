"""SQL's targets and limit that need nothing but the environment, in rounds of one second."""

from pathlib import Path

import pytest

from bench.rounds import Plan, run
from bench.targets.catalogue import LIMIT_BY_NAME, TARGETS
from bench.workload import SQL_OPERATIONS

pytestmark = pytest.mark.usefixtures("drivers")


def test_a_database_is_measured_beside_bare_apsw_and_what_it_wrote_is_there(tmp_path: Path) -> None:
    plan = Plan(
        targets=(TARGETS["ours-databases"],),
        limits=(LIMIT_BY_NAME["apsw"],),
        operations=SQL_OPERATIONS,
        rounds=1,
        seconds=1.0,
        rate_per_s=None,
        open_loops=False,
        folder=tmp_path,
    )
    results = run(plan, lambda _line: None)
    assert results.valid, results
    assert {sample.operation for sample in results.samples} == set(SQL_OPERATIONS)
    [limit] = results.limits["apsw"]
    assert limit.keys() == set(SQL_OPERATIONS)


def test_a_crowd_holds_its_queries_open_while_another_tenant_is_measured(tmp_path: Path) -> None:
    with TARGETS["ours-databases-crowded"].start(tmp_path) as crowded:
        assert crowded.dialect.operations == {"select"}
        assert (tmp_path / "crowd.log").read_text() == "begun\n" * 4
