"""The extension as it is built here: whether this service can use it is known before anything else of it is asked."""

from typing import Final

import tovuk_sqlite_native

#: What this service was written for.
INTERFACE: Final = 4


def fits() -> bool:
    """Whether the build is not another version's."""
    return getattr(tovuk_sqlite_native, "INTERFACE", 0) == INTERFACE
