import pytest

from tovuk_sqlite.cursor import Place, decode_cursor, encode_cursor
from tovuk_sqlite.errors import CursorInvalid
from tovuk_sqlite.store.base import Statement

SECRET = b"s" * 32
STATEMENT = Statement("select ?", [1])


def test_a_cursor_leads_back_to_its_place() -> None:
    place = Place(10_000, "state")
    assert decode_cursor(SECRET, "db", STATEMENT, encode_cursor(SECRET, "db", STATEMENT, place)) == place


@pytest.mark.parametrize(
    ("database", "statement"), [("other", STATEMENT), ("db", Statement("select ?", [2])), ("db", Statement("x", [1]))]
)
def test_a_cursor_of_another_statement_is_refused(database: str, statement: Statement) -> None:
    cursor = encode_cursor(SECRET, "db", STATEMENT, Place(1, "state"))
    with pytest.raises(CursorInvalid):
        decode_cursor(SECRET, database, statement, cursor)


@pytest.mark.parametrize("cursor", ["x", "é", "AAAA", "=" * 40])
def test_an_invented_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(CursorInvalid):
        decode_cursor(SECRET, "db", STATEMENT, cursor)
