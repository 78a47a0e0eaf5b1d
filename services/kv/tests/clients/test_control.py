"""The registry's client against the real control."""

from typing import Any

import pytest

from tovuk_kit.errors import TovukError
from tovuk_kit.ids import new_id
from tovuk_kv.clients.control import Claim, ControlRegistry


@pytest.mark.parametrize("house", ["sqlite"], indirect=True)
async def test_a_claim_is_reserved_confirmed_and_released_each_as_often_as_wanted(house: Any) -> None:
    registry = ControlRegistry(house.control)
    claim = Claim(house.service, new_id("kv"), "CACHE")
    for _ in range(2):
        await registry.reserve(house.account, claim)
    house.clock.advance(61_000)
    assert await registry.unsettled() == [claim]
    for _ in range(2):
        await registry.confirm(claim)
    assert await registry.unsettled() == []
    with pytest.raises(TovukError) as raised:
        await registry.reserve(house.account, Claim(house.service, new_id("kv"), "cache"))
    assert raised.value.code == "resource_name_taken"
    for _ in range(2):
        await registry.release(claim)
    await registry.reserve(house.account, Claim(house.service, new_id("kv"), "CACHE"))
    assert await registry.tombstones() == []
