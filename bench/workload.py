"""What is asked of every target: the operations, the keys and the values."""

from typing import Final, Literal, get_args

KeyOperation = Literal["get", "put", "list", "bulk_get", "bulk_put"]
SqlOperation = Literal["select", "insert", "batch", "aggregate", "transfer"]
Operation = KeyOperation | SqlOperation

KEY_OPERATIONS: Final[tuple[KeyOperation, ...]] = get_args(KeyOperation)
SQL_OPERATIONS: Final[tuple[SqlOperation, ...]] = get_args(SqlOperation)
OPERATIONS: Final[tuple[Operation, ...]] = (*KEY_OPERATIONS, *SQL_OPERATIONS)

#: Operations that must be durable: the disk is measured beside them.
DURABLE: Final[frozenset[Operation]] = frozenset({"put", "bulk_put", "insert", "batch"})
CONNECTIONS: Final = 64
#: A bulk request is a hundred operations: this many under way are load enough, and a slow peer still answers in time.
BULK_CONNECTIONS: Final = 8
#: Length of a value. Source: issue 3, done-when, speed.
VALUE_BYTES: Final = 128
#: Keys that exist before the measurement; gets and lists read these.
READ_KEYS: Final = tuple(f"read-{number:06d}" for number in range(2_000))
#: Keys that puts write, again and again.
WRITE_KEYS: Final = tuple(f"write-{number:06d}" for number in range(10_000))
#: Entries of a bulk request, keys of a listed page, and statements of a batch.
ENTRIES: Final = 100
#: Rows of the table that SQL reads. Source: issue 4, done-when, speed.
TABLE_ROWS: Final = 100_000

_CONNECTIONS: Final[dict[Operation, int]] = {
    "bulk_get": BULK_CONNECTIONS,
    "bulk_put": BULK_CONNECTIONS,
    "batch": BULK_CONNECTIONS,
    # Compared with one thread that asks the engine itself.
    "aggregate": 1,
    "transfer": 1,
}


def connections(operation: Operation) -> int:
    """How many connections ask it, one request under way on each."""
    return _CONNECTIONS.get(operation, CONNECTIONS)


def value_of(key: str) -> str:
    """The value of a key: 128 characters that name it, so that reading back proves whose value it is."""
    return f"{key}:".ljust(VALUE_BYTES, "x")


def slices(keys: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The keys in bulk requests' portions."""
    return [keys[start : start + ENTRIES] for start in range(0, len(keys), ENTRIES)]
