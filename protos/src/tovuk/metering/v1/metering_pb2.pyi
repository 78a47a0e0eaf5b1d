from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Holder(_message.Message):
    __slots__ = ("store", "epoch")
    STORE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    store: str
    epoch: int
    def __init__(self, store: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class SyncRequest(_message.Message):
    __slots__ = ("holders", "unconfirmed", "unconfirmed_levels", "behind_ms", "buried", "exclusive", "leases")
    HOLDERS_FIELD_NUMBER: _ClassVar[int]
    UNCONFIRMED_FIELD_NUMBER: _ClassVar[int]
    UNCONFIRMED_LEVELS_FIELD_NUMBER: _ClassVar[int]
    BEHIND_MS_FIELD_NUMBER: _ClassVar[int]
    BURIED_FIELD_NUMBER: _ClassVar[int]
    EXCLUSIVE_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    holders: _containers.RepeatedCompositeFieldContainer[Holder]
    unconfirmed: _containers.RepeatedCompositeFieldContainer[LeaseMark]
    unconfirmed_levels: _containers.RepeatedCompositeFieldContainer[LevelMark]
    behind_ms: int
    buried: _containers.RepeatedCompositeFieldContainer[Holder]
    exclusive: bool
    leases: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, holders: _Optional[_Iterable[_Union[Holder, _Mapping]]] = ..., unconfirmed: _Optional[_Iterable[_Union[LeaseMark, _Mapping]]] = ..., unconfirmed_levels: _Optional[_Iterable[_Union[LevelMark, _Mapping]]] = ..., behind_ms: _Optional[int] = ..., buried: _Optional[_Iterable[_Union[Holder, _Mapping]]] = ..., exclusive: _Optional[bool] = ..., leases: _Optional[_Iterable[int]] = ...) -> None: ...

class LeaseMark(_message.Message):
    __slots__ = ("lease_id", "seq", "final")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    lease_id: int
    seq: int
    final: bool
    def __init__(self, lease_id: _Optional[int] = ..., seq: _Optional[int] = ..., final: _Optional[bool] = ...) -> None: ...

class LevelMark(_message.Message):
    __slots__ = ("store", "account_id", "meter", "seq")
    STORE_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    METER_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    store: str
    account_id: str
    meter: str
    seq: int
    def __init__(self, store: _Optional[str] = ..., account_id: _Optional[str] = ..., meter: _Optional[str] = ..., seq: _Optional[int] = ...) -> None: ...

class SyncReply(_message.Message):
    __slots__ = ("confirmed", "confirmed_levels", "recalled", "recalled_levels", "dead", "lost", "valid_ms")
    CONFIRMED_FIELD_NUMBER: _ClassVar[int]
    CONFIRMED_LEVELS_FIELD_NUMBER: _ClassVar[int]
    RECALLED_FIELD_NUMBER: _ClassVar[int]
    RECALLED_LEVELS_FIELD_NUMBER: _ClassVar[int]
    DEAD_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    VALID_MS_FIELD_NUMBER: _ClassVar[int]
    confirmed: _containers.RepeatedCompositeFieldContainer[LeaseMark]
    confirmed_levels: _containers.RepeatedCompositeFieldContainer[LevelMark]
    recalled: _containers.RepeatedScalarFieldContainer[int]
    recalled_levels: _containers.RepeatedCompositeFieldContainer[LevelRef]
    dead: _containers.RepeatedCompositeFieldContainer[Holder]
    lost: _containers.RepeatedCompositeFieldContainer[Holder]
    valid_ms: int
    def __init__(self, confirmed: _Optional[_Iterable[_Union[LeaseMark, _Mapping]]] = ..., confirmed_levels: _Optional[_Iterable[_Union[LevelMark, _Mapping]]] = ..., recalled: _Optional[_Iterable[int]] = ..., recalled_levels: _Optional[_Iterable[_Union[LevelRef, _Mapping]]] = ..., dead: _Optional[_Iterable[_Union[Holder, _Mapping]]] = ..., lost: _Optional[_Iterable[_Union[Holder, _Mapping]]] = ..., valid_ms: _Optional[int] = ...) -> None: ...

