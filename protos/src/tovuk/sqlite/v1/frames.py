"""The hot frames of the SQLite data plane: msgpack arrays inside `tovuk.common.v1.Frame`.

A frame from the gateway is an array of operations, one from the service an array of answers. An answer carries its
operation's id; answers come in any order. Changing a field's order or type breaks the wire: the golden-bytes test
guards it.
"""

import msgspec

from tovuk.common.v1.frames import Failed
from tovuk.sqlite.v1.statements import Statement


class Read(msgspec.Struct, array_like=True, tag="r", gc=False):
    """Statements that cannot write, whatever they say, of one snapshot."""

    id: int
    account: str
    service: str
    database: str
    plan: str
    statements: list[Statement]
    #: Whether the answer has one result of its own, or a list of results with totals.
    batch: bool


class Write(msgspec.Struct, array_like=True, tag="w", gc=False):
    """Statements that may write, as one transaction."""

    id: int
    account: str
    service: str
    database: str
    plan: str
    statements: list[Statement]
    batch: bool


class Done(msgspec.Struct, array_like=True, tag="d", gc=False):
    """The statements are done, durably; the answer's JSON."""

    id: int
    body: bytes


class NotShort(msgspec.Struct, array_like=True, tag="l", gc=False):
    """They are not done at once: nothing was done or counted. Ask with `Run`."""

    id: int


Operation = Read | Write
Answer = Done | NotShort

_encoder = msgspec.msgpack.Encoder()
_operations = msgspec.msgpack.Decoder(list[Operation])
_answers = msgspec.msgpack.Decoder(list[Answer | Failed])


def encode(items: list[Operation] | list[Answer | Failed]) -> bytes:
    """The payload of one frame."""
    return _encoder.encode(items)


def decode_operations(payload: bytes) -> list[Operation]:
    """The operations of a frame; msgspec.ValidationError for anything else."""
    return _operations.decode(payload)


def decode_answers(payload: bytes) -> list[Answer | Failed]:
    """The answers of a frame; msgspec.ValidationError for anything else."""
    return _answers.decode(payload)
