"""The format of tokens: a prefix that names the scope, 190 random bits, and a checksum.

`tovuk_<scope>_<32 random base62 characters><6 checksum characters>`. The checksum lets the gateway refuse garbage and
typing errors without asking control. It is no proof: only control knows whether a token stands for a caller. A token
that an operator chose need not have this format, so the checksum is judged only where the prefix is one of ours.
"""

import hashlib
import re
import secrets
import string
import zlib
from typing import Final, Literal, get_args

Scope = Literal["user", "read", "runtime", "operator"]

SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)

#: The shortest token an operator may choose. Source: this project's own rule.
CHOSEN_CHARACTERS_MIN: Final = 16
#: The longest token anybody may send; longer ones are refused unread.
CHARACTERS_MAX: Final = 256

_RANDOM_CHARACTERS: Final = 32
_CHECKSUM_CHARACTERS: Final = 6
_BASE62: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_OURS: Final = re.compile(f"tovuk_(?:{'|'.join(SCOPES)})_")
_WELL_FORMED: Final = re.compile(
    f"(?P<prefix>tovuk_(?:{'|'.join(SCOPES)})_)[0-9A-Za-z]{{{_RANDOM_CHARACTERS + _CHECKSUM_CHARACTERS}}}"
)
#: What may stand in an Authorization header: visible ASCII.
_SENDABLE: Final = re.compile(r"[!-~]+")


def new_token(scope: Scope) -> str:
    """A fresh token of the scope's format."""
    body = f"tovuk_{scope}_" + "".join(secrets.choice(_BASE62) for _ in range(_RANDOM_CHARACTERS))
    return body + _checksum(body)


def may_be_genuine(token: str) -> bool:
    """False when control cannot know this token: unsendable, too short or long, or a bad checksum behind our prefix."""
    if not CHOSEN_CHARACTERS_MIN <= len(token) <= CHARACTERS_MAX or _SENDABLE.fullmatch(token) is None:
        return False
    if _OURS.match(token) is None:
        return True
    body = token[:-_CHECKSUM_CHARACTERS]
    return _WELL_FORMED.fullmatch(token) is not None and _checksum(body) == token[-_CHECKSUM_CHARACTERS:]


def digest(token: str) -> bytes:
    """The token's SHA-256, 32 bytes: all that is ever stored or sent between services."""
    return hashlib.sha256(token.encode()).digest()


def recognition(token: str) -> tuple[str, str]:
    """What a listing may show of a token: its first and its last four characters beyond the prefix.

    A token of an operator's own choosing may be short, so nothing of its beginning is shown.
    """
    well_formed = _WELL_FORMED.fullmatch(token)
    first = token[: well_formed.end("prefix") + 4] if well_formed else ""
    return first, token[-4:]


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    digits = []
    for _ in range(_CHECKSUM_CHARACTERS):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))