class LevelRef(_message.Message):
    __slots__ = ("store", "account_id", "meter")
    STORE_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    METER_FIELD_NUMBER: _ClassVar[int]
    store: str
    account_id: str
    meter: str
    def __init__(self, store: _Optional[str] = ..., account_id: _Optional[str] = ..., meter: _Optional[str] = ...) -> None: ...

class AcquireRequest(_message.Message):
    __slots__ = ("holder", "account_id", "meter", "lease_id", "version", "want")
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    METER_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WANT_FIELD_NUMBER: _ClassVar[int]
    holder: Holder
    account_id: str
    meter: str
    lease_id: int
    version: int
    want: int
    def __init__(self, holder: _Optional[_Union[Holder, _Mapping]] = ..., account_id: _Optional[str] = ..., meter: _Optional[str] = ..., lease_id: _Optional[int] = ..., version: _Optional[int] = ..., want: _Optional[int] = ...) -> None: ...

class LeaseState(_message.Message):
    __slots__ = ("lease_id", "version", "granted", "unlimited", "ends_in_ms", "closed", "day")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    UNLIMITED_FIELD_NUMBER: _ClassVar[int]
    ENDS_IN_MS_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    DAY_FIELD_NUMBER: _ClassVar[int]
    lease_id: int
    version: int
    granted: int
    unlimited: bool
    ends_in_ms: int
    closed: bool
    day: str
    def __init__(self, lease_id: _Optional[int] = ..., version: _Optional[int] = ..., granted: _Optional[int] = ..., unlimited: _Optional[bool] = ..., ends_in_ms: _Optional[int] = ..., closed: _Optional[bool] = ..., day: _Optional[str] = ...) -> None: ...

class AcquireReply(_message.Message):
    __slots__ = ("granted", "wait", "refused")
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    granted: LeaseState
    wait: Wait
    refused: Refused
    def __init__(self, granted: _Optional[_Union[LeaseState, _Mapping]] = ..., wait: _Optional[_Union[Wait, _Mapping]] = ..., refused: _Optional[_Union[Refused, _Mapping]] = ...) -> None: ...

