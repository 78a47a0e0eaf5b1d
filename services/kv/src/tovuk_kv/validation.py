"""What a key, a value's head and a condition must look like. Source: product facts, KV; decisions.md, KV."""

import re

import msgspec

from tovuk_kv.errors import (
    ExpirationInvalid,
    KeyInvalid,
    KeyTooLarge,
    MetadataInvalid,
    MetadataTooLarge,
    TtlTooShort,
    ValueInvalid,
    ValueTooLarge,
)
from tovuk_kv.limits import (
    EXPIRATION_SECONDS_MAX,
    KEY_BYTES_MAX,
    METADATA_BYTES_MAX,
    TTL_SECONDS_MIN,
    VALUE_BYTES_MAX,
)

ENCODINGS = frozenset({"text", "base64"})
_ETAG = re.compile(r'"([1-9][0-9]{0,18})"')
#: A version no key has: what an ETag that is not ours stands for.
NO_VERSION = "0"


def check_key(key: bytes) -> None:
    """Raises KeyInvalid, KeyTooLarge."""
    if len(key) > KEY_BYTES_MAX:
        raise KeyTooLarge(limit_bytes=KEY_BYTES_MAX, size_bytes=len(key))
    if key in (b"", b".", b".."):
        raise KeyInvalid
    try:
        key.decode()
    except UnicodeDecodeError as error:
        raise KeyInvalid from error


def check_value_bytes(value_bytes: int) -> None:
    """Raises ValueTooLarge."""
    if value_bytes > VALUE_BYTES_MAX:
        raise ValueTooLarge(limit_bytes=VALUE_BYTES_MAX)


def check_text(value: bytes) -> None:
    """A value written as text is UTF-8, or it could not come back as one. Raises ValueInvalid."""
    try:
        value.decode()
    except UnicodeDecodeError as error:
        raise ValueInvalid(reason="text must be UTF-8") from error


def check_head(encoding: str, metadata: bytes, expires_at: int, ttl_seconds: int) -> None:
    """All that a put carries beside key and value; 0 is no expiry.

    Raises ValueInvalid, MetadataTooLarge, MetadataInvalid, ExpirationInvalid, TtlTooShort.
    """
    if encoding not in ENCODINGS:
        raise ValueInvalid(reason="the encoding is neither text nor base64")
    if metadata:
        if len(metadata) > METADATA_BYTES_MAX:
            raise MetadataTooLarge(limit_bytes=METADATA_BYTES_MAX, size_bytes=len(metadata))
        try:
            msgspec.json.decode(metadata, type=dict)
        except msgspec.MsgspecError as error:
            raise MetadataInvalid from error
    if expires_at and ttl_seconds:
        raise ExpirationInvalid(reason="expiration and expirationTtlSeconds exclude one another")
    if ttl_seconds and ttl_seconds < TTL_SECONDS_MIN:
        raise TtlTooShort(minimum_seconds=TTL_SECONDS_MIN)
    if not (0 <= expires_at <= EXPIRATION_SECONDS_MAX and ttl_seconds <= EXPIRATION_SECONDS_MAX // 2):
        raise ExpirationInvalid(reason="it is not a moment before the year 10000")


def parse_condition(header: str) -> str:
    """The versions an If-Match or If-None-Match names, joined by commas; `*` for any, empty for no condition."""
    header = header.strip()
    if header in ("", "*"):
        return header
    return ",".join(_ETAG.findall(header)) or NO_VERSION


def names_version(condition: str, version: int) -> bool:
    """Whether a parsed condition names this version of an existing key."""
    return condition == "*" or str(version) in condition.split(",")
