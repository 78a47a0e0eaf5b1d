"""Epochs, usage rows and levels of one Redis partition: what the metering protocol keeps beside the effects."""

from collections.abc import Collection, Sequence

from tovuk_kit.usage import Fenced, Level, UsageRow
from tovuk_kv.store.redis_connection import RedisConnection, load_script
from tovuk_kv.store.redis_wire import Reply

SCRIPTS = {
    name: load_script(name)
    for name in (
        "add_usage",
        "begin_epoch",
        "forget_usage",
        "level",
        "set_allowance",
        "trim_allowance",
    )
}


class RedisUsage:
    """The UsageStore of one partition, which several processes may share."""

    exclusive = False

    def __init__(self, connection: RedisConnection, tag: str, name: str) -> None:
        self.name = name
        self._connection = connection
        self._tag = tag

    async def begin_epoch(self) -> int:
        return int(await self._run("begin_epoch"))

    async def dead_epochs(self) -> list[int]:
        # Others may be alive; metering says who is not.
        return []

    async def fence(self, epoch: int) -> None:
        await self._connection.ask("SREM", f"{self._tag}:live", epoch, mutates=True)

    async def usage(self, epoch: int, leases: Collection[int] | None) -> list[UsageRow]:
        reply = await self._connection.ask("HGETALL", f"{self._tag}:used:{epoch}")
        rows = []
        for field, units in zip(reply[::2], reply[1::2], strict=True):
            lease, service_id, resource_id = field.decode().split("|")
            if leases is None or int(lease) in leases:
                rows.append(UsageRow(int(lease), service_id, resource_id, int(units)))
        return rows

    async def add(self, epoch: int, rows: Sequence[UsageRow]) -> None:
        arguments: list[str | int] = []
        for row in rows:
            arguments += (f"{row.lease_id}|{row.service_id}|{row.resource_id}", row.units)
        if not await self._run("add_usage", epoch, *arguments):
            raise Fenced

    async def forget(self, epoch: int, leases: Collection[int] | None) -> None:
        if leases is None:
            await self._connection.ask("UNLINK", f"{self._tag}:used:{epoch}", mutates=True)
        else:
            await self._run("forget_usage", epoch, *leases)

    async def level(self, account_id: str, meter: str) -> Level:
        return _level(account_id, meter, await self._run("level", f"{account_id}|{meter}"))

    async def levels(self) -> list[Level]:
        names = await self._connection.ask("SMEMBERS", f"{self._tag}:levels")
        return [await self.level(*name.decode().split("|")) for name in names]

    async def set_allowance(self, account_id: str, meter: str, version: int, allowance: int) -> None:
        await self._run("set_allowance", f"{account_id}|{meter}", version, allowance)

    async def trim_allowance(self, account_id: str, meter: str) -> Level:
        return _level(account_id, meter, await self._run("trim_allowance", f"{account_id}|{meter}"))

    async def _run(self, script: str, *arguments: str | int) -> Reply:
        return await self._connection.ask_script(SCRIPTS[script], self._tag, *arguments)


def _level(account_id: str, meter: str, reply: Reply) -> Level:
    numbers, lines = reply
    size, allowance, version, seq = (int(number or 0) for number in numbers)
    rows = []
    for field, units in zip(lines[::2], lines[1::2], strict=True):
        service_id, resource_id = field.decode().split("|")
        if int(units):
            rows.append((service_id, resource_id, int(units)))
    return Level(account_id, meter, size, allowance, version, seq, tuple(rows))
