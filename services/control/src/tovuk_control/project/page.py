"""Pages of listings: limits, and cursors that are good for one list of one account only."""

import base64
import binascii
import hashlib
import hmac
from typing import Final

from tovuk_control.errors import InvalidCursor, InvalidLimit
from tovuk_control.limits import PAGE_DEFAULT, PAGE_MAX, PAGE_MIN

_SIGNATURE_BYTES: Final = 16
_CURSOR_CHARACTERS_MAX: Final = 512


def checked_limit(limit: int) -> int:
    """The page limit, the default for 0. Raises InvalidLimit."""
    if limit == 0:
        return PAGE_DEFAULT
    if not PAGE_MIN <= limit <= PAGE_MAX:
        raise InvalidLimit(minimum=PAGE_MIN, maximum=PAGE_MAX)
    return limit


class Cursors:
    """Signs positions. Every instance of control has the same key, so a cursor survives restarts and replicas."""

    def __init__(self, key: bytes) -> None:
        self._key = hmac.digest(key, b"tovuk-control-cursor", hashlib.sha256)

    def write(self, listing: str, subject: str, position: str) -> str:
        """A cursor for a position in the subject's listing."""
        signed = self._signature(listing, subject, position) + position.encode()
        return base64.urlsafe_b64encode(signed).decode().rstrip("=")

    def read(self, listing: str, subject: str, cursor: str) -> str:
        """The position. Raises InvalidCursor for anything that `write` did not make for this subject's listing."""
        if len(cursor) > _CURSOR_CHARACTERS_MAX:
            raise InvalidCursor
        try:
            signed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            signature, position = signed[:_SIGNATURE_BYTES], signed[_SIGNATURE_BYTES:].decode()
        except (binascii.Error, ValueError) as error:
            raise InvalidCursor from error
        if not hmac.compare_digest(signature, self._signature(listing, subject, position)):
            raise InvalidCursor
        return position

    def _signature(self, listing: str, subject: str, position: str) -> bytes:
        message = "\0".join((listing, subject, position)).encode()
        return hmac.digest(self._key, message, hashlib.sha256)[:_SIGNATURE_BYTES]
