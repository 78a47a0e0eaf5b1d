"""The hot frames of the KV data plane: msgpack arrays inside `tovuk.common.v1.Frame`, and the entries of bulk calls.

A frame from the gateway is an array of operations, one from the service an array of answers. An answer carries its
operation's id; answers come in any order. Changing a field's order or type breaks the wire: the golden-bytes test
guards it.
"""

import msgspec

from tovuk.common.v1.frames import Failed

#: Bytes of payload a frame gathers before the next begins.
FRAME_BYTES_MAX = 1024 * 1024
#: Bytes of a value that may travel in a frame; larger ones use the chunked calls.
INLINE_VALUE_BYTES_MAX = 64 * 1024
#: Operations of one frame.
FRAME_OPERATIONS_MAX = 128


class Get(msgspec.Struct, array_like=True, tag="g", gc=False):
    """Read a value. `if_none_match` is an ETag the caller has, or empty."""

    id: int
    account: str
    service: str
    namespace: str
    key: bytes
    if_none_match: str


class Put(msgspec.Struct, array_like=True, tag="p", gc=False):
    """Write a value whole. `expires_at` in Unix seconds and `ttl_seconds` are 0 for none, at most one is given."""

    id: int
    account: str
    service: str
    namespace: str
    key: bytes
    value: bytes
    encoding: str
    metadata: bytes
    expires_at: int
    ttl_seconds: int
    if_match: str
    if_none_match: str


class Delete(msgspec.Struct, array_like=True, tag="d", gc=False):
    """Delete a key; absent ones are no error."""

    id: int
    account: str
    service: str
    namespace: str
    key: bytes
    if_match: str


class List(msgspec.Struct, array_like=True, tag="l", gc=False):
    """One page of keys in byte order, after the cursor."""

    id: int
    account: str
    service: str
    namespace: str
    prefix: bytes
    limit: int
    cursor: str


class Value(msgspec.Struct, array_like=True, tag="v", gc=False):
    """A key's value and what was stored with it."""

    id: int
    value: bytes
    encoding: str
    metadata: bytes
    expires_at: int
    version: int


class NotModified(msgspec.Struct, array_like=True, tag="n", gc=False):
    """The key still has the version the caller knows."""

    id: int
    version: int


class Large(msgspec.Struct, array_like=True, tag="L", gc=False):
    """The value does not fit a frame; nothing was counted. Ask with GetLarge."""

    id: int


class Stored(msgspec.Struct, array_like=True, tag="s", gc=False):
    """The value is durable. `expires_at` is 0 for none."""

    id: int
    version: int
    expires_at: int


class Deleted(msgspec.Struct, array_like=True, tag="x", gc=False):
    """The key is gone, durably; `existed` says whether it was there."""

    id: int
    existed: bool


class KeyEntry(msgspec.Struct, array_like=True, gc=False):
    """One key of a page."""

    key: bytes
    metadata: bytes
    expires_at: int
    version: int
    value_bytes: int


class Page(msgspec.Struct, array_like=True, tag="k", gc=False):
    """A page of keys; the cursor is empty on the last one."""

    id: int
    keys: list[KeyEntry]
    cursor: str


class BulkEntry(msgspec.Struct, array_like=True, gc=False):
    """An entry of a bulk write. With `more`, its value goes on in the next entry, of which nothing but that counts."""

    key: bytes
    value: bytes
    encoding: str
    metadata: bytes
    expires_at: int
    ttl_seconds: int
    more: bool


class BulkValue(msgspec.Struct, array_like=True, gc=False):
    """A value of a bulk read. With `more` it goes on in the next one, of which nothing but `value` counts."""

    value: bytes
    encoding: str
    metadata: bytes
    expires_at: int
    version: int
    more: bool


Operation = Get | Put | Delete | List
Answer = Value | NotModified | Large | Stored | Deleted | Page

_encoder = msgspec.msgpack.Encoder()
_operations = msgspec.msgpack.Decoder(list[Operation])
_answers = msgspec.msgpack.Decoder(list[Answer | Failed])
_bulk_entries = msgspec.msgpack.Decoder(list[BulkEntry])
_bulk_values = msgspec.msgpack.Decoder(list[BulkValue | None])


def encode(items: list[Operation] | list[Answer | Failed] | list[BulkEntry] | list[BulkValue | None]) -> bytes:
    """The payload of one frame, or of one message of a bulk call."""
    return _encoder.encode(items)


def decode_operations(payload: bytes) -> list[Operation]:
    """The operations of a frame; msgspec.ValidationError for anything else."""
    return _operations.decode(payload)


def decode_answers(payload: bytes) -> list[Answer | Failed]:
    """The answers of a frame; msgspec.ValidationError for anything else."""
    return _answers.decode(payload)


def decode_bulk_entries(payload: bytes) -> list[BulkEntry]:
    """The entries of a message of a bulk write; msgspec.ValidationError for anything else."""
    return _bulk_entries.decode(payload)


def decode_bulk_values(payload: bytes) -> list[BulkValue | None]:
    """The values of a message of a bulk read; msgspec.ValidationError for anything else."""
    return _bulk_values.decode(payload)
