//! A connection to a file of ours: no tenant, no meters, any statement, rows as Python's objects.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::slice;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use crate::connection::resolved;
use crate::error::Failure;
use crate::guard;
use crate::params::{Parameters, Value};
use crate::run::{PREPARED_SQL_BYTES_MAX, Prepared};
use crate::sqlite::{Handle, Statement, ffi};

#[pyclass(frozen, subclass, module = "tovuk_sqlite_native")]
pub struct OwnConnection {
    session: Mutex<Option<Session>>,
    wal_hook: Mutex<Option<Py<PyAny>>>,
}

/// Statements stand before the handle: they are dropped first.
struct Session {
    prepared: Prepared,
    /// Frames in the WAL after a commit that nobody was told of. Boxed: its address is registered with the connection.
    committed: Box<Cell<Option<c_int>>>,
    handle: Handle,
}

// One thread at a time: the connection's lock holds it.
unsafe impl Send for Session {}

unsafe extern "C" fn committed(context: *mut c_void, _: *mut ffi::sqlite3, _: *const c_char, frames: c_int) -> c_int {
    unsafe { &*context.cast::<Cell<Option<c_int>>>() }.set(Some(frames));
    ffi::SQLITE_OK
}

type Rows = Vec<Vec<Value>>;

impl Session {
    fn open(path: &str, busy_timeout_ms: u32) -> Result<Session, Failure> {
        let path = resolved(path)?;
        let flags = ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_CREATE | ffi::SQLITE_OPEN_NOMUTEX;
        let handle = guard::opening(&path, || Handle::open(&path, flags))?;
        unsafe { ffi::sqlite3_busy_timeout(handle.raw, busy_timeout_ms as c_int) };
        Ok(Session { prepared: Prepared::default(), committed: Box::default(), handle })
    }

    /// Every statement of the text, each with all of the parameters; the rows of all.
    fn rows(&mut self, sql: String, parameters: &Parameters) -> Result<Rows, Failure> {
        if let Some(statement) = self.prepared.take(&sql) {
            let rows = self.step(&statement, parameters);
            self.prepared.put(sql, statement);
            return rows;
        }
        let (mut rows, mut begin) = (Vec::new(), 0);
        while begin < sql.len() {
            let (statement, taken) = self.handle.prepare(&sql[begin..], 0)?;
            let Some(statement) = statement else { break };
            rows.append(&mut self.step(&statement, parameters)?);
            // What a pragma does it does in part while it is prepared.
            let pragma = sql.trim_start().get(..6).is_some_and(|word| word.eq_ignore_ascii_case("pragma"));
            if taken == sql.len() && taken <= PREPARED_SQL_BYTES_MAX && !pragma {
                self.prepared.put(sql, statement);
                break;
            }
            begin += taken;
        }
        Ok(rows)
    }

    fn step(&self, statement: &Statement, parameters: &Parameters) -> Result<Rows, Failure> {
        let rows = parameters.bind(&self.handle, statement).and_then(|()| self.step_bound(statement));
        statement.reset();
        rows
    }

    fn step_bound(&self, statement: &Statement) -> Result<Rows, Failure> {
        let mut rows = Vec::new();
        loop {
            match unsafe { ffi::sqlite3_step(statement.raw) } {
                ffi::SQLITE_ROW => {
                    let columns = unsafe { ffi::sqlite3_data_count(statement.raw) };
                    rows.push((0..columns).map(|column| unsafe { value(statement, column) }).collect());
                }
                ffi::SQLITE_DONE => return Ok(rows),
                code => return Err(Failure::running(&self.handle, code)),
            }
        }
    }
}

unsafe fn value(statement: &Statement, column: c_int) -> Value {
    let raw = statement.raw;
    unsafe {
        let bytes = |begin: *const u8| {
            let length = ffi::sqlite3_column_bytes(raw, column);
            // SQLite answers null for the empty value.
            if begin.is_null() { Vec::new() } else { slice::from_raw_parts(begin, length as usize).to_vec() }
        };
        match ffi::sqlite3_column_type(raw, column) {
            ffi::SQLITE_INTEGER => Value::Integer(ffi::sqlite3_column_int64(raw, column)),
            ffi::SQLITE_FLOAT => Value::Real(ffi::sqlite3_column_double(raw, column)),
            ffi::SQLITE_TEXT => Value::Text(bytes(ffi::sqlite3_column_text(raw, column))),
            ffi::SQLITE_BLOB => Value::Blob(bytes(ffi::sqlite3_column_blob(raw, column).cast())),
            _ => Value::Null,
        }
    }
}

