//! What a tenant's statement may not touch. SQLite asks while it prepares.

use std::ffi::{CStr, c_char, c_int, c_void};

use crate::sqlite::{HIDDEN_PREFIX, ffi};

/// What the authorizer is told of, and tells, while a statement is prepared.
#[derive(Default)]
pub struct Verdict {
    pub tenant: bool,
    /// Why the statement was refused: kind and message.
    pub denied: Option<(&'static str, String)>,
    /// A pragma was met: it may have changed the connection, and is not to be kept prepared.
    pub pragma: bool,
    /// Something was met that changes the catalogue.
    pub catalogue: bool,
}

/// Pragmas that only tell, whatever their argument.
const TELLING: &[&str] = &[
    "collation_list",
    "compile_options",
    "foreign_key_check",
    "foreign_key_list",
    "freelist_count",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "module_list",
    "page_count",
    "pragma_list",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
];
/// Pragmas that tell without an argument and change with one.
const TELLING_BARE: &[&str] = &[
    "application_id",
    "auto_vacuum",
    "cache_size",
    "case_sensitive_like",
    "data_version",
    "defer_foreign_keys",
    "encoding",
    "foreign_keys",
    "journal_mode",
    "max_page_count",
    "page_size",
    "recursive_triggers",
    "schema_version",
    "synchronous",
    "user_version",
];
/// Pragmas that change the tenant's own file or transaction and nothing else.
const CHANGING: &[&str] = &["application_id", "defer_foreign_keys", "optimize", "user_version"];
/// Tables that SQLite itself offers and that reach beneath the tenant's own.
const BENEATH: &[&str] = &["dbstat", "sqlite_dbpage", "sqlite_dbptr", "sqlite_stmt", "bytecode", "tables_used"];
const MODULES: &[&str] = &["fts5", "fts5vocab", "rtree", "rtree_i32"];
const FUNCTIONS: &[&str] = &["load_extension", "fts3_tokenizer", "sqlite_log"];

fn one_of(name: &str, names: &[&str]) -> bool {
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// True for our own tables and indexes, and the indexes SQLite makes for them.
fn hidden(name: &str) -> bool {
    const AUTOMATIC: &str = "sqlite_autoindex_";
    let begins = |name: &str, begin: &str| name.get(..begin.len()).is_some_and(|found| found.eq_ignore_ascii_case(begin));
    begins(name, HIDDEN_PREFIX) || (begins(name, AUTOMATIC) && begins(&name[AUTOMATIC.len()..], HIDDEN_PREFIX))
}

/// None: allowed.
fn refusal(action: c_int, first: &str, second: &str) -> Option<(&'static str, String)> {
    let absent = match action {
        ffi::SQLITE_READ | ffi::SQLITE_UPDATE | ffi::SQLITE_INSERT | ffi::SQLITE_DELETE => (hidden(first) || one_of(first, BENEATH)).then_some(first),
        ffi::SQLITE_FUNCTION | ffi::SQLITE_SELECT | ffi::SQLITE_RECURSIVE => None,
        _ => [first, second].into_iter().find(|name| hidden(name)),
    };
    // What is hidden looks absent.
    absent.map(|name| ("syntax", format!("no such table: {name}"))).or_else(|| forbidden(action, first, second).map(|why| ("denied", why)))
}

fn forbidden(action: c_int, first: &str, second: &str) -> Option<String> {
    match action {
        ffi::SQLITE_ATTACH | ffi::SQLITE_DETACH => {
            Some("ATTACH, DETACH and VACUUM are not allowed: a statement reaches its own database only".to_owned())
        }
        ffi::SQLITE_TRANSACTION | ffi::SQLITE_SAVEPOINT => {
            Some("transactions and savepoints are not opened by statements: the statements of one request are one transaction".to_owned())
        }
        ffi::SQLITE_PRAGMA => pragma_refusal(first, second),
        ffi::SQLITE_FUNCTION => one_of(second, FUNCTIONS).then(|| format!("function {second} is not allowed")),
        ffi::SQLITE_CREATE_TEMP_INDEX
        | ffi::SQLITE_CREATE_TEMP_TABLE
        | ffi::SQLITE_CREATE_TEMP_TRIGGER
        | ffi::SQLITE_CREATE_TEMP_VIEW
        | ffi::SQLITE_DROP_TEMP_INDEX
        | ffi::SQLITE_DROP_TEMP_TABLE
        | ffi::SQLITE_DROP_TEMP_TRIGGER
        | ffi::SQLITE_DROP_TEMP_VIEW => Some("temporary objects are not allowed: nothing outlives a request but the database".to_owned()),
        ffi::SQLITE_CREATE_VTABLE if !one_of(second, MODULES) => Some(format!("virtual tables of module {second} are not allowed")),
        _ => None,
    }
}

fn pragma_refusal(name: &str, argument: &str) -> Option<String> {
    let allowed = one_of(name, TELLING) || (argument.is_empty() && one_of(name, TELLING_BARE)) || one_of(name, CHANGING);
    (!allowed).then(|| format!("PRAGMA {name} is not allowed{}", if argument.is_empty() { "" } else { " with a value" }))
}

pub unsafe extern "C" fn authorize(
    context: *mut c_void,
    action: c_int,
    first: *const c_char,
    second: *const c_char,
    _database: *const c_char,
    _trigger: *const c_char,
) -> c_int {
    let verdict = unsafe { &mut *context.cast::<Verdict>() };
    if action == ffi::SQLITE_PRAGMA {
        verdict.pragma = true;
    }
    if matches!(action, ffi::SQLITE_CREATE_INDEX..=ffi::SQLITE_CREATE_VIEW | ffi::SQLITE_DROP_INDEX..=ffi::SQLITE_DROP_VIEW | ffi::SQLITE_ALTER_TABLE)
    {
        verdict.catalogue = true;
    }
    if !verdict.tenant {
        return ffi::SQLITE_OK;
    }
    let name = |pointer: *const c_char| if pointer.is_null() { "" } else { unsafe { CStr::from_ptr(pointer) }.to_str().unwrap_or("") };
    let (first, second) = (name(first), name(second));
    // ANALYZE and REINDEX of everything pass over what is hidden.
    if matches!(action, ffi::SQLITE_ANALYZE | ffi::SQLITE_REINDEX) && hidden(first) {
        return ffi::SQLITE_IGNORE;
    }
    match refusal(action, first, second) {
        None => ffi::SQLITE_OK,
        Some(why) => {
            verdict.denied.get_or_insert(why);
            ffi::SQLITE_DENY
        }
    }
}
