"""Paths as they came over the wire: split first, decoded after, so that an encoded slash stays inside its segment."""

import re

from tovuk_gateway.errors import InvalidPath, NoSuchRoute

#: Stands for a slash inside a segment while the routes match. UTF-8 never decodes to a lone surrogate, so no request
#: can contain it.
SLASH = "\udc2f"

_PLAIN = re.compile(rb"[A-Za-z0-9_~:@!$&'()*+,;=-][A-Za-z0-9_~.:@!$&'()*+,;=-]*")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def decode_segment(raw: bytes) -> str:
    """One segment, percent-decoded once; InvalidPath when it is empty, a dot segment, badly encoded or not UTF-8."""
    if raw.isalnum() or _PLAIN.fullmatch(raw):
        return raw.decode("ascii")
    if not raw:
        raise InvalidPath(reason="a segment is empty")
    if _BAD_ESCAPE.search(raw):
        raise InvalidPath(reason="a percent sign is not followed by two hexadecimal digits")
    try:
        text = _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), raw).decode()
    except UnicodeDecodeError:
        raise InvalidPath(reason="a segment is not UTF-8") from None
    if text in {".", ".."}:
        raise InvalidPath(reason="a segment is . or ..")
    return text


def routing_path(method: str, raw_path: bytes) -> str:
    """The path the routes match on: decoded segments joined by slashes, slashes inside a segment as SLASH.

    Starlette decodes the whole path before it splits, which would let `%2F` cut a key in two; so the path is split and
    decoded here, and the `segment` convertor of the routes turns SLASH back. A trailing slash is accepted only where
    the published client sends one, on the deletion of a service.
    """
    if not raw_path.startswith(b"/"):
        raise InvalidPath(reason="it does not begin with a slash")
    raw = raw_path[1:].split(b"/")
    trailing = len(raw) > 1 and not raw[-1]
    segments = [decode_segment(part) for part in (raw[:-1] if trailing else raw)] if raw != [b""] else []
    if trailing and not (method == "DELETE" and len(segments) == 3 and segments[:2] == ["v1", "services"]):
        raise NoSuchRoute
    return "/" + "/".join(segment.replace("/", SLASH) for segment in segments)
