//! SQLite's C interface as the rest of the crate uses it: the counters, prepared statements, and the connection's handle.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

pub use libsqlite3_sys as ffi;

use crate::error::Failure;

pub const HIDDEN_PREFIX: &str = env!("TOVUK_HIDDEN_PREFIX");

pub const READ: usize = 0;
pub const WRITTEN: usize = 1;
pub const HIDDEN_ROWS: usize = 16;

/// `TovukCounters` of sqlite/counters.h, field by field.
#[repr(C)]
pub struct Counters {
    pub used: [u64; 2],
    pub limit: [u64; 2],
    pub over: Option<unsafe extern "C" fn(*mut c_void, c_int, u64) -> c_int>,
    pub argument: *mut c_void,
    pub statement: *mut c_void,
    pub enforced: c_int,
    pub tenant: c_int,
    pub hidden_count: c_int,
    pub hidden: [i64; HIDDEN_ROWS],
}

unsafe extern "C" {
    pub fn tovuk_counters(db: *mut ffi::sqlite3) -> *mut Counters;
    fn sqlite3_close_v2(db: *mut ffi::sqlite3) -> c_int;
}

pub fn version() -> &'static str {
    unsafe { CStr::from_ptr(ffi::sqlite3_libversion()) }.to_str().unwrap_or("")
}

/// The text of a C string, replaced where it is not UTF-8; empty for null.
pub unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

/// A prepared statement, finalized when dropped.
pub struct Statement {
    pub raw: *mut ffi::sqlite3_stmt,
}

impl Statement {
    pub fn parameter_count(&self) -> usize {
        unsafe { ffi::sqlite3_bind_parameter_count(self.raw) as usize }
    }

    pub fn readonly(&self) -> bool {
        unsafe { ffi::sqlite3_stmt_readonly(self.raw) != 0 }
    }

    pub fn column_names(&self) -> Vec<String> {
        unsafe {
            let count = ffi::sqlite3_column_count(self.raw);
            (0..count).map(|index| text(ffi::sqlite3_column_name(self.raw, index))).collect()
        }
    }

    /// Steps, vm steps and so on since they were last asked for.
    pub fn take_status(&self, counter: c_int) -> u64 {
        u64::from(unsafe { ffi::sqlite3_stmt_status(self.raw, counter, 1) } as u32)
    }

    /// Ends a run and forgets the parameters; the run's error was told by the step.
    pub fn reset(&self) {
        unsafe {
            ffi::sqlite3_reset(self.raw);
            ffi::sqlite3_clear_bindings(self.raw);
        }
    }

    pub fn integer(&self, column: c_int) -> i64 {
        unsafe { ffi::sqlite3_column_int64(self.raw, column) }
    }

    pub fn string(&self, column: c_int) -> String {
        unsafe {
            let bytes = ffi::sqlite3_column_text(self.raw, column);
            text(bytes.cast())
        }
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        unsafe { ffi::sqlite3_finalize(self.raw) };
    }
}

/// An open connection, closed when dropped; its statements go before it.
pub struct Handle {
    pub raw: *mut ffi::sqlite3,
}

impl Handle {
    pub fn open(path: &str, flags: c_int) -> Result<Handle, Failure> {
        let path = CString::new(path).map_err(|_| Failure::plain("io", "the path contains a NUL"))?;
        let mut raw = ptr::null_mut();
        let code = unsafe { ffi::sqlite3_open_v2(path.as_ptr(), &mut raw, flags, crate::guard::VFS_NAME.as_ptr()) };
        let handle = Handle { raw };
        if code == ffi::SQLITE_OK {
            return Ok(handle);
        }
        if raw.is_null() {
            return Err(Failure::plain("memory", "no memory for a connection"));
        }
        Err(Failure::running(&handle, code))
    }

    /// The first statement of `sql` and how many bytes of the text it takes. None: there is no statement.
    pub fn prepare(&self, sql: &str, flags: u32) -> Result<(Option<Statement>, usize), Failure> {
        let mut raw = ptr::null_mut();
        let mut tail = ptr::null();
        let length = c_int::try_from(sql.len()).map_err(|_| Failure::plain("too_big", "statement too long"))?;
        let begin: *const c_char = sql.as_ptr().cast();
        let mut code = unsafe { ffi::sqlite3_prepare_v3(self.raw, begin, length, flags, &mut raw, &mut tail) };
        if code == ffi::SQLITE_ERROR {
            // Another connection may have changed the schema since this one read it: SQLite asks after some errors only.
            self.check_schema();
            code = unsafe { ffi::sqlite3_prepare_v3(self.raw, begin, length, flags, &mut raw, &mut tail) };
        }
        if code != ffi::SQLITE_OK {
            return Err(Failure::preparing(self, code));
        }
        let taken = if tail.is_null() { sql.len() } else { unsafe { tail.offset_from(begin) as usize } };
        Ok(((!raw.is_null()).then_some(Statement { raw }), taken))
    }

    /// Has SQLite compare the schema it knows with the file's; reads no row.
    fn check_schema(&self) {
        let mut raw = ptr::null_mut();
        let sql = c"SELECT 1 FROM sqlite_schema LIMIT 0";
        if unsafe { ffi::sqlite3_prepare_v2(self.raw, sql.as_ptr(), -1, &mut raw, ptr::null_mut()) } == ffi::SQLITE_OK {
            unsafe {
                ffi::sqlite3_step(raw);
                ffi::sqlite3_finalize(raw);
            }
        }
    }

    /// Runs our own statements, of which only the last may answer rows; answers its first row's integers.
    pub fn execute(&self, sql: &str) -> Result<Vec<i64>, Failure> {
        let (statement, _) = self.prepare(sql, 0)?;
        let statement = statement.expect("our own text holds a statement");
        self.step_all(&statement)
    }

    /// Runs a statement of ours to its end; answers its first row's integers.
    pub fn step_all(&self, statement: &Statement) -> Result<Vec<i64>, Failure> {
        let mut first = Vec::new();
        loop {
            match unsafe { ffi::sqlite3_step(statement.raw) } {
                ffi::SQLITE_ROW => {
                    if first.is_empty() {
                        let count = unsafe { ffi::sqlite3_column_count(statement.raw) };
                        first = (0..count).map(|column| statement.integer(column)).collect();
                    }
                }
                ffi::SQLITE_DONE => {
                    statement.reset();
                    return Ok(first);
                }
                code => {
                    let failure = Failure::running(self, code);
                    statement.reset();
                    return Err(failure);
                }
            }
        }
    }

    pub fn counters(&self) -> &mut Counters {
        unsafe { &mut *tovuk_counters(self.raw) }
    }

    pub fn autocommit(&self) -> bool {
        unsafe { ffi::sqlite3_get_autocommit(self.raw) != 0 }
    }

    pub fn configure(&self, option: c_int, value: c_int) {
        unsafe { ffi::sqlite3_db_config(self.raw, option, value, ptr::null_mut::<c_int>()) };
    }

    pub fn limit(&self, option: c_int, value: u64) {
        let value = c_int::try_from(value).unwrap_or(c_int::MAX);
        unsafe { ffi::sqlite3_limit(self.raw, option, value) };
    }

    /// True while a foreign key is broken that a later statement may still mend.
    pub fn foreign_keys_open(&self) -> bool {
        let (mut now, mut high) = (0, 0);
        unsafe { ffi::sqlite3_db_status(self.raw, ffi::SQLITE_DBSTATUS_DEFERRED_FKS, &mut now, &mut high, 0) };
        now != 0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        unsafe { sqlite3_close_v2(self.raw) };
    }
}
