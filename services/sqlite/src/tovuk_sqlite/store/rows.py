"""Results of SQL as JSON: reversible, strict, bounded.

INTEGER is a number, REAL a number or `{"real": "inf"}`, TEXT a string, BLOB `{"base64": …}`, NULL null. Source:
decisions.md, SQLite service.
"""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

_encoder = msgspec.json.Encoder()
_SPECIAL = frozenset({bytes, float})


class Page:
    """A JSON array of rows that ends before it exceeds its bounds."""

    def __init__(self, rows_max: int, bytes_max: int, *, whole: bool = False) -> None:
        self._rows_max = rows_max
        self._bytes_max = bytes_max
        self._whole = whole
        self._parts: list[bytes] = []
        self._bytes = 0
        #: The page took no more, though a row was there.
        self.full = False

    @property
    def count(self) -> int:
        """Rows on the page."""
        return len(self._parts)

    def add(self, row: Sequence[object]) -> bool:
        """Whether the row has found room. A first row always does, but where there will be no next page."""
        if len(self._parts) >= self._rows_max:
            self.full = True
            return False
        part = encoded(row)
        if (self._parts or self._whole) and self._bytes + len(part) + 2 > self._bytes_max:
            self.full = True
            return False
        self._parts.append(part)
        self._bytes += len(part) + 1
        return True

    def json(self) -> bytes:
        """The rows."""
        return b"[" + b",".join(self._parts) + b"]"


def content(columns: Sequence[str], page: Page, figures: Mapping[str, int]) -> bytes:
    """One statement's result as a JSON object: its columns, its rows, how many, and figures by name."""
    told = b"".join(b',"%b":%d' % (name.encode(), figure) for name, figure in figures.items())
    return b'{"columns":%b,"rows":%b,"rowCount":%d%b}' % (_encoder.encode(columns), page.json(), page.count, told)


def encoded(row: Sequence[object]) -> bytes:
    """One row as a JSON array."""
    if not _SPECIAL.isdisjoint(map(type, row)):
        row = list(_plain(row))
    return _encoder.encode(row)


def _plain(row: Iterable[object]) -> Iterable[object]:
    for value in row:
        if isinstance(value, bytes):
            yield {"base64": base64.b64encode(value).decode()}
        elif isinstance(value, float) and math.isinf(value):
            yield {"real": "inf" if value > 0 else "-inf"}
        else:
            yield value
