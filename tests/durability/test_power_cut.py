import random
from pathlib import Path

import pytest
from power_cut import cuts as cuts_of
from power_cut import read_records

SHORT_CUTS, FULL_CUTS, CUTS_PER_RUN = 10, 100, 5
#: Each check reads all that was written, so a disk is left behind when it has grown.
RUNS_PER_DISK = 4


def copied(source: Path, target: Path) -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in source.iterdir() if path.name in ("a.db", "a.db-wal")}
    for name, data in files.items():
        (target / name).write_bytes(data)
    return files


@pytest.fixture
def play(tmp_path, run_and_kill, losses):
    """Run the writer with a trace, cut the power at several moments of it; returns the last disk and all problems."""

    async def run(
        seed: int, before: Path, acknowledged: set[int], *options: str, cuts: int = CUTS_PER_RUN
    ) -> tuple[Path, set[int], list[str]]:
        chance = random.Random(seed)
        folder = tmp_path / f"run-{seed}"
        folder.mkdir()
        files = copied(before, folder)
        trace = tmp_path / f"trace-{seed}"
        first = max(acknowledged, default=0) + 1000
        counts = {"count": chance.randrange(200, 6000), "pause": chance.random() * 0.02}
        heard = run_and_kill(folder / "a.db", first, "--trace", str(trace), *options, **counts)
        problems: list[str] = []
        for number, (disk, told) in enumerate(cuts_of(read_records(trace.read_bytes()), files, chance, cuts)):
            after = tmp_path / f"cut-{seed}-{number}"
            after.mkdir()
            disk.after_cut(chance, after)
            problems += await losses(after / "a.db", acknowledged | told)
        # The trace knows of each acknowledgement before anyone hears it.
        assert heard <= told
        return after, acknowledged | told, problems

    return run


async def test_no_acknowledged_write_is_lost_in_a_power_cut(tmp_path, play, pytestconfig):
    cuts = FULL_CUTS if pytestconfig.getoption("full") else SHORT_CUTS
    empty = tmp_path / "empty"
    empty.mkdir()
    for seed in range(cuts // CUTS_PER_RUN):
        if seed % RUNS_PER_DISK == 0:
            disk, acknowledged = empty, set()
        disk, acknowledged, problems = await play(seed, disk, acknowledged)
        assert not problems, f"seed {seed}: {problems[:5]}"
    assert len(acknowledged) > 200


@pytest.mark.parametrize("level", ["OFF", "NORMAL"])
async def test_the_power_cuts_find_a_writer_that_does_not_sync(tmp_path, play, level):
    disk = tmp_path / "empty"
    disk.mkdir()
    _, _, problems = await play(1, disk, set(), "--synchronous", level, cuts=20)
    assert problems
