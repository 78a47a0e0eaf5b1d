"""SQL made up at random, from a seed: tables, indexes, views, triggers, changes and questions of every kind.

What is asked has one answer on every SQLite of a version: no clock, no chance, no order left open by a LIMIT.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

Statement = tuple[str, Sequence[Any] | dict[str, Any]]

_WORDS = ("ada", "Bob", "carol", "dé", "", "x'y", "100%", "a_b", "日本", "NULL")
_JSON = ('{"a":1,"b":[1,2,{"c":null}]}', '[1,2.5,"x"]', '{"a":{"b":"deep"}}', "7", "{broken", "null")
_TYPES = ("INTEGER", "TEXT", "REAL", "BLOB", "NUMERIC", "")
_TABLES_MAX = 6
_COMPARISONS = ("=", "<>", "<", ">", "<=", ">=", "IS", "IS NOT")


@dataclass
class Table:
    """What the generator remembers of a table."""

    name: str
    columns: list[str]
    key: str
    unique: list[str] = field(default_factory=list)
    generated: list[str] = field(default_factory=list)

    def rename(self, old: str, new: str) -> None:
        """A column has another name."""
        self.columns[self.columns.index(old)] = new
        self.unique = [new if column == old else column for column in self.unique]
        if old == self.key:
            self.key = new

    @property
    def writable(self) -> list[str]:
        """Columns that take a value."""
        return [column for column in self.columns if column not in self.generated]


class Statements:
    """An endless sequence of statements, each apt for what those before it made."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._tables: list[Table] = []
        self._views: list[str] = []
        self._made = 0
        self._pending: list[Callable[[], object]] = []
        self._kinds: list[tuple[int, Callable[[], Statement | str]]] = [
            (3, self._create_table),
            (3, self._create_index),
            (1, self._create_view),
            (2, self._create_trigger),
            (2, self._alter),
            (1, self._drop),
            (26, self._insert),
            (6, self._upsert),
            (8, self._update),
            (5, self._delete),
            (12, self._select),
            (7, self._join),
            (7, self._aggregate),
            (5, self._window),
            (5, self._with),
            (4, self._compound),
            (5, self._json),
            (6, self._expressions),
            (3, self._schema),
            (8, self._mistake),
        ]

    def next(self) -> Statement:
        """The next statement and its parameters."""
        if len(self._tables) < 2:
            return self._create_table(), ()
        weights, kinds = zip(*self._kinds, strict=True)
        made = self._rng.choices(kinds, weights)[0]()
        return (made, ()) if isinstance(made, str) else made

    def done(self, *, ok: bool) -> None:
        """Whether what `next` gave since the last time was done: only then does the schema change."""
        for change in self._pending if ok else ():
            change()
        self._pending.clear()

    # Schema.

    def _create_table(self) -> str:
        if len(self._tables) >= _TABLES_MAX:
            return self._drop_table()
        rng, name = self._rng, self._name("t")
        table = Table(name, ["id"], "id")
        strict, rowid = rng.random() < 0.2, rng.random() < 0.8
        lines = ["id INTEGER PRIMARY KEY" if rowid or strict else "id PRIMARY KEY NOT NULL"]
        for number in range(rng.randint(2, 5)):
            column = f"c{number}"
            kind = rng.choice([kind for kind in _TYPES if kind not in ("NUMERIC", "")] if strict else _TYPES)
            table.columns.append(column)
            lines.append(f"{column} {kind}{self._constraints(table, column)}")
        if rng.random() < 0.2:
            lines.append(
                f"g AS ({rng.choice(table.columns)} || '!') {rng.choice(('STORED', 'VIRTUAL'))}".replace(
                    " AS", " TEXT AS" if strict else " AS"
                )
            )
            table.columns.append("g")
            table.generated.append("g")
        if self._tables and rng.random() < 0.3:
            other = rng.choice(self._tables)
            action = rng.choice(("CASCADE", "SET NULL", "RESTRICT", "NO ACTION"))
            lines.append(f"FOREIGN KEY (c0) REFERENCES {other.name} (id) ON DELETE {action}")
        options = [word for word, there in (("STRICT", strict), ("WITHOUT ROWID", not rowid)) if there]
        self._pending.append(partial(self._tables.append, table))
        return f"CREATE TABLE {name} ({', '.join(lines)}) {', '.join(options)}".strip()

    def _constraints(self, table: Table, column: str) -> str:
        rng, said = self._rng, ""
        if rng.random() < 0.15:
            said += " NOT NULL"
        if rng.random() < 0.15:
            said += " UNIQUE" + rng.choice(("", "", " ON CONFLICT IGNORE", " ON CONFLICT REPLACE"))
            table.unique.append(column)
        if rng.random() < 0.15:
            said += " DEFAULT " + rng.choice(("0", "NULL", "'none'", "(1 + 1)"))
        if rng.random() < 0.15:
            name = rng.choice((f"CONSTRAINT sane_{column} ", ""))
            said += f" {name}CHECK ({column} IS NULL OR length({column}) < {rng.randint(2, 9)})"
        if rng.random() < 0.1:
            said += " COLLATE " + rng.choice(("NOCASE", "RTRIM"))
        return said

    def _create_index(self) -> str:
        table, rng = self._table(), self._rng
        terms = ", ".join(
            rng.choice((column, f"{column} DESC", f"{column} COLLATE NOCASE", f"lower({column})"))
            for column in self._some(table.columns)
        )
        where = f" WHERE {rng.choice(table.columns)} IS NOT NULL" if rng.random() < 0.2 else ""
        return f"CREATE {rng.choice(('', '', 'UNIQUE '))}INDEX {self._name('i')} ON {table.name} ({terms}){where}"

    def _create_view(self) -> str:
        name, table = self._name("v"), self._table()
        self._pending.append(partial(self._views.append, name))
        return f"CREATE VIEW {name} AS SELECT id, {self._expression(table)} AS e FROM {table.name}"

    def _create_trigger(self) -> str:
        table, other, rng = self._table(), self._table(), self._rng
        when, event = rng.choice(("BEFORE", "AFTER")), rng.choice(("INSERT", "UPDATE", "DELETE"))
        row = "old" if event == "DELETE" else "new"
        action = rng.choice(
            (
                f"UPDATE {other.name} SET {rng.choice(other.writable)} = {row}.id WHERE id = {row}.id + 1",
                f"DELETE FROM {other.name} WHERE id = {row}.id - 3",
                f"INSERT OR IGNORE INTO {other.name} (id) VALUES ({row}.id + 100)",
                f"SELECT RAISE({rng.choice(('ABORT', 'IGNORE', 'FAIL'))}, 'no more') WHERE {row}.id > 90",
            )
        )
        return f"CREATE TRIGGER {self._name('r')} {when} {event} ON {table.name} BEGIN {action}; END"

    def _alter(self) -> str:
        table, rng = self._table(), self._rng
        match rng.randrange(4):
            case 0:
                column = self._name("a")
                self._pending.append(partial(table.columns.append, column))
                return f"ALTER TABLE {table.name} ADD COLUMN {column} {rng.choice(_TYPES[:4])} DEFAULT 7"
            case 1:
                old, new = rng.choice(table.writable), self._name("n")
                self._pending.append(partial(table.rename, old, new))
                return f"ALTER TABLE {table.name} RENAME COLUMN {old} TO {new}"
            case 2:
                gone = rng.choice(table.columns)
                self._pending.append(partial(table.columns.remove, gone))
                return f"ALTER TABLE {table.name} DROP COLUMN {gone}"
            case _:
                name = self._name("t")
                self._pending.append(partial(setattr, table, "name", name))
                return f"ALTER TABLE {table.name} RENAME TO {name}"

    def _drop(self) -> str:
        rng = self._rng
        if self._views and rng.random() < 0.3:
            view = rng.choice(self._views)
            self._pending.append(partial(self._views.remove, view))
            return f"DROP VIEW {view}"
        if len(self._tables) > 3 and rng.random() < 0.3:
            return self._drop_table()
        return f"DROP {rng.choice(('INDEX', 'TRIGGER'))} IF EXISTS {rng.choice('ir')}{rng.randint(1, self._made)}"

    def _drop_table(self) -> str:
        table = self._table()
        self._pending.append(partial(self._tables.remove, table))
        return f"DROP TABLE {table.name}"

    def _schema(self) -> str:
        table = self._table()
        return self._rng.choice(
            (
                "SELECT type, name, tbl_name FROM sqlite_master ORDER BY type, name",
                f"SELECT name, type, \"notnull\", pk FROM pragma_table_info('{table.name}') ORDER BY cid",
                f"PRAGMA table_info({table.name})",
                f"PRAGMA foreign_key_list({table.name})",
                "SELECT sql FROM sqlite_schema WHERE type = 'trigger' ORDER BY name",
            )
        )

    # Changes.

    def _insert(self) -> Statement | str:
        table, rng = self._table(), self._rng
        if rng.random() < 0.05:
            return f"INSERT INTO {table.name} DEFAULT VALUES"
        verb = rng.choice(("INSERT",) * 8 + ("INSERT OR IGNORE", "INSERT OR REPLACE", "INSERT OR FAIL",
                                             "INSERT OR ABORT", "REPLACE"))  # fmt: skip
        columns = self._some(table.writable) if rng.random() < 0.3 else table.writable
        head = f"{verb} INTO {table.name} ({', '.join(columns)})"
        if rng.random() < 0.1:
            source = self._table()
            picked = ", ".join(self._term(source) for _ in columns)
            return f"{head} SELECT {picked} FROM {source.name} WHERE id < {rng.randint(1, 20)}"
        if rng.random() < 0.4:
            return self._with_params(table, head, columns)
        rows = [
            f"({', '.join(self._literal_for(table, column) for column in columns)})" for _ in range(rng.randint(1, 4))
        ]
        return f"{head} VALUES {', '.join(rows)}{self._returning(table)}"

    def _with_params(self, table: Table, head: str, columns: Sequence[str]) -> Statement:
        values = [self._rng.randint(1, 99) if column == table.key else self._value() for column in columns]
        if self._rng.random() < 0.3:
            marks = ", ".join(f"{self._rng.choice(':@$')}{column}" for column in columns)
            return f"{head} VALUES ({marks}){self._returning(table)}", dict(zip(columns, values, strict=True))
        return f"{head} VALUES ({', '.join('?' * len(columns))}){self._returning(table)}", values

    def _upsert(self) -> str:
        table, rng = self._table(), self._rng
        target = rng.choice([table.key, *table.unique])
        column = rng.choice(table.writable)
        action = rng.choice(
            (
                "NOTHING",
                f"UPDATE SET {column} = excluded.{column}",
                f"UPDATE SET {column} = {table.name}.{column} || excluded.{column} WHERE excluded.id > 10",
            )
        )
        columns = table.writable
        row = ", ".join(self._literal_for(table, name) for name in columns)
        returning = self._returning(table)
        inserted = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({row})"
        return f"{inserted} ON CONFLICT ({target}) DO {action}{returning}"

    def _update(self) -> str:
        table, rng = self._table(), self._rng
        verb = rng.choice(("UPDATE",) * 4 + ("UPDATE OR IGNORE", "UPDATE OR REPLACE"))
        sets = ", ".join(f"{column} = {self._term(table)}" for column in self._some(table.writable))
        if rng.random() < 0.15:
            other = self._table()
            if other is not table:
                column = rng.choice(table.writable)
                return (
                    f"{verb} {table.name} SET {column} = o.id FROM {other.name} AS o WHERE o.id = {table.name}.id + 1"
                )
        return f"{verb} {table.name} SET {sets}{self._where(table)}{self._returning(table)}"

    def _delete(self) -> str:
        table = self._table()
        return f"DELETE FROM {table.name}{self._where(table, always=self._rng.random() < 0.9)}{self._returning(table)}"

    # Questions.

    def _select(self) -> Statement | str:
        table, rng = self._table(), self._rng
        terms = ", ".join(self._expression(table) for _ in range(rng.randint(1, 3)))
        if rng.random() < 0.25:
            column = rng.choice(table.columns)
            values = [self._value(), self._value()]
            return (
                f"SELECT id, {terms} FROM {table.name} WHERE {column} {rng.choice(_COMPARISONS)} ? OR {column} = ?",
                values,
            )
        if rng.random() < 0.3:
            order = f"{rng.choice(table.columns)} {rng.choice(('', 'DESC', 'NULLS LAST', 'COLLATE NOCASE'))}"
            limit = f" LIMIT {rng.randint(0, 9)} OFFSET {rng.randint(0, 4)}"
            return f"SELECT {terms} FROM {table.name}{self._where(table)} ORDER BY {order}, id{limit}"
        return f"SELECT {rng.choice(('', '', 'DISTINCT '))}{terms} FROM {table.name}{self._where(table)}"

    def _join(self) -> str:
        left, right, rng = self._table(), self._table(), self._rng
        kind = rng.choice(("JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN"))
        on = f" ON l.{rng.choice(left.columns)} = r.{rng.choice(right.columns)}" if kind != "CROSS JOIN" else ""
        shown = f"l.{rng.choice(left.columns)}, r.{rng.choice(right.columns)}, l.id + r.id"
        return f"SELECT {shown} FROM {left.name} AS l {kind} {right.name} AS r{on}"

    def _aggregate(self) -> str:
        table, rng = self._table(), self._rng
        column, by = rng.choice(table.columns), rng.choice(table.columns)
        functions = ", ".join(
            rng.choice(
                (
                    "count(*)",
                    f"count(DISTINCT {column})",
                    f"sum(length({column}))",
                    f"min({column})",
                    f"max({column})",
                    f"avg(id) FILTER (WHERE {column} IS NOT NULL)",
                    "total(id)",
                    "group_concat(id, '-' ORDER BY id)",
                )
            )
            for _ in range(rng.randint(1, 3))
        )
        if rng.random() < 0.3:
            return f"SELECT {functions} FROM {table.name}{self._where(table)}"
        having = f" HAVING count(*) > {rng.randint(0, 2)}" if rng.random() < 0.3 else ""
        return f"SELECT typeof({by}), {functions} FROM {table.name} GROUP BY typeof({by}){having}"

    def _window(self) -> str:
        table, rng = self._table(), self._rng
        column = rng.choice(table.columns)
        function = rng.choice(
            (
                "row_number()",
                "rank()",
                "dense_rank()",
                "ntile(3)",
                "sum(id)",
                f"lag({column}, 1, 'none')",
                f"first_value({column})",
                "count(*)",
            )
        )
        frame = rng.choice(("", " ROWS BETWEEN 1 PRECEDING AND CURRENT ROW"))
        partition = f"PARTITION BY typeof({column}) " if rng.random() < 0.5 else ""
        return f"SELECT id, {function} OVER ({partition}ORDER BY id{frame}) FROM {table.name}"

    def _with(self) -> str:
        table, rng = self._table(), self._rng
        if rng.random() < 0.5:
            last = rng.randint(1, 50)
            return (
                f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {last}) "
                f"SELECT count(*), sum(i), max(t.id) FROM n LEFT JOIN {table.name} AS t ON t.id = i"
            )
        return (
            f"WITH a AS (SELECT id, {self._expression(table)} AS e FROM {table.name}), "
            f"b AS {rng.choice(('', 'MATERIALIZED '))}(SELECT e, count(*) AS n FROM a GROUP BY e) "
            "SELECT a.id, b.n FROM a JOIN b ON a.e IS b.e"
        )

    def _compound(self) -> str:
        left, right, rng = self._table(), self._table(), self._rng
        word = rng.choice(("UNION", "UNION ALL", "INTERSECT", "EXCEPT"))
        return f"SELECT id, {self._term(left)} FROM {left.name} {word} SELECT id, {self._term(right)} FROM {right.name}"

    def _json(self) -> Statement | str:
        table, rng = self._table(), self._rng
        text = rng.choice(_JSON)
        column = rng.choice(table.columns)
        return rng.choice(
            (
                ("SELECT json_extract(?, '$.a'), ? -> '$.b', ? ->> '$.a'", [text, text, text]),
                ("SELECT key, value, type FROM json_each(?) ORDER BY id", [text]),
                ("SELECT json_set(?, '$.z', 1), json_type(?), json_valid(?)", [text, text, text]),
                f"SELECT json_group_array(id ORDER BY id) FROM {table.name}",
                f"SELECT json_object('id', id, 'v', {column}) FROM {table.name} WHERE typeof({column}) <> 'blob'",
                (f"SELECT id FROM {table.name} WHERE id IN (SELECT value FROM json_each(?))", ["[1, 2, 3, 50]"]),
            )
        )

    def _expressions(self) -> Statement | str:
        rng, value = self._rng, self._literal
        return rng.choice(
            (
                f"SELECT {value()} + {value()}, {value()} / {value()}, {value()} % 7, {value()} || {value()}",
                f"SELECT substr({value()}, 2), upper({value()}), hex({value()}), quote({value()}), typeof({value()})",
                f"SELECT CAST({value()} AS INTEGER), CAST({value()} AS REAL), round({value()}, 1)",
                f"SELECT {value()} LIKE 'a%', {value()} GLOB '*o*', {value()} BETWEEN {value()} AND {value()}",
                "SELECT 9223372036854775807 + 1, -9223372036854775808, 1e308 * 10, -1e308 * 10, 0.1 + 0.2, 5 / 0",
                "SELECT date('2024-02-29', '+1 year'), strftime('%Y-%j', '2026-11-21'), unixepoch('2026-11-21')",
                f"SELECT printf('%05d|%.3f|%s|%x', {rng.randint(-99, 99)}, {rng.random():.4f}, {value()}, 255)",
                f"SELECT CASE {value()} WHEN {value()} THEN 1 ELSE coalesce(NULL, {value()}) END, iif({value()}, 1, 2)",
                f"SELECT replace({value()}, 'a', 'b'), trim('  x '), instr({value()}, 'o'), char(233, 128512)",
                ("SELECT ?, ?2, :named, ?1", [1, 2.0, "three"]),
                f"VALUES (1, {value()}), (2, {value()})",
                f"SELECT abs(-9223372036854775807), abs('x'), max(1, 2.5, {value()}), nullif(1, {value()})",
            )
        )

    # What is refused.

    def _mistake(self) -> Statement | str:
        table, rng = self._table(), self._rng
        key = rng.randint(1, 20)
        return rng.choice(
            (
                f"SELEC * FROM {table.name}",
                f"SELECT * FROM {table.name} WHERE",
                f"SELECT nobody FROM {table.name}",
                "SELECT * FROM nowhere",
                f"INSERT INTO {table.name} (id) VALUES ({key}), ({key})",
                f"INSERT INTO {table.name} VALUES (1)",
                f"INSERT INTO {table.name} (id) VALUES ('not a number')",
                f"CREATE TABLE {table.name} (a)",
                "SELECT abs(1, 2)",
                "SELECT nothing_of_the_kind(1)",
                "SELECT abs(-9223372036854775808)",
                "SELECT sum(9223372036854775807) FROM (SELECT 1 UNION ALL SELECT 2)",
                "SELECT json_extract('{', '$')",
                "SELECT json('nope')",
                f"SELECT id FROM {table.name} AS a, {table.name} AS b",
                f"SELECT count(*) FROM {table.name} GROUP BY 9",
                f"SELECT max(id) FROM {table.name} WHERE max(id) > 1",
                "SELECT 'unfinished",
                "SELECT 1 FROM (SELECT 2",
                f"DROP TABLE nowhere{key}",
                f"DELETE FROM sqlite_sequence WHERE name = '{table.name}'",
                "SELECT (SELECT 1, 2)",
                "VALUES (1), (2, 3)",
                "SELECT 1 LIMIT 'x'",
                f"UPDATE {table.name} SET nobody = 1",
                (f"SELECT id FROM {table.name} WHERE id = ? AND id = ?", [key]),
                ("SELECT ?", [1, 2]),
                ("SELECT :a, :b", {"a": 1}),
                f"CREATE INDEX i1 ON {table.name} (nobody)",
                "CREATE TABLE bad (a INTEGER PRIMARY KEY, b PRIMARY KEY)",
                "CREATE TABLE bad (a WRONG) STRICT",
                "SELECT row_number() FROM (SELECT 1)",
                "SELECT zeroblob(-1), 1 COLLATE nobody",
                f"SELECT * FROM {table.name} UNION SELECT 1",
            )
        )

    # Pieces.

    def _table(self) -> Table:
        return self._rng.choice(self._tables)

    def _name(self, letter: str) -> str:
        self._made += 1
        return f"{letter}{self._made}"

    def _some(self, columns: Sequence[str]) -> list[str]:
        return self._rng.sample(list(columns), self._rng.randint(1, len(columns)))

    def _where(self, table: Table, *, always: bool = False) -> str:
        rng = self._rng
        if not always and rng.random() < 0.3:
            return ""
        column, other = rng.choice(table.columns), self._table()
        return " WHERE " + rng.choice(
            (
                f"id {rng.choice(_COMPARISONS)} {rng.randint(1, 60)}",
                f"{column} {rng.choice(_COMPARISONS)} {self._literal()}",
                f"{column} IN ({self._literal()}, {self._literal()})",
                f"{column} LIKE '%a%'",
                f"{column} IS NULL AND id > {rng.randint(1, 30)}",
                f"NOT (id BETWEEN {rng.randint(1, 20)} AND {rng.randint(20, 80)})",
                f"EXISTS (SELECT 1 FROM {other.name} AS o WHERE o.id = {table.name}.id)",
                f"id = (SELECT max(id) FROM {other.name})",
            )
        )

    def _returning(self, table: Table) -> str:
        return f" RETURNING {self._rng.choice(table.columns)}, id" if self._rng.random() < 0.15 else ""

    def _term(self, table: Table) -> str:
        return self._rng.choice((self._rng.choice(table.columns), self._literal(), self._expression(table)))

    def _expression(self, table: Table) -> str:
        rng, column = self._rng, self._rng.choice(table.columns)
        return rng.choice(
            (
                column,
                f"{column} || '-'",
                f"length({column})",
                f"coalesce({column}, {self._literal()})",
                f"typeof({column})",
                f"id * {rng.randint(-3, 3)}",
                f"CASE WHEN {column} IS NULL THEN 0 ELSE 1 END",
                f"quote({column})",
                f"CAST({column} AS TEXT)" if rng.random() < 0.3 else f"id + {rng.randint(0, 9)}",
            )
        )

    def _literal_for(self, table: Table, column: str) -> str:
        return str(self._rng.randint(1, 99)) if column == table.key else self._literal()

    def _literal(self) -> str:
        rng = self._rng
        text = rng.choice(_WORDS).replace("'", "''")
        return rng.choice(
            ("NULL", str(rng.randint(-50, 50)), f"{rng.uniform(-5, 5):.3f}", f"'{text}'", f"'{text}'", "x'007f61'")
        )

    def _value(self) -> Any:
        rng = self._rng
        return rng.choice((None, rng.randint(-50, 50), rng.uniform(-5, 5), rng.choice(_WORDS), b"\x00\x7fa", 2**63 - 1))
