//! What can go wrong, as the exception Python sees.

use std::ffi::c_int;

use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

use crate::sqlite::{Handle, ffi, text};

create_exception!(tovuk_sqlite_native, SqliteError, PyException, "A statement failed; the whole run is rolled back.");

/// A failed statement. `offset` counts bytes in its text.
#[derive(Debug)]
pub struct Failure {
    pub kind: &'static str,
    pub message: String,
    pub extended_code: c_int,
    pub offset: Option<usize>,
    pub statement: usize,
    pub rows_read: u64,
    pub transaction_lost: bool,
    /// What a Python callback raised goes on in the place of ours.
    pub raised: Option<PyErr>,
}

impl Failure {
    /// A refusal of our own, which SQLite was not asked about.
    pub fn plain(kind: &'static str, message: impl Into<String>) -> Failure {
        let message = message.into();
        Failure { kind, message, extended_code: 0, offset: None, statement: 0, rows_read: 0, transaction_lost: false, raised: None }
    }

    pub fn running(handle: &Handle, code: c_int) -> Failure {
        let extended_code = unsafe { ffi::sqlite3_extended_errcode(handle.raw) };
        // The connection's code may be another call's; then the step's own is the truth.
        let extended_code = if extended_code & 0xff == code & 0xff { extended_code } else { code };
        let message = unsafe { text(ffi::sqlite3_errmsg(handle.raw)) };
        Failure { extended_code, ..Failure::plain(kind_of(extended_code), message) }
    }

    pub fn preparing(handle: &Handle, code: c_int) -> Failure {
        let mut failure = Failure::running(handle, code);
        if failure.kind == "runtime" {
            failure.kind = "syntax";
        }
        failure.offset = usize::try_from(unsafe { ffi::sqlite3_error_offset(handle.raw) }).ok();
        failure
    }

    /// The constraint that failed, as SQLite names it after the colon.
    fn constraint(&self) -> Option<&str> {
        let (_, name) = self.message.split_once("constraint failed: ")?;
        (self.kind == "constraint").then_some(name)
    }

    pub fn into_py(self, py: Python<'_>) -> PyErr {
        if let Some(raised) = self.raised {
            return raised;
        }
        let error = SqliteError::new_err(self.message.clone());
        let value = error.value(py);
        let set = || -> PyResult<()> {
            value.setattr("kind", self.kind)?;
            value.setattr("message", &self.message)?;
            value.setattr("code", self.extended_code & 0xff)?;
            value.setattr("extended_code", self.extended_code)?;
            value.setattr("name", name_of(self.extended_code))?;
            value.setattr("offset", self.offset)?;
            value.setattr("constraint", self.constraint())?;
            value.setattr("statement", self.statement)?;
            value.setattr("rows_read", self.rows_read)?;
            value.setattr("transaction_lost", self.transaction_lost)
        };
        match set() {
            Ok(()) => error,
            Err(other) => other,
        }
    }
}

fn kind_of(extended_code: c_int) -> &'static str {
    match extended_code & 0xff {
        ffi::SQLITE_CONSTRAINT => "constraint",
        ffi::SQLITE_MISMATCH => "mismatch",
        ffi::SQLITE_INTERRUPT => "interrupted",
        ffi::SQLITE_TOOBIG => "too_big",
        ffi::SQLITE_NOMEM => "memory",
        ffi::SQLITE_FULL => "full",
        ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED | ffi::SQLITE_PROTOCOL => "busy",
        ffi::SQLITE_READONLY => "readonly",
        ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB => "corrupt",
        ffi::SQLITE_IOERR | ffi::SQLITE_CANTOPEN | ffi::SQLITE_PERM => "io",
        ffi::SQLITE_AUTH => "denied",
        ffi::SQLITE_RANGE => "parameters",
        _ => "runtime",
    }
}

fn name_of(extended_code: c_int) -> String {
    let known = match extended_code {
        ffi::SQLITE_CONSTRAINT_CHECK => "SQLITE_CONSTRAINT_CHECK",
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => "SQLITE_CONSTRAINT_FOREIGNKEY",
        ffi::SQLITE_CONSTRAINT_NOTNULL => "SQLITE_CONSTRAINT_NOTNULL",
        ffi::SQLITE_CONSTRAINT_PRIMARYKEY => "SQLITE_CONSTRAINT_PRIMARYKEY",
        ffi::SQLITE_CONSTRAINT_TRIGGER => "SQLITE_CONSTRAINT_TRIGGER",
        ffi::SQLITE_CONSTRAINT_UNIQUE => "SQLITE_CONSTRAINT_UNIQUE",
        ffi::SQLITE_CONSTRAINT_VTAB => "SQLITE_CONSTRAINT_VTAB",
        ffi::SQLITE_CONSTRAINT_ROWID => "SQLITE_CONSTRAINT_ROWID",
        ffi::SQLITE_CONSTRAINT_DATATYPE => "SQLITE_CONSTRAINT_DATATYPE",
        ffi::SQLITE_BUSY_SNAPSHOT => "SQLITE_BUSY_SNAPSHOT",
        _ => "",
    };
    if !known.is_empty() {
        return known.to_owned();
    }
    let primary = match extended_code & 0xff {
        ffi::SQLITE_OK => "SQLITE_OK",
        ffi::SQLITE_ERROR => "SQLITE_ERROR",
        ffi::SQLITE_INTERNAL => "SQLITE_INTERNAL",
        ffi::SQLITE_ABORT => "SQLITE_ABORT",
        ffi::SQLITE_BUSY => "SQLITE_BUSY",
        ffi::SQLITE_LOCKED => "SQLITE_LOCKED",
        ffi::SQLITE_NOMEM => "SQLITE_NOMEM",
        ffi::SQLITE_READONLY => "SQLITE_READONLY",
        ffi::SQLITE_INTERRUPT => "SQLITE_INTERRUPT",
        ffi::SQLITE_IOERR => "SQLITE_IOERR",
        ffi::SQLITE_CORRUPT => "SQLITE_CORRUPT",
        ffi::SQLITE_FULL => "SQLITE_FULL",
        ffi::SQLITE_CANTOPEN => "SQLITE_CANTOPEN",
        ffi::SQLITE_SCHEMA => "SQLITE_SCHEMA",
        ffi::SQLITE_TOOBIG => "SQLITE_TOOBIG",
        ffi::SQLITE_CONSTRAINT => "SQLITE_CONSTRAINT",
        ffi::SQLITE_MISMATCH => "SQLITE_MISMATCH",
        ffi::SQLITE_MISUSE => "SQLITE_MISUSE",
        ffi::SQLITE_AUTH => "SQLITE_AUTH",
        ffi::SQLITE_RANGE => "SQLITE_RANGE",
        ffi::SQLITE_NOTADB => "SQLITE_NOTADB",
        _ => "SQLITE_ERROR",
    };
    primary.to_owned()
}
