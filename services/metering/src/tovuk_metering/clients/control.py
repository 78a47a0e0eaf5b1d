"""Control, to whom notices go as activity entries."""

from tovuk.control.v1.control_pb2 import ActivityEntry
from tovuk.control.v1.control_pb2_grpc import AccountsStub
from tovuk_kit.client import Channel
from tovuk_metering.store.notices import Notice


class ControlClient:
    """The part of control's API that metering calls."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._accounts = AccountsStub(channel.grpc)

    async def record(self, notice: Notice) -> None:
        """Have control keep the notice; again is no harm. Raises TovukError."""
        entry = ActivityEntry(
            id=notice.notice_id,
            account_id=notice.account_id,
            kind=notice.kind,
            details_json=notice.details_json,
            at_ms=notice.at_ms,
        )
        await self._channel.unary(self._accounts.RecordActivity, entry, retry=True)
