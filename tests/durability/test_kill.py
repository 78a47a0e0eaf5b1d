import random

SHORT_KILLS, FULL_KILLS = 10, 200
#: Each check reads all that was written, so a file is left behind when it has grown.
KILLS_PER_FILE = 10


async def test_no_acknowledged_write_is_lost_when_the_process_is_killed(tmp_path, run_and_kill, losses, pytestconfig):
    chance = random.Random(7)
    acknowledged: set[int] = set()
    for kill in range(FULL_KILLS if pytestconfig.getoption("full") else SHORT_KILLS):
        database = tmp_path / f"{kill // KILLS_PER_FILE}.db"
        if not database.exists():
            acknowledged.clear()
        first = max(acknowledged, default=0) + 1000
        counts = {"count": chance.randrange(1, 3000), "pause": chance.random() * 0.05}
        acknowledged |= run_and_kill(database, first, **counts)
        problems = await losses(database, acknowledged)
        assert not problems, f"kill {kill}: {problems[:5]}"
