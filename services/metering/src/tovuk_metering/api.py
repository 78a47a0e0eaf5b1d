"""gRPC: the wire ⇄ the domain, and nothing else."""

# ruff: noqa: N802  # the wire names the methods

import json
from collections.abc import Iterable
from functools import partial
from typing import Any

import grpc

from tovuk.metering.v1 import metering_pb2 as wire
from tovuk.metering.v1.metering_pb2_grpc import (
    LeasesServicer,
    UsageServicer,
    add_LeasesServicer_to_server,
    add_UsageServicer_to_server,
)
from tovuk_kit.server import Registration
from tovuk_metering.limits import HOLDER_VALID_MS
from tovuk_metering.meter import heartbeats, leases, levels, limiting, usage
from tovuk_metering.meter.bounds import Refused, Wait
from tovuk_metering.meter.turn import Turns
from tovuk_metering.store.caps import Cap
from tovuk_metering.store.holders import Holder

Context = grpc.aio.ServicerContext[Any, Any]


def registrations(turns: Turns) -> list[Registration]:
    """Both services, for `tovuk_kit.server.serve`."""
    return [
        partial(add_LeasesServicer_to_server, Leases(turns)),
        partial(add_UsageServicer_to_server, UsageApi(turns)),
    ]


class Leases(LeasesServicer):
    """The data plane."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    async def Sync(self, request: wire.SyncRequest, context: Context) -> wire.SyncReply:
        beat = heartbeats.Beat(
            [_holder(holder) for holder in request.holders],
            [heartbeats.LeaseMark(m.lease_id, m.seq, m.final) for m in request.unconfirmed],
            [heartbeats.LevelMark(m.store, m.account_id, m.meter, m.seq) for m in request.unconfirmed_levels],
            request.behind_ms,
            [_holder(holder) for holder in request.buried],
            request.exclusive,
            frozenset(request.leases),
        )
        orders = await heartbeats.answer(self._turns, beat)
        return wire.SyncReply(
            confirmed=[wire.LeaseMark(lease_id=m.lease_id, seq=m.seq, final=m.final) for m in orders.confirmed],
            confirmed_levels=[
                wire.LevelMark(store=m.store, account_id=m.account_id, meter=m.meter, seq=m.seq)
                for m in orders.confirmed_levels
            ],
            recalled=orders.recalled,
            recalled_levels=[
                wire.LevelRef(store=m.store, account_id=m.account_id, meter=m.meter) for m in orders.recalled_levels
            ],
            dead=_wire_holders(orders.dead),
            lost=_wire_holders(orders.lost),
            valid_ms=HOLDER_VALID_MS,
        )

    async def Acquire(self, request: wire.AcquireRequest, context: Context) -> wire.AcquireReply:
        limiting.check_metric(request.meter)
        ask = leases.Ask(
            _holder(request.holder),
            request.account_id,
            request.meter,
            request.lease_id,
            request.version,
            max(1, request.want),
        )
        match await self._turns.write(lambda turn: leases.acquire(turn, ask)):
            case Wait() as wait:
                return wire.AcquireReply(wait=wire.Wait(retry_after_ms=wait.retry_after_ms))
            case Refused() as refused:
                return wire.AcquireReply(refused=_refused(refused))
            case leases.State() as state:
                return wire.AcquireReply(granted=_lease_state(state))

    async def Trim(self, request: wire.TrimRequest, context: Context) -> wire.LeaseState:
        return _lease_state(
            await self._turns.write(
                lambda turn: leases.trim(turn, _holder(request.holder), request.lease_id, request.version, request.keep)
            )
        )

    async def Allow(self, request: wire.AllowRequest, context: Context) -> wire.AllowReply:
        limiting.check_metric(request.level.meter)
        match await self._turns.write(
            lambda turn: levels.allow(turn, _word(request), request.want_bytes, request.asking_ms)
        ):
            case Wait() as wait:
                return wire.AllowReply(wait=wire.Wait(retry_after_ms=wait.retry_after_ms))
            case Refused() as refused:
                return wire.AllowReply(refused=_refused(refused))
            case levels.Allowance() as allowance:
                return wire.AllowReply(
                    allowance=wire.Allowance(
                        version=allowance.version, bytes=allowance.bytes, unlimited=allowance.unlimited
                    )
                )

    async def TrimLevel(self, request: wire.TrimLevelRequest, context: Context) -> wire.TrimLevelReply:
        limiting.check_metric(request.level.meter)
        return wire.TrimLevelReply(stale=not await self._turns.write(lambda turn: levels.trim(turn, _word(request))))


class UsageApi(UsageServicer):
    """The admin plane."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    async def GetUsage(self, request: wire.GetUsageRequest, context: Context) -> wire.GetUsageReply:
        found = await self._turns.read(lambda turn: usage.usage_of(turn, request.account_id))
        return wire.GetUsageReply(
            plan=found.plan.name,
            day=found.day,
            month=found.month,
            caps=[_cap_state(cap) for cap in found.caps],
            limits_json=_json(dict(found.plan.limits)),
            billing_estimate_json=_json(found.estimate),
            as_of_ms=found.as_of_ms,
            delayed=found.delayed,
            windows=[_window_state(standing) for standing in found.windows],
        )

    async def GetCatalogue(self, request: wire.GetCatalogueRequest, context: Context) -> wire.GetCatalogueReply:
        book = self._turns.book
        return wire.GetCatalogueReply(
            products_json=_json([product.as_json() for product in book.products]),
            plans_json=_json([plan.as_json() for plan in book.plans.values()]),
        )

    async def PutCap(self, request: wire.PutCapRequest, context: Context) -> wire.Cap:
        cap = await limiting.settle_cap(
            self._turns,
            request.account_id,
            request.meter,
            request.period,
            request.cap_value,
            hard_stop=request.hard_stop,
            notify_at_percent=request.notify_at_percent,
        )
        return _cap(cap)

    async def DeleteCap(self, request: wire.DeleteCapRequest, context: Context) -> wire.DeleteCapReply:
        await self._turns.write(
            lambda turn: limiting.delete_cap(turn, request.account_id, request.meter, request.period)
        )
        return wire.DeleteCapReply(deleted=True)

    async def ListCaps(self, request: wire.ListCapsRequest, context: Context) -> wire.ListCapsReply:
        found = await self._turns.read(lambda turn: usage.caps_of(turn, request.account_id))
        return wire.ListCapsReply(caps=[_cap_state(cap) for cap in found])

    async def SetPlan(self, request: wire.SetPlanRequest, context: Context) -> wire.SetPlanReply:
        await self._turns.write(
            lambda turn: limiting.set_plan(turn, request.account_id, request.plan, request.revision)
        )
        return wire.SetPlanReply()

    async def GetBreakdown(self, request: wire.GetBreakdownRequest, context: Context) -> wire.GetBreakdownReply:
        found = await self._turns.read(lambda turn: usage.breakdown_of(turn, request.account_id))
        return wire.GetBreakdownReply(
            lines=[
                wire.BreakdownLine(
                    meter=line.meter,
                    service_id=line.service_id,
                    resource_id=line.resource_id,
                    day_units=line.day_units,
                    month_units=line.month_units,
                )
                for line in found
            ]
        )


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _holder(holder: wire.Holder) -> Holder:
    return Holder(holder.store, holder.epoch)