fn object(py: Python<'_>, value: Value) -> PyResult<Bound<'_, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Integer(integer) => integer.into_pyobject(py)?.into_any(),
        Value::Real(real) => real.into_pyobject(py)?.into_any(),
        Value::Text(text) => {
            let text = String::from_utf8(text).map_err(|_| Failure::plain("text", "a text is not UTF-8").into_py(py))?;
            PyString::new(py, &text).into_any()
        }
        Value::Blob(blob) => PyBytes::new(py, &blob).into_any(),
    })
}

impl OwnConnection {
    /// Does the work with the session locked and the GIL let go.
    fn with<T: Send>(&self, py: Python<'_>, work: impl FnOnce(&mut Session) -> Result<T, Failure> + Send) -> PyResult<T> {
        let outcome = py.detach(|| self.session.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(work));
        let outcome = outcome.unwrap_or_else(|| Err(Failure::plain("io", "the connection is closed")));
        outcome.map_err(|failure| failure.into_py(py))
    }
}

#[pymethods]
impl OwnConnection {
    #[new]
    #[pyo3(signature = (path, *, busy_timeout_ms=5_000))]
    fn new(py: Python<'_>, path: &str, busy_timeout_ms: u32) -> PyResult<OwnConnection> {
        let session = py.detach(|| Session::open(path, busy_timeout_ms)).map_err(|failure| failure.into_py(py))?;
        Ok(OwnConnection { session: Mutex::new(Some(session)), wal_hook: Mutex::new(None) })
    }

    fn rows<'py>(slf: &Bound<'py, Self>, sql: String, parameters: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        let py = slf.py();
        let parameters = Parameters::take(parameters).map_err(|failure| failure.into_py(py))?;
        let (rows, frames) = slf.get().with(py, |session| {
            let rows = session.rows(sql, &parameters);
            Ok((rows, session.committed.take()))
        })?;
        if let Some(frames) = frames {
            let hook = slf.get().wal_hook.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|hook| hook.clone_ref(py));
            if let Some(hook) = hook {
                hook.call1(py, (slf, "main", frames))?;
            }
        }
        let told = PyList::empty(py);
        for row in rows.map_err(|failure| failure.into_py(py))? {
            let row: Vec<_> = row.into_iter().map(|value| object(py, value)).collect::<PyResult<_>>()?;
            told.append(PyTuple::new(py, row)?)?;
        }
        Ok(told)
    }

    #[pyo3(signature = (hook, /))]
    fn set_wal_hook(&self, py: Python<'_>, hook: Option<Py<PyAny>>) -> PyResult<()> {
        *self.wal_hook.lock().unwrap_or_else(PoisonError::into_inner) = hook;
        self.with(py, |session| {
            unsafe { ffi::sqlite3_wal_hook(session.handle.raw, Some(committed), (&raw mut *session.committed).cast()) };
            Ok(())
        })
    }

    #[getter]
    fn in_transaction(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, |session| Ok(!session.handle.autocommit()))
    }

    fn changes(&self, py: Python<'_>) -> PyResult<i64> {
        self.with(py, |session| Ok(unsafe { ffi::sqlite3_changes64(session.handle.raw) }))
    }

    fn total_changes(&self, py: Python<'_>) -> PyResult<i64> {
        self.with(py, |session| Ok(unsafe { ffi::sqlite3_total_changes64(session.handle.raw) }))
    }

    fn last_insert_rowid(&self, py: Python<'_>) -> PyResult<i64> {
        self.with(py, |session| Ok(unsafe { ffi::sqlite3_last_insert_rowid(session.handle.raw) }))
    }

    #[pyo3(signature = (_force=false, /))]
    fn close(&self, py: Python<'_>, _force: bool) {
        py.detach(|| drop(self.session.lock().unwrap_or_else(PoisonError::into_inner).take()));
    }
}
