"""The 24 meters: names, units and how each is counted. Source: usage-caps, Meters; metering.md."""

from dataclasses import dataclass
from enum import Enum
from typing import Literal, get_args

Period = Literal["day", "month"]

MeterName = Literal[
    "worker_requests",
    "worker_cpu_ms",
    "worker_transfer_bytes",
    "static_transfer_bytes",
    "sqlite_rows_read",
    "sqlite_rows_written",
    "sqlite_storage_bytes",
    "kv_reads",
    "kv_writes",
    "kv_deletes",
    "kv_lists",
    "kv_storage_bytes",
    "queue_operations",
    "state_requests",
    "state_duration_gb_milliseconds",
    "state_sqlite_rows_read",
    "state_sqlite_rows_written",
    "state_sqlite_storage_bytes",
    "object_storage_bytes",
    "object_storage_class_a_operations",
    "object_storage_class_b_operations",
    "object_storage_egress_bytes",
    "build_minutes",
    "log_events",
]

PERIODS: tuple[Period, ...] = get_args(Period)
METER_NAMES: tuple[MeterName, ...] = get_args(MeterName)


class Counting(Enum):
    """How a meter's units reach the store."""

    #: With the effect, in its transaction; exact even when the process dies.
    TRANSACTIONAL = "transactional"
    #: In memory, flushed every 100 ms; a dead process's unflushed units are burnt, never billed.
    BUFFERED = "buffered"
    #: A quantity that rises and falls with what is stored.
    LEVEL = "level"


@dataclass(frozen=True, slots=True)
class Meter:
    """One meter: its unit as the catalogue prints it, what a unit is, how it is counted."""

    name: MeterName
    unit: str
    description: str
    counting: Counting


_T, _B, _L = Counting.TRANSACTIONAL, Counting.BUFFERED, Counting.LEVEL

METERS: dict[str, Meter] = {
    meter.name: meter
    for meter in (
        Meter("worker_requests", "request", "Requests answered by a Worker.", _B),
        Meter("worker_cpu_ms", "cpu_ms", "CPU time of Workers in milliseconds.", _B),
        Meter("worker_transfer_bytes", "byte", "Bytes sent by Workers.", _B),
        Meter("static_transfer_bytes", "byte", "Bytes of static files sent.", _B),
        Meter("sqlite_rows_read", "row", "Rows read by SQLite queries.", _B),
        Meter("sqlite_rows_written", "row", "Rows written by SQLite queries.", _T),
        Meter("sqlite_storage_bytes", "byte", "Bytes stored in SQLite databases.", _L),
        Meter("kv_reads", "read", "KV keys read, absent ones included.", _B),
        Meter("kv_writes", "write", "KV keys written.", _T),
        Meter("kv_deletes", "delete", "KV keys asked to be deleted.", _T),
        Meter("kv_lists", "list", "Pages of KV keys listed.", _B),
        Meter("kv_storage_bytes", "byte", "Bytes of KV keys, values and metadata stored.", _L),
        Meter("queue_operations", "operation", "Queue messages sent, delivered or deleted.", _T),
        Meter("state_requests", "request", "Requests to State objects.", _B),
        Meter("state_duration_gb_milliseconds", "gb_millisecond", "Time State objects were awake.", _B),
        Meter("state_sqlite_rows_read", "row", "Rows read by State objects.", _B),
        Meter("state_sqlite_rows_written", "row", "Rows written by State objects.", _T),
        Meter("state_sqlite_storage_bytes", "byte", "Bytes stored by State objects.", _L),
        Meter("object_storage_bytes", "byte", "Bytes of objects stored.", _L),
        Meter("object_storage_class_a_operations", "operation", "Object writes and lists.", _T),
        Meter("object_storage_class_b_operations", "operation", "Object reads.", _B),
        Meter("object_storage_egress_bytes", "byte", "Bytes of objects sent.", _B),
        Meter("build_minutes", "minute", "Minutes of builds.", _T),
        Meter("log_events", "event", "Log events stored.", _T),
    )
}

#: The largest cap and count: integers up to here survive JSON in every language. Source: decisions.md, Usage.
UNITS_MAX = 2**53 - 1
