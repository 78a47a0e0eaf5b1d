"""What SQLite's and the system's failures mean to the house."""

import errno
from enum import Enum, auto
from typing import Final

from tovuk_kit.errors import Outcome, StorageFull, StoreUnavailable, TovukError

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Failure(Enum):
    """What an exception of a SQLite library means."""

    #: There is no room.
    FULL = auto()
    #: The store failed in another way.
    FAULT = auto()
    #: A statement broke a constraint.
    CONSTRAINT = auto()
    #: A statement failed, and not the store.
    STATEMENT = auto()


def translated(failure: Failure | OSError, outcome: Outcome = Outcome.NOT_DONE) -> TovukError:
    """The house's error of a fault: StorageFull for a lack of room, else StoreUnavailable with `outcome`."""
    if failure is Failure.FULL or (isinstance(failure, OSError) and failure.errno in _NO_ROOM):
        return StorageFull(retry_after_ms=1000)
    return StoreUnavailable(outcome=outcome, retry_after_ms=1000)
