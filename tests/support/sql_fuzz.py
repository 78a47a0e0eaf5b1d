"""Strings that are nearly SQL: statements whose words were lost, doubled, swapped, nested or spoilt; from a seed."""

import random
from collections.abc import Sequence
from typing import Final

from sql_statements import Statements

#: Words that open doors elsewhere, or end things.
_LINES: Final = """
    select from where insert into values update set delete create table view trigger index temp temporary drop alter
    rename add column pragma attach detach database vacuum reindex analyze begin commit rollback savepoint release
    explain query plan with recursive as not materialized union all except intersect order by group having limit offset
    join left natural using on conflict do nothing returning default primary key unique check references cascade
    autoincrement without rowid strict generated always stored virtual fts5 rtree json_each json_tree generate_series
    sqlite_master sqlite_schema sqlite_temp_master sqlite_sequence sqlite_dbpage dbstat sqlite_stmt bytecode
    _tovuk_used _tovuk_visible_schema main. temp. "_tovuk_used" [sqlite_master] load_extension( readfile( writefile(
    edit( fts3_tokenizer( sqlite_compileoption_get( sqlite_source_id( zeroblob(1000000000) randomblob(1e9) printf(
    '%.*c' hex( quote( raise( abort, cast( in( exists( case when then else end over( partition rows between unbounded
    preceding 'file:/etc/passwd?mode=ro' '/etc/passwd' '../../catalog.sqlite' ':memory:' 'x' "a" `b` [c] x'00ff' x'0'
    1e999 9223372036854775808 -1 0x7fffffffffffffff .5 null true ? ?1 ?99999 :a @b $c $d::e(f) ( ) (( )) , ; ;; * || ->
    ->> = == <> < > << >> & | ~ % + - / -- /* */ é 日本 \x00 \ufeff \U0001f600 journal_mode writable_schema=1
    query_only=0 temp_store_directory='/tmp' mmap_size max_page_count=1 schema_version=1 wal_checkpoint(truncate)
    table_info(_tovuk_used) integrity_check optimize foreign_keys=off trusted_schema=1 data_version cache_size=-1000000
"""
WORDS: Final = tuple(_LINES.split())
_NESTING_MAX: Final = 2_000


class FuzzedSql:
    """An endless sequence of strings."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._statements = Statements(rng)

    def next(self) -> str:
        """The next one."""
        rng = self._rng
        if rng.random() < 0.3:
            return " ".join(rng.choices(WORDS, k=rng.randint(1, 14)))
        if rng.random() < 0.03:
            return self._nested()
        sql, _ = self._statements.next()
        self._statements.done(ok=True)
        words: list[str] = sql.split(" ")
        for _ in range(rng.randint(1, 4)):
            words = self._spoilt(words)
        return " ".join(words)

    def _spoilt(self, words: Sequence[str]) -> list[str]:
        rng, spoilt = self._rng, list(words) or [""]
        at = rng.randrange(len(spoilt))
        match rng.randrange(7):
            case 0:
                del spoilt[at]
            case 1:
                spoilt.insert(at, rng.choice(WORDS))
            case 2:
                spoilt[at] = rng.choice(WORDS)
            case 3:
                other = rng.randrange(len(spoilt))
                spoilt[at], spoilt[other] = spoilt[other], spoilt[at]
            case 4:
                spoilt[at:at] = spoilt[: rng.randint(0, 6)]
            case 5:
                word = spoilt[at]
                cut = rng.randint(0, len(word))
                spoilt[at] = word[:cut] + chr(rng.choice((0, 39, 34, 59, 96, 233, 0xFFFD, 0x10FFFF))) + word[cut:]
            case _:
                spoilt = spoilt[:at]
        return spoilt

    def _nested(self) -> str:
        depth = self._rng.randint(2, _NESTING_MAX)
        return self._rng.choice(
            (
                f"select {'(' * depth}1{')' * depth}",
                f"select {'not ' * depth}1",
                "select " + "(select " * depth + "1" + ")" * depth,
                "select 1" + " union all select 1" * depth,
                f"select {'-' * 1}{'+'.join(['1'] * depth)}",
                f"values {','.join(['(1)'] * depth)}",
                f"select {','.join('?' * depth)}",
                f"create table deep ({','.join(f'c{number}' for number in range(depth))})",
            )
        )
