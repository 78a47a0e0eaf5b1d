"""The SQLite that apsw carries."""

from pathlib import Path
from typing import Final

import apsw

from tovuk_kit.sqlite_errors import Failure

_BUSY_TIMEOUT_MS: Final = 5_000
_PREPARED_MAX: Final = 256
_FAULTS: Final = (
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


class ApswLibrary:
    """The Library of apsw, whose connections are its own."""

    version: Final[str] = apsw.sqlite_lib_version()

    def connect(self, path: Path) -> apsw.Connection:
        connection = apsw.Connection(str(path), statementcachesize=_PREPARED_MAX)
        connection.set_busy_timeout(_BUSY_TIMEOUT_MS)
        return connection

    def failure(self, error: BaseException) -> Failure | None:
        match error:
            case apsw.FullError():
                return Failure.FULL
            case apsw.ConstraintError():
                return Failure.CONSTRAINT
            case apsw.Error():
                return Failure.FAULT if isinstance(error, _FAULTS) else Failure.STATEMENT
        return None
