"""What tenant SQL may do, as an authorizer of stock SQLite, and how our own tables stay out of its sight.

Allowed is what reaches nothing but the tenant's tables in its own file; everything else is denied, new actions of later
SQLite versions included. Source: design.md 8; peers.md, SQLite as attack surface.
"""

import re
from typing import Final

import apsw

from tovuk_sqlite.store.own import OWN_PREFIX

#: The tenant's view of the schema, without our tables.
VISIBLE_SCHEMA: Final = "_tovuk_visible_schema"
#: Made in each connection, in its own temporary schema.
CREATE_VISIBLE_SCHEMA: Final = (
    f"CREATE TEMP VIEW {VISIBLE_SCHEMA} AS SELECT type, name, tbl_name, rootpage, sql FROM main.sqlite_schema"
    f" WHERE substr(lower(tbl_name), 1, {len(OWN_PREFIX)}) <> '{OWN_PREFIX}'"
)

#: Pragmas that only tell about the tenant's own file.
_PRAGMAS_TOLD: Final = frozenset(
    {
        "application_id",
        "collation_list",
        "compile_options",
        "data_version",
        "encoding",
        "foreign_key_check",
        "foreign_key_list",
        "foreign_keys",
        "freelist_count",
        "function_list",
        "index_info",
        "index_list",
        "index_xinfo",
        "integrity_check",
        "page_count",
        "page_size",
        "quick_check",
        "table_info",
        "table_list",
        "table_xinfo",
        "user_version",
    }
)
#: Pragmas that may also be set: they last no longer than the transaction, or are the file's.
_PRAGMAS_SET: Final = frozenset({"application_id", "defer_foreign_keys", "user_version"})
#: Pragmas whose argument says what to tell about.
_PRAGMAS_ASKED: Final = frozenset(
    name for name in _PRAGMAS_TOLD if name.endswith(("_info", "_xinfo", "_list", "_check"))
)
_MODULES: Final = frozenset({"fts3", "fts4", "fts5", "geopoly", "rtree", "rtree_i32"})
_FUNCTIONS_DENIED: Final = frozenset({"fts3_tokenizer", "load_extension"})
#: Tables that SQLite itself offers about its files and statements.
_TABLES_DENIED: Final = frozenset(
    {
        "bytecode",
        "dbstat",
        "pragma_module_list",
        "pragma_table_list",
        "sqlite_dbpage",
        "sqlite_stmt",
        "sqlite_temp_master",
        "tables_used",
    }
)
_SCHEMA_TABLES: Final = frozenset({"sqlite_master", "sqlite_schema"})

_ACTIONS: Final = frozenset(
    {
        apsw.SQLITE_ALTER_TABLE,
        apsw.SQLITE_ANALYZE,
        apsw.SQLITE_CREATE_INDEX,
        apsw.SQLITE_CREATE_TABLE,
        apsw.SQLITE_CREATE_TRIGGER,
        apsw.SQLITE_CREATE_VIEW,
        apsw.SQLITE_DELETE,
        apsw.SQLITE_DROP_INDEX,
        apsw.SQLITE_DROP_TABLE,
        apsw.SQLITE_DROP_TRIGGER,
        apsw.SQLITE_DROP_VIEW,
        apsw.SQLITE_DROP_VTABLE,
        apsw.SQLITE_INSERT,
        apsw.SQLITE_READ,
        apsw.SQLITE_RECURSIVE,
        apsw.SQLITE_REINDEX,
        apsw.SQLITE_SELECT,
        apsw.SQLITE_UPDATE,
    }
)
_CHANGE_SCHEMA: Final = frozenset(
    {
        apsw.SQLITE_ALTER_TABLE,
        apsw.SQLITE_CREATE_INDEX,
        apsw.SQLITE_CREATE_TABLE,
        apsw.SQLITE_CREATE_TRIGGER,
        apsw.SQLITE_CREATE_VIEW,
        apsw.SQLITE_CREATE_VTABLE,
        apsw.SQLITE_DROP_INDEX,
        apsw.SQLITE_DROP_TABLE,
        apsw.SQLITE_DROP_TRIGGER,
        apsw.SQLITE_DROP_VIEW,
        apsw.SQLITE_DROP_VTABLE,
    }
)
_WHAT: Final = {
    apsw.SQLITE_ATTACH: "other files are out of reach",
    apsw.SQLITE_DETACH: "other files are out of reach",
    apsw.SQLITE_TRANSACTION: "a request is a transaction of its own",
    apsw.SQLITE_SAVEPOINT: "a request is a transaction of its own",
}

