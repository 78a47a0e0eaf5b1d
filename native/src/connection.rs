//! The connection as Python sees it: takes arguments, lets the GIL go, holds the lock while SQLite runs.

use std::ffi::c_int;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::backup;
use crate::error::Failure;
use crate::estimate::{self, Estimate};
use crate::guard;
use crate::params::Parameters;
use crate::run::{Interrupt, Options, Outcome, Ran, Result as StatementResult, Session, Short};
use crate::sqlite::{Handle, ffi};

#[pyclass(frozen, module = "tovuk_sqlite_native")]
pub struct Connection {
    session: Mutex<Option<Session>>,
}

/// The path as SQLite itself will name it: absolute, links resolved.
pub fn resolved(path: &str) -> Result<String, Failure> {
    let given = Path::new(path);
    let whole = fs::canonicalize(given).or_else(|_| {
        let folder = given.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::canonicalize(folder).map(|folder| folder.join(given.file_name().unwrap_or_default()))
    });
    let whole = whole.map_err(|error| Failure::plain("io", error.to_string()))?;
    whole.into_os_string().into_string().map_err(|_| Failure::plain("io", "the path is not UTF-8"))
}

struct Opening<'a> {
    path: &'a str,
    create: bool,
    readonly: bool,
    cache_bytes: u64,
    variables_max: u64,
    sql_bytes_max: u64,
    value_bytes_max: u64,
    memory_bytes_max: u64,
    temp_bytes_max: u64,
    busy_timeout_ms: u32,
}

impl Opening<'_> {
    fn open(&self) -> Result<Session, Failure> {
        let path = resolved(self.path)?;
        let flags = ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_NOMUTEX | if self.create { ffi::SQLITE_OPEN_CREATE } else { 0 };
        let handle = guard::opening(&path, || Handle::open(&path, flags))?;
        for (option, value) in [
            (ffi::SQLITE_DBCONFIG_DEFENSIVE, 1),
            (ffi::SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0),
            (ffi::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1),
            (ffi::SQLITE_DBCONFIG_ENABLE_FKEY, 1),
        ] {
            handle.configure(option, value);
        }
        for (option, value) in [
            (ffi::SQLITE_LIMIT_LENGTH, self.value_bytes_max),
            (ffi::SQLITE_LIMIT_SQL_LENGTH, self.sql_bytes_max),
            (ffi::SQLITE_LIMIT_VARIABLE_NUMBER, self.variables_max),
            (ffi::SQLITE_LIMIT_ATTACHED, 0),
            (ffi::SQLITE_LIMIT_WORKER_THREADS, 0),
            (ffi::SQLITE_LIMIT_TRIGGER_DEPTH, 100),
        ] {
            handle.limit(option, value);
        }
        unsafe { ffi::sqlite3_busy_timeout(handle.raw, self.busy_timeout_ms as c_int) };
        handle.execute(&format!("PRAGMA cache_size={}", -((self.cache_bytes / 1024) as i64)))?;
        handle.execute("PRAGMA cell_size_check=ON")?;
        // Where the system's sync does not reach the disk itself.
        handle.execute("PRAGMA fullfsync=ON")?;
        handle.execute("PRAGMA checkpoint_fullfsync=ON")?;
        if self.create {
            // Of a new file only: free pages can be given back later, a few at a time.
            handle.execute("PRAGMA auto_vacuum=INCREMENTAL")?;
        }
        if self.readonly {
            handle.execute("PRAGMA query_only=ON")?;
        } else {
            handle.execute("PRAGMA journal_mode=WAL")?;
            handle.execute("PRAGMA synchronous=FULL")?;
        }
        let mut session = Session::new(handle, self.memory_bytes_max, self.temp_bytes_max, self.readonly);
        session.find_hidden()?;
        Ok(session)
    }
}

fn duration(milliseconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(milliseconds / 1_000.0).map_err(|_| PyValueError::new_err("a duration is not negative and below 1e22 ms"))
}

fn deadline(milliseconds: Option<f64>) -> PyResult<Option<Instant>> {
    milliseconds.map(duration).transpose().map(|duration| duration.and_then(|duration| Instant::now().checked_add(duration)))
}

impl Connection {
    /// Does the work with the session locked and the GIL let go.
    pub fn with<T: Send>(&self, py: Python<'_>, work: impl FnOnce(&mut Session) -> T + Send) -> PyResult<T> {
        let outcome = py.detach(|| self.session.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(work));
        outcome.ok_or_else(|| PyValueError::new_err("the connection is closed"))
    }

    fn own(&self, py: Python<'_>, sql: &'static str) -> PyResult<Vec<i64>> {
        self.with(py, |session| session.own(sql))?.map_err(|failure| failure.into_py(py))
    }
}

fn statements_of(statements: &Bound<'_, PyAny>) -> PyResult<Result<Vec<(String, Parameters)>, Failure>> {
    let mut taken = Vec::with_capacity(statements.len().unwrap_or(0));
    for item in statements.try_iter()? {
        let pair = item?;
        let pair = pair.cast::<PyTuple>()?;
        let sql: String = pair.get_item(0)?.extract()?;
        match Parameters::take(&pair.get_item(1)?) {
            Ok(parameters) => taken.push((sql, parameters)),
            Err(failure) => return Ok(Err(Failure { statement: taken.len(), ..failure })),
        }
    }
    Ok(Ok(taken))
}