def _wire_holders(holders: Iterable[Holder]) -> list[wire.Holder]:
    return [wire.Holder(store=holder.store, epoch=holder.epoch) for holder in holders]


def _word(request: wire.AllowRequest | wire.TrimLevelRequest) -> levels.Word:
    level = request.level
    return levels.Word(
        level.store, level.account_id, level.meter, request.version, request.bytes, request.allowance, request.seq
    )


def _lease_state(state: leases.State) -> wire.LeaseState:
    return wire.LeaseState(
        lease_id=state.lease_id,
        version=state.version,
        granted=state.granted,
        unlimited=state.unlimited,
        ends_in_ms=state.ends_in_ms,
        closed=state.closed,
        day=state.day,
    )


def _refused(refused: Refused) -> wire.Refused:
    bound = refused.bound
    return wire.Refused(
        plan_limit=bound.plan is not None,
        plan=bound.plan or "",
        meter=bound.meter,
        period=bound.period,
        limit=bound.units,
        resets_in_ms=refused.resets_in_ms,
    )


def _cap(cap: Cap) -> wire.Cap:
    return wire.Cap(
        meter=cap.meter,
        period=cap.period,
        cap_value=cap.units,
        hard_stop=cap.hard_stop,
        notify_at_percent=cap.notify_at_percent,
        updated_at_ms=cap.updated_at_ms,
    )


def _cap_state(found: usage.CapStanding) -> wire.CapState:
    return wire.CapState(
        cap=_cap(found.cap),
        used=found.standing.used,
        reserved=found.standing.reserved,
        remaining=found.standing.remaining,
        burnt=found.standing.burnt,
        resets_at_ms=found.standing.resets_at_ms,
        notified=found.notified,
        stopped=found.stopped,
    )


def _window_state(standing: usage.Standing) -> wire.WindowState:
    return wire.WindowState(
        meter=standing.bound.meter,
        period=standing.bound.period,
        used=standing.used,
        reserved=standing.reserved,
        burnt=standing.burnt,
        limit=standing.bound.units,
        plan_limit=standing.bound.plan is not None,
        resets_at_ms=standing.resets_at_ms,
    )
