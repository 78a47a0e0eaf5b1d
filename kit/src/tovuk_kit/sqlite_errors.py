"""What SQLite's and the system's failures mean to the house."""

import errno
from typing import Final

import apsw

from tovuk_kit.errors import Outcome, StorageFull, StoreUnavailable, TovukError

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_FAULTS: Final = (
    apsw.FullError,
    apsw.IOError,
    apsw.CantOpenError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.NoMemError,
    apsw.BusyError,
    apsw.ReadOnlyError,
    apsw.ProtocolError,
    apsw.PermissionsError,
    apsw.ConnectionClosedError,
)


def is_fault(error: BaseException) -> bool:
    """Whether the store failed, and not the statement."""
    return isinstance(error, _FAULTS)


def translated(error: apsw.Error | OSError, outcome: Outcome = Outcome.NOT_DONE) -> TovukError:
    """The house's error of a fault: StorageFull for a lack of room, else StoreUnavailable with `outcome`."""
    if isinstance(error, apsw.FullError) or (isinstance(error, OSError) and error.errno in _NO_ROOM):
        return StorageFull(retry_after_ms=1000)
    return StoreUnavailable(outcome=outcome, retry_after_ms=1000)
