"""Ids: a prefix that names the kind, and 20 random hexadecimal digits."""

import re
import secrets

#: Hexadecimal digits after the prefix.
ID_DIGITS = 20

_SHAPE = re.compile(r"[a-z]+(_[a-z]+)*_[0-9a-f]{20}")


def new_id(prefix: str) -> str:
    """A fresh id such as `kv_3f…`; 80 random bits."""
    return f"{prefix}_{secrets.token_hex(ID_DIGITS // 2)}"


def has_id_shape(text: str) -> bool:
    """Whether text looks like an id of any kind, and so may not be a name."""
    return _SHAPE.fullmatch(text) is not None
