import asyncio

import pytest

from tovuk_kit.errors import TovukError
from tovuk_sqlite.gates import Gates


async def test_a_gate_closes_when_all_have_left_and_lets_others_in_afterwards() -> None:
    gates = Gates()
    seen: list[str] = []
    await gates.enter("a")

    async def close() -> None:
        async with gates.closed("a"):
            seen.append("closed")

    async def enter(database: str) -> None:
        await gates.enter(database)
        seen.append(f"in {database}")
        gates.leave(database)

    closing = asyncio.create_task(close())
    await asyncio.sleep(0)
    entering = asyncio.create_task(enter("a"))
    await enter("b")
    assert seen == ["in b"]
    gates.leave("a")
    await asyncio.gather(closing, entering)
    assert seen == ["in b", "closed", "in a"]


async def test_a_write_waits_at_a_closed_gate_for_so_long_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tovuk_sqlite.gates.GATE_SECONDS_MAX", 0.01)
    gates = Gates()
    async with gates.closed("a"):
        with pytest.raises(TovukError) as refused:
            await gates.enter("a")
        assert refused.value.code == "sqlite_database_busy"
    await gates.enter("a")