class Wait(_message.Message):
    __slots__ = ("retry_after_ms",)
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    retry_after_ms: int
    def __init__(self, retry_after_ms: _Optional[int] = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("plan_limit", "plan", "meter", "period", "limit", "resets_in_ms")
    PLAN_LIMIT_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    METER_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    RESETS_IN_MS_FIELD_NUMBER: _ClassVar[int]
    plan_limit: bool
    plan: str
    meter: str
    period: str
    limit: int
    resets_in_ms: int
    def __init__(self, plan_limit: _Optional[bool] = ..., plan: _Optional[str] = ..., meter: _Optional[str] = ..., period: _Optional[str] = ..., limit: _Optional[int] = ..., resets_in_ms: _Optional[int] = ...) -> None: ...

class TrimRequest(_message.Message):
    __slots__ = ("holder", "lease_id", "version", "keep")
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    holder: Holder
    lease_id: int
    version: int
    keep: int
    def __init__(self, holder: _Optional[_Union[Holder, _Mapping]] = ..., lease_id: _Optional[int] = ..., version: _Optional[int] = ..., keep: _Optional[int] = ...) -> None: ...

class AllowRequest(_message.Message):
    __slots__ = ("level", "version", "bytes", "allowance", "seq", "want_bytes", "asking_ms")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    ALLOWANCE_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    WANT_BYTES_FIELD_NUMBER: _ClassVar[int]
    ASKING_MS_FIELD_NUMBER: _ClassVar[int]
    level: LevelRef
    version: int
    bytes: int
    allowance: int
    seq: int
    want_bytes: int
    asking_ms: int
    def __init__(self, level: _Optional[_Union[LevelRef, _Mapping]] = ..., version: _Optional[int] = ..., bytes: _Optional[int] = ..., allowance: _Optional[int] = ..., seq: _Optional[int] = ..., want_bytes: _Optional[int] = ..., asking_ms: _Optional[int] = ...) -> None: ...

class AllowReply(_message.Message):
    __slots__ = ("allowance", "wait", "refused")
    ALLOWANCE_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    allowance: Allowance
    wait: Wait
    refused: Refused
    def __init__(self, allowance: _Optional[_Union[Allowance, _Mapping]] = ..., wait: _Optional[_Union[Wait, _Mapping]] = ..., refused: _Optional[_Union[Refused, _Mapping]] = ...) -> None: ...

class Allowance(_message.Message):
    __slots__ = ("version", "bytes", "unlimited")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    UNLIMITED_FIELD_NUMBER: _ClassVar[int]
    version: int
    bytes: int
    unlimited: bool
    def __init__(self, version: _Optional[int] = ..., bytes: _Optional[int] = ..., unlimited: _Optional[bool] = ...) -> None: ...

class TrimLevelRequest(_message.Message):
    __slots__ = ("level", "version", "bytes", "allowance", "seq")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    ALLOWANCE_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    level: LevelRef
    version: int
    bytes: int
    allowance: int
    seq: int
    def __init__(self, level: _Optional[_Union[LevelRef, _Mapping]] = ..., version: _Optional[int] = ..., bytes: _Optional[int] = ..., allowance: _Optional[int] = ..., seq: _Optional[int] = ...) -> None: ...

class TrimLevelReply(_message.Message):
    __slots__ = ("stale",)
    STALE_FIELD_NUMBER: _ClassVar[int]
    stale: bool
    def __init__(self, stale: _Optional[bool] = ...) -> None: ...

class UsageReport(_message.Message):
    __slots__ = ("store", "leases", "levels")
    STORE_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    store: str
    leases: _containers.RepeatedCompositeFieldContainer[LeaseTotals]
    levels: _containers.RepeatedCompositeFieldContainer[LevelTotals]
    def __init__(self, store: _Optional[str] = ..., leases: _Optional[_Iterable[_Union[LeaseTotals, _Mapping]]] = ..., levels: _Optional[_Iterable[_Union[LevelTotals, _Mapping]]] = ...) -> None: ...

class LeaseTotals(_message.Message):
    __slots__ = ("lease_id", "epoch", "seq", "final", "lines")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    lease_id: int
    epoch: int
    seq: int
    final: bool
    lines: _containers.RepeatedCompositeFieldContainer[UsageLine]
    def __init__(self, lease_id: _Optional[int] = ..., epoch: _Optional[int] = ..., seq: _Optional[int] = ..., final: _Optional[bool] = ..., lines: _Optional[_Iterable[_Union[UsageLine, _Mapping]]] = ...) -> None: ...

class UsageLine(_message.Message):
    __slots__ = ("service_id", "resource_id", "units")
    SERVICE_ID_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    service_id: str
    resource_id: str
    units: int
    def __init__(self, service_id: _Optional[str] = ..., resource_id: _Optional[str] = ..., units: _Optional[int] = ...) -> None: ...

class LevelTotals(_message.Message):
    __slots__ = ("account_id", "meter", "seq", "bytes", "lines")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    METER_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    meter: str
    seq: int
    bytes: int
    lines: _containers.RepeatedCompositeFieldContainer[UsageLine]
    def __init__(self, account_id: _Optional[str] = ..., meter: _Optional[str] = ..., seq: _Optional[int] = ..., bytes: _Optional[int] = ..., lines: _Optional[_Iterable[_Union[UsageLine, _Mapping]]] = ...) -> None: ...

class GetUsageRequest(_message.Message):
    __slots__ = ("account_id",)
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    def __init__(self, account_id: _Optional[str] = ...) -> None: ...

class GetUsageReply(_message.Message):
    __slots__ = ("plan", "day", "month", "caps", "limits_json", "billing_estimate_json", "as_of_ms", "delayed", "windows")
    class DayEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class MonthEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    PLAN_FIELD_NUMBER: _ClassVar[int]
    DAY_FIELD_NUMBER: _ClassVar[int]
    MONTH_FIELD_NUMBER: _ClassVar[int]
    CAPS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_JSON_FIELD_NUMBER: _ClassVar[int]
    BILLING_ESTIMATE_JSON_FIELD_NUMBER: _ClassVar[int]
    AS_OF_MS_FIELD_NUMBER: _ClassVar[int]
    DELAYED_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    plan: str
    day: _containers.ScalarMap[str, int]
    month: _containers.ScalarMap[str, int]
    caps: _containers.RepeatedCompositeFieldContainer[CapState]
    limits_json: bytes
    billing_estimate_json: bytes
    as_of_ms: int
    delayed: bool
    windows: _containers.RepeatedCompositeFieldContainer[WindowState]
    def __init__(self, plan: _Optional[str] = ..., day: _Optional[_Mapping[str, int]] = ..., month: _Optional[_Mapping[str, int]] = ..., caps: _Optional[_Iterable[_Union[CapState, _Mapping]]] = ..., limits_json: _Optional[bytes] = ..., billing_estimate_json: _Optional[bytes] = ..., as_of_ms: _Optional[int] = ..., delayed: _Optional[bool] = ..., windows: _Optional[_Iterable[_Union[WindowState, _Mapping]]] = ...) -> None: ...

class WindowState(_message.Message):
    __slots__ = ("meter", "period", "used", "reserved", "burnt", "limit", "plan_limit", "resets_at_ms")
    METER_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    RESERVED_FIELD_NUMBER: _ClassVar[int]
    BURNT_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    PLAN_LIMIT_FIELD_NUMBER: _ClassVar[int]
    RESETS_AT_MS_FIELD_NUMBER: _ClassVar[int]
    meter: str
    period: str
    used: int
    reserved: int
    burnt: int
    limit: int
    plan_limit: bool
    resets_at_ms: int
    def __init__(self, meter: _Optional[str] = ..., period: _Optional[str] = ..., used: _Optional[int] = ..., reserved: _Optional[int] = ..., burnt: _Optional[int] = ..., limit: _Optional[int] = ..., plan_limit: _Optional[bool] = ..., resets_at_ms: _Optional[int] = ...) -> None: ...

class Cap(_message.Message):
    __slots__ = ("meter", "period", "cap_value", "hard_stop", "notify_at_percent", "updated_at_ms")
    METER_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    CAP_VALUE_FIELD_NUMBER: _ClassVar[int]
    HARD_STOP_FIELD_NUMBER: _ClassVar[int]
    NOTIFY_AT_PERCENT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    meter: str
    period: str
    cap_value: int
    hard_stop: bool
    notify_at_percent: int
    updated_at_ms: int
    def __init__(self, meter: _Optional[str] = ..., period: _Optional[str] = ..., cap_value: _Optional[int] = ..., hard_stop: _Optional[bool] = ..., notify_at_percent: _Optional[int] = ..., updated_at_ms: _Optional[int] = ...) -> None: ...

class CapState(_message.Message):
    __slots__ = ("cap", "used", "reserved", "remaining", "resets_at_ms", "notified", "stopped", "burnt")
    CAP_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    RESERVED_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    RESETS_AT_MS_FIELD_NUMBER: _ClassVar[int]
    NOTIFIED_FIELD_NUMBER: _ClassVar[int]
    STOPPED_FIELD_NUMBER: _ClassVar[int]
    BURNT_FIELD_NUMBER: _ClassVar[int]
    cap: Cap
    used: int
    reserved: int
    remaining: int
    resets_at_ms: int
    notified: bool
    stopped: bool
    burnt: int
    def __init__(self, cap: _Optional[_Union[Cap, _Mapping]] = ..., used: _Optional[int] = ..., reserved: _Optional[int] = ..., remaining: _Optional[int] = ..., resets_at_ms: _Optional[int] = ..., notified: _Optional[bool] = ..., stopped: _Optional[bool] = ..., burnt: _Optional[int] = ...) -> None: ...

class GetCatalogueRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCatalogueReply(_message.Message):
    __slots__ = ("products_json", "plans_json")
    PRODUCTS_JSON_FIELD_NUMBER: _ClassVar[int]
    PLANS_JSON_FIELD_NUMBER: _ClassVar[int]
    products_json: bytes
    plans_json: bytes
    def __init__(self, products_json: _Optional[bytes] = ..., plans_json: _Optional[bytes] = ...) -> None: ...

class PutCapRequest(_message.Message):
    __slots__ = ("account_id", "meter", "period", "cap_value", "hard_stop", "notify_at_percent")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    METER_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    CAP_VALUE_FIELD_NUMBER: _ClassVar[int]
    HARD_STOP_FIELD_NUMBER: _ClassVar[int]
    NOTIFY_AT_PERCENT_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    meter: str
    period: str
    cap_value: int
    hard_stop: bool
    notify_at_percent: int
    def __init__(self, account_id: _Optional[str] = ..., meter: _Optional[str] = ..., period: _Optional[str] = ..., cap_value: _Optional[int] = ..., hard_stop: _Optional[bool] = ..., notify_at_percent: _Optional[int] = ...) -> None: ...

class DeleteCapRequest(_message.Message):
    __slots__ = ("account_id", "meter", "period")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    METER_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    meter: str
    period: str
    def __init__(self, account_id: _Optional[str] = ..., meter: _Optional[str] = ..., period: _Optional[str] = ...) -> None: ...

class DeleteCapReply(_message.Message):
    __slots__ = ("deleted",)
    DELETED_FIELD_NUMBER: _ClassVar[int]
    deleted: bool
    def __init__(self, deleted: _Optional[bool] = ...) -> None: ...

class ListCapsRequest(_message.Message):
    __slots__ = ("account_id",)
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    def __init__(self, account_id: _Optional[str] = ...) -> None: ...

class ListCapsReply(_message.Message):
    __slots__ = ("caps",)
    CAPS_FIELD_NUMBER: _ClassVar[int]
    caps: _containers.RepeatedCompositeFieldContainer[CapState]
    def __init__(self, caps: _Optional[_Iterable[_Union[CapState, _Mapping]]] = ...) -> None: ...

class SetPlanRequest(_message.Message):
    __slots__ = ("account_id", "plan", "revision")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    plan: str
    revision: int
    def __init__(self, account_id: _Optional[str] = ..., plan: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class SetPlanReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetBreakdownRequest(_message.Message):
    __slots__ = ("account_id",)
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    def __init__(self, account_id: _Optional[str] = ...) -> None: ...

class GetBreakdownReply(_message.Message):
    __slots__ = ("lines",)
    LINES_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedCompositeFieldContainer[BreakdownLine]
    def __init__(self, lines: _Optional[_Iterable[_Union[BreakdownLine, _Mapping]]] = ...) -> None: ...

class BreakdownLine(_message.Message):
    __slots__ = ("meter", "service_id", "resource_id", "day_units", "month_units")
    METER_FIELD_NUMBER: _ClassVar[int]
    SERVICE_ID_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    DAY_UNITS_FIELD_NUMBER: _ClassVar[int]
    MONTH_UNITS_FIELD_NUMBER: _ClassVar[int]
    meter: str
    service_id: str
    resource_id: str
    day_units: int
    month_units: int
    def __init__(self, meter: _Optional[str] = ..., service_id: _Optional[str] = ..., resource_id: _Optional[str] = ..., day_units: _Optional[int] = ..., month_units: _Optional[int] = ...) -> None: ...
