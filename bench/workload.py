"""What is asked of every target: the operations, the keys and the values."""

from typing import Final, Literal, get_args

Operation = Literal["get", "put", "list", "bulk_get", "bulk_put"]

OPERATIONS: Final[tuple[Operation, ...]] = get_args(Operation)

#: Operations that must be durable: the disk is measured beside them.
DURABLE: Final[frozenset[Operation]] = frozenset({"put", "bulk_put"})
CONNECTIONS: Final = 64
#: A bulk request is a hundred operations: this many under way are load enough, and a slow peer still answers in time.
BULK_CONNECTIONS: Final = 8
#: Length of a value. Source: issue 3, done-when, speed.
VALUE_BYTES: Final = 128
#: Keys that exist before the measurement; gets and lists read these.
READ_KEYS: Final = tuple(f"read-{number:06d}" for number in range(2_000))
#: Keys that puts write, again and again.
WRITE_KEYS: Final = tuple(f"write-{number:06d}" for number in range(10_000))
#: Entries of a bulk request, and keys of a listed page.
ENTRIES: Final = 100


def connections(operation: Operation) -> int:
    """How many connections ask it, one request under way on each."""
    return BULK_CONNECTIONS if operation.startswith("bulk") else CONNECTIONS


def value_of(key: str) -> str:
    """The value of a key: 128 characters that name it, so that reading back proves whose value it is."""
    return f"{key}:".ljust(VALUE_BYTES, "x")


def slices(keys: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The keys in bulk requests' portions."""
    return [keys[start : start + ENTRIES] for start in range(0, len(keys), ENTRIES)]
