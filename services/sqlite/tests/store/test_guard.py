import pytest

from tovuk_sqlite.store.guard import VISIBLE_SCHEMA, visible


@pytest.mark.parametrize(
    "sql",
    ["select 'sqlite_master'", "select 1 -- sqlite_master", "select /* sqlite_master */ 1", "select my_sqlite_master"],
)
def test_a_name_in_text_and_comments_stays(sql: str) -> None:
    assert visible(sql) == sql


def test_the_schemas_name_gives_way_to_the_view_without_our_tables() -> None:
    assert visible("select * from SQLITE_MASTER") == f"select * from {VISIBLE_SCHEMA}"
