"""The statements of a request: a msgpack array.

Parameters are null, 64-bit integers, floats, text or binary; positional ones are an array, named ones a map. Changing their
order or type breaks the wire: the golden-bytes test guards it.
"""

from typing import Any

import msgspec

Value = None | int | float | str | bytes


#: One SQL statement with its parameters. msgspec knows no union of text and binary: what else msgpack can say is found
#: when it is bound.
Statement = tuple[str, list[Any] | dict[str, Any]]

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Statement])


def encode(statements: list[Statement]) -> bytes:
    """The payload of a request."""
    return _encoder.encode(statements)


def decode(payload: bytes) -> list[Statement]:
    """The statements of a request; msgspec.MsgspecError for anything else."""
    return _decoder.decode(payload)
