"""What holds for stock SQLite alone."""

from typing import Any

import pytest

from tovuk_kit.errors import TovukError
from tovuk_sqlite.store.base import Statement


@pytest.fixture
def engine_name() -> str:
    return "stock"


@pytest.mark.parametrize(
    "sql",
    ["select * from pragma_table_list", "select * from sqlite_temp_master", "select * from temp.sqlite_master"],
)
def test_what_would_show_our_tables_is_refused(file: Any, sql: str) -> None:
    with pytest.raises(TovukError) as raised:
        file.read(sql)
    assert raised.value.code == "sqlite_statement_denied"


def test_a_statement_that_ends_the_transaction_is_noticed(file: Any, make_budget: Any) -> None:
    file.write("create table t(a unique)", "insert into t values (1)")
    file.writer.begin()
    with pytest.raises(TovukError):
        file.writer.run([Statement("insert or rollback into t values (1)")], make_budget())
    assert not file.writer.in_transaction
