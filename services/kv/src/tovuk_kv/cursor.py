"""Cursors of key lists: where a page ended, signed, and good for the same namespace and prefix alone."""

import base64
import binascii
import hashlib
import hmac

from tovuk_kv.errors import InvalidCursor

#: Bytes of the signature kept in a cursor.
SIGNATURE_BYTES = 16


def encode_cursor(secret: bytes, namespace_id: str, prefix: bytes, last_key: bytes) -> str:
    """The cursor behind `last_key`."""
    raw = _signature(secret, namespace_id, prefix, last_key) + last_key
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decode_cursor(secret: bytes, namespace_id: str, prefix: bytes, cursor: str) -> bytes:
    """The last key of the page before. Raises InvalidCursor for every cursor this list has not given."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidCursor from error
    signature, last_key = raw[:SIGNATURE_BYTES], raw[SIGNATURE_BYTES:]
    if not hmac.compare_digest(signature, _signature(secret, namespace_id, prefix, last_key)):
        raise InvalidCursor
    return last_key


def _signature(secret: bytes, namespace_id: str, prefix: bytes, last_key: bytes) -> bytes:
    message = b"\0".join((namespace_id.encode(), len(prefix).to_bytes(4, "big") + prefix, last_key))
    return hmac.digest(secret, message, hashlib.sha256)[:SIGNATURE_BYTES]