#[pymethods]
impl Connection {
    #[new]
    #[pyo3(signature = (path, *, create=false, readonly=false, cache_bytes=2_097_152, variables_max=32_766, sql_bytes_max=100_000,
        value_bytes_max=10_485_760, memory_bytes_max=134_217_728, temp_bytes_max=1_073_741_824, busy_timeout_ms=5_000))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of Python's")]
    fn new(
        py: Python<'_>,
        path: &str,
        create: bool,
        readonly: bool,
        cache_bytes: u64,
        variables_max: u64,
        sql_bytes_max: u64,
        value_bytes_max: u64,
        memory_bytes_max: u64,
        temp_bytes_max: u64,
        busy_timeout_ms: u32,
    ) -> PyResult<Connection> {
        let opening = Opening {
            path,
            create,
            readonly,
            cache_bytes,
            variables_max,
            sql_bytes_max,
            value_bytes_max,
            memory_bytes_max,
            temp_bytes_max,
            busy_timeout_ms,
        };
        let session = py.detach(|| opening.open()).map_err(|failure| failure.into_py(py))?;
        Ok(Connection { session: Mutex::new(Some(session)) })
    }

    #[pyo3(signature = (statements, *, trusted=false, rows_read_max=None, rows_written_max=None, more=None, deadline_ms=None, interrupt=None,
        page_rows_max=10_000, page_bytes_max=10_485_760, resumable=false, whole=false, skip_rows=0, pages_max=0))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of Python's")]
    fn run(
        &self,
        py: Python<'_>,
        statements: &Bound<'_, PyAny>,
        trusted: bool,
        rows_read_max: Option<u64>,
        rows_written_max: Option<u64>,
        more: Option<Py<PyAny>>,
        deadline_ms: Option<f64>,
        interrupt: Option<Py<Interrupt>>,
        page_rows_max: usize,
        page_bytes_max: usize,
        resumable: bool,
        whole: bool,
        skip_rows: u64,
        pages_max: u32,
    ) -> PyResult<Vec<StatementResult>> {
        let statements = statements_of(statements)?.map_err(|failure| failure.into_py(py))?;
        let options = Options {
            trusted,
            limits: [rows_read_max.unwrap_or(u64::MAX), rows_written_max.unwrap_or(u64::MAX)],
            more,
            deadline: deadline(deadline_ms)?,
            interrupt: interrupt.map(|interrupt| interrupt.get().flag.clone()),
            page_rows_max,
            page_bytes_max,
            resumable,
            whole,
            skip_rows,
            pages_max,
        };
        let outcomes = self.with(py, |session| session.run(statements, options))?;
        let outcomes = outcomes.map_err(|failure| failure.into_py(py))?;
        Ok(outcomes.into_iter().map(|outcome| Outcome::into_result(outcome, py)).collect())
    }

    #[pyo3(signature = (runs, *, each_ms, total_ms, page_rows_max=10_000, page_bytes_max=10_485_760, pages_max=0))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of Python's")]
    fn run_many(
        &self,
        py: Python<'_>,
        runs: &Bound<'_, PyAny>,
        each_ms: f64,
        total_ms: f64,
        page_rows_max: usize,
        page_bytes_max: usize,
        pages_max: u32,
    ) -> PyResult<Vec<Py<PyAny>>> {
        let mut taken = Vec::new();
        for item in runs.try_iter()? {
            let (statements, read, written): (Bound<'_, PyAny>, u64, u64) = item?.extract()?;
            taken.push(Short { statements: statements_of(&statements)?, limits: [read, written] });
        }
        let (each, total) = (duration(each_ms)?, duration(total_ms)?);
        let options = Options {
            trusted: false,
            limits: [0, 0],
            more: None,
            deadline: None,
            interrupt: None,
            page_rows_max,
            page_bytes_max,
            resumable: false,
            whole: true,
            skip_rows: 0,
            pages_max,
        };
        let ended = self.with(py, |session| {
            if !session.readonly && session.handle.autocommit() {
                return None;
            }
            Some(session.run_many(taken, options, each, total))
        })?;
        let ended = ended.ok_or_else(|| PyRuntimeError::new_err("a connection that writes runs many within a transaction only"))?;
        let ended = ended.map_err(|failure| failure.into_py(py))?;
        ended
            .into_iter()
            .map(|ended| match ended {
                None => Ok(py.None()),
                Some(Ok(outcomes)) => Py::new(py, Ran::new(py, &outcomes)?).map(Py::into_any),
                Some(Err(failure)) => Ok(failure.into_py(py).into_value(py).into_any()),
            })
            .collect()
    }

    #[pyo3(signature = (*, rows_read_max=None, more=None, deadline_ms=None, interrupt=None, page_rows_max=10_000, page_bytes_max=10_485_760))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of Python's")]
    fn next_page(
        &self,
        py: Python<'_>,
        rows_read_max: Option<u64>,
        more: Option<Py<PyAny>>,
        deadline_ms: Option<f64>,
        interrupt: Option<Py<Interrupt>>,
        page_rows_max: usize,
        page_bytes_max: usize,
    ) -> PyResult<StatementResult> {
        let options = Options {
            trusted: false,
            limits: [rows_read_max.unwrap_or(u64::MAX), u64::MAX],
            more,
            deadline: deadline(deadline_ms)?,
            interrupt: interrupt.map(|interrupt| interrupt.get().flag.clone()),
            page_rows_max,
            page_bytes_max,
            resumable: true,
            whole: false,
            skip_rows: 0,
            pages_max: 0,
        };
        let page = self.with(py, |session| session.next_page(options))?;
        let page = page.ok_or_else(|| PyRuntimeError::new_err("no statement is suspended"))?;
        page.map(|outcome| outcome.into_result(py)).map_err(|failure| failure.into_py(py))
    }

    fn close_cursor(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, Session::close_cursor)
    }

    #[getter]
    fn suspended(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, |session| session.suspended())
    }

    #[getter]
    fn in_transaction(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, |session| !session.handle.autocommit())
    }

    #[pyo3(signature = (*, immediate=true))]
    fn begin(&self, py: Python<'_>, immediate: bool) -> PyResult<()> {
        self.own(py, if immediate { "BEGIN IMMEDIATE" } else { "BEGIN" }).map(|_| ())
    }

    fn commit(&self, py: Python<'_>) -> PyResult<()> {
        let committed = self.with(py, |session| {
            session.own("COMMIT").map(|_| ()).inspect_err(|_| {
                if !session.handle.autocommit() {
                    let _ = session.own("ROLLBACK");
                }
            })
        })?;
        committed.map_err(|failure| failure.into_py(py))
    }

    fn rollback(&self, py: Python<'_>) -> PyResult<()> {
        self.own(py, "ROLLBACK").map(|_| ())
    }

    fn savepoint(&self, py: Python<'_>) -> PyResult<()> {
        self.own(py, "SAVEPOINT s").map(|_| ())
    }

    fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.own(py, "RELEASE s").map(|_| ())
    }

    fn rollback_to(&self, py: Python<'_>) -> PyResult<()> {
        let undone = self.with(py, |session| session.own("ROLLBACK TO s").and_then(|_| session.own("RELEASE s")))?;
        undone.map(|_| ()).map_err(|failure| failure.into_py(py))
    }

    fn estimate(&self, py: Python<'_>, sql: &str) -> PyResult<Estimate> {
        self.with(py, |session| estimate::estimate(session, sql))?.map_err(|failure| failure.into_py(py))
    }

    #[pyo3(signature = (to_path, *, pages_per_step=512, pause_ms=0, interrupt=None))]
    fn backup(&self, py: Python<'_>, to_path: &str, pages_per_step: u32, pause_ms: u64, interrupt: Option<Py<Interrupt>>) -> PyResult<u32> {
        let flag = interrupt.map(|interrupt| interrupt.get().flag.clone());
        let pause = Duration::from_millis(pause_ms);
        let copied = py.detach(|| backup::copy(&self.session, to_path, pages_per_step, pause, flag.as_deref()));
        copied.map_err(|failure| failure.into_py(py))
    }

    fn integrity_check(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.with(py, backup::problems)?.map_err(|failure| failure.into_py(py))
    }

    #[pyo3(signature = (mode="passive"))]
    fn checkpoint(&self, py: Python<'_>, mode: &str) -> PyResult<(i32, i32)> {
        let mode = match mode {
            "passive" => ffi::SQLITE_CHECKPOINT_PASSIVE,
            "full" => ffi::SQLITE_CHECKPOINT_FULL,
            "restart" => ffi::SQLITE_CHECKPOINT_RESTART,
            "truncate" => ffi::SQLITE_CHECKPOINT_TRUNCATE,
            _ => return Err(PyValueError::new_err("mode is passive, full, restart or truncate")),
        };
        let moved = self.with(py, |session| {
            let (mut frames, mut done) = (0, 0);
            let code = unsafe { ffi::sqlite3_wal_checkpoint_v2(session.handle.raw, std::ptr::null(), mode, &mut frames, &mut done) };
            if code != ffi::SQLITE_OK {
                return Err(Failure::running(&session.handle, code));
            }
            session.context.wal_frames = frames;
            Ok((frames, done))
        })?;
        moved.map_err(|failure| failure.into_py(py))
    }

    #[getter]
    fn wal_frames(&self, py: Python<'_>) -> PyResult<i32> {
        self.with(py, |session| session.context.wal_frames)
    }

    #[getter]
    fn storage_bytes(&self, py: Python<'_>) -> PyResult<i64> {
        let sizes = self.with(py, |session| Ok((session.own("PRAGMA page_count")?[0], session.own("PRAGMA page_size")?[0])))?;
        sizes.map(|(pages, bytes)| pages * bytes).map_err(|failure: Failure| failure.into_py(py))
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| drop(self.session.lock().unwrap_or_else(PoisonError::into_inner).take()));
    }
}