_SCHEMA_NAME: Final = re.compile(
    r"""(?P<skip>'(?:[^']|'')*'|--[^\n]*|(?>/\*.*?(?:\*/|\Z)))"""
    r"""|(?<![\w$.])(?:main\s*\.\s*)?(?:"(?:sqlite_master|sqlite_schema)"|\[(?:sqlite_master|sqlite_schema)\]"""
    r"""|`(?:sqlite_master|sqlite_schema)`|(?:sqlite_master|sqlite_schema)(?![\w$]))"""
    r"""|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]""",
    re.DOTALL | re.IGNORECASE,
)


def visible(sql: str) -> str:
    """The statement with the schema table's name replaced by that of the view without our tables."""
    if "sqlite_" not in sql.lower():
        return sql
    return _SCHEMA_NAME.sub(_replaced, sql)


def _replaced(match: re.Match[str]) -> str:
    text = match[0]
    bare = re.sub(r"^main\s*\.\s*", "", text, flags=re.IGNORECASE).strip('"`[]').lower()
    return VISIBLE_SCHEMA if match["skip"] is None and bare in _SCHEMA_TABLES else text


class Guard:
    """The authorizer of one connection. `detail` says what was denied last."""

    def __init__(self) -> None:
        #: Whether the tenant speaks; our own statements may do anything.
        self.on = False
        self.detail = ""
        #: The statement alters the schema.
        self.changes_schema = False
        #: The statement's rows name tables, ours too.
        self.lists_tables = False

    def begin(self) -> None:
        """A statement of the tenant comes next."""
        self.on = True
        self.detail = ""
        self.changes_schema = self.lists_tables = False

    def __call__(self, action: int, first: str | None, second: str | None, schema: str | None, via: str | None) -> int:
        """SQLITE_OK or SQLITE_DENY."""
        if not self.on:
            return apsw.SQLITE_OK
        denied = self._denied(action, first or "", second, schema, via)
        if denied:
            self.detail = denied
            return apsw.SQLITE_DENY
        return apsw.SQLITE_OK

    def _denied(self, action: int, first: str, second: str | None, schema: str | None, via: str | None) -> str:
        if action in _CHANGE_SCHEMA:
            self.changes_schema = True
        name = first.lower()
        if action == apsw.SQLITE_PRAGMA:
            self.lists_tables = name == "table_list"
            allowed = name in _PRAGMAS_SET or (name in _PRAGMAS_TOLD and (second is None or name in _PRAGMAS_ASKED))
            if not allowed:
                return f"PRAGMA {first}"
            return "that table is the platform's" if (second or "").lower().startswith(OWN_PREFIX) else ""
        if action == apsw.SQLITE_FUNCTION:
            return f"the function {second}" if (second or "").lower() in _FUNCTIONS_DENIED else ""
        if action == apsw.SQLITE_CREATE_VTABLE:
            module = (second or "").lower()
            return "" if module in _MODULES and not name.startswith(OWN_PREFIX) else f"the module {second}"
        if action not in _ACTIONS:
            return _WHAT.get(action, "it reaches beyond the database's own tables")
        if name == "sqlite_temp_master" and self.changes_schema and action in (apsw.SQLITE_READ, apsw.SQLITE_UPDATE):
            # To alter a table is to look at views of every schema.
            return ""
        if name in _TABLES_DENIED:
            return f"the table {first}"
        if action == apsw.SQLITE_READ and name in _SCHEMA_TABLES and (via or "") != VISIBLE_SCHEMA:
            # SQLite itself reads it to alter and drop.
            return "" if self.changes_schema else f"the table {schema}.{first}"
        second_name = (second or "").lower() if action != apsw.SQLITE_READ else ""
        if schema == "temp" and name != VISIBLE_SCHEMA and (action in _CHANGE_SCHEMA or name not in _SCHEMA_TABLES):
            return "" if action == apsw.SQLITE_READ else "temporary objects"
        if action in (apsw.SQLITE_ANALYZE, apsw.SQLITE_REINDEX):
            return ""
        if (name.startswith(OWN_PREFIX) and not (name == VISIBLE_SCHEMA and action == apsw.SQLITE_READ)) or (
            second_name.startswith(OWN_PREFIX)
        ):
            return f"names that begin with {OWN_PREFIX} are the platform's"
        return ""
