"""Cursors of results: where a page ended, signed, and good for the same statement of the same state of a database."""

import base64
import binascii
import hashlib
import hmac
from typing import NamedTuple

import msgspec

from tovuk_sqlite.errors import CursorInvalid
from tovuk_sqlite.store.base import Statement

_SIGNATURE_BYTES = 16


class Place(NamedTuple):
    """Rows that former pages had, the state of the database they were read from, and who waits to read on, if any."""

    rows: int
    state: str
    page: str = ""


def encode_cursor(secret: bytes, database_id: str, statement: Statement, place: Place) -> str:
    """The cursor of the next page."""
    raw = msgspec.msgpack.encode(place)
    return base64.urlsafe_b64encode(_signature(secret, database_id, statement, raw) + raw).decode().rstrip("=")


def decode_cursor(secret: bytes, database_id: str, statement: Statement, cursor: str) -> Place:
    """Where the next page begins. Raises CursorInvalid for every cursor this statement has not given."""
    try:
        signed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise CursorInvalid from error
    signature, raw = signed[:_SIGNATURE_BYTES], signed[_SIGNATURE_BYTES:]
    if not hmac.compare_digest(signature, _signature(secret, database_id, statement, raw)):
        raise CursorInvalid
    return msgspec.msgpack.decode(raw, type=Place)


def _signature(secret: bytes, database_id: str, statement: Statement, raw: bytes) -> bytes:
    message = msgspec.msgpack.encode([database_id, statement.sql, statement.params, raw])
    return hmac.digest(secret, message, hashlib.sha256)[:_SIGNATURE_BYTES]
