//! Runs statements on one connection: all or none, metered, bounded, their rows as JSON.

use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_void};
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::authorizer::Verdict;
use crate::error::Failure;
use crate::guard::{self, Bounds};
use crate::json;
use crate::params::Parameters;
use crate::sqlite::{Counters, HIDDEN_ROWS, Handle, READ, Statement, WRITTEN, ffi};

const METERS: [&str; 2] = ["rows_read", "rows_written"];
const PREPARED_MAX: usize = 128;
/// What a statement counts beside rows, as an outcome tells it.
const STATUSES: [c_int; 4] = [
    ffi::SQLITE_STMTSTATUS_FULLSCAN_STEP,
    ffi::SQLITE_STMTSTATUS_SORT,
    ffi::SQLITE_STMTSTATUS_AUTOINDEX,
    ffi::SQLITE_STMTSTATUS_VM_STEP,
];
pub const PREPARED_SQL_BYTES_MAX: usize = 8_192;
/// What a result without rows takes.
const CONTENT_BYTES: usize = 256;

/// Stops the run it is given to.
#[pyclass(frozen, module = "tovuk_sqlite_native")]
pub struct Interrupt {
    pub flag: Arc<AtomicBool>,
}

#[pymethods]
impl Interrupt {
    #[new]
    fn new() -> Interrupt {
        Interrupt { flag: Arc::new(AtomicBool::new(false)) }
    }

    fn set(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }
}

/// What one statement did.
#[derive(Default)]
pub struct Outcome {
    columns: Vec<String>,
    content: Vec<u8>,
    /// Where the rows stand in the content.
    rows: Range<usize>,
    row_count: usize,
    complete: bool,
    rows_read: u64,
    rows_written: u64,
    vm_steps: u64,
    fullscan_steps: u64,
    sort_count: u64,
    autoindex_rows: u64,
    changes: i64,
    last_insert_rowid: i64,
    readonly: bool,
}

#[pyclass(frozen, name = "Result", module = "tovuk_sqlite_native")]
pub struct Result {
    #[pyo3(get)]
    columns: Vec<String>,
    #[pyo3(get)]
    content: Py<PyBytes>,
    rows_place: Range<usize>,
    #[pyo3(get)]
    row_count: usize,
    #[pyo3(get)]
    complete: bool,
    #[pyo3(get)]
    rows_read: u64,
    #[pyo3(get)]
    rows_written: u64,
    #[pyo3(get)]
    vm_steps: u64,
    #[pyo3(get)]
    fullscan_steps: u64,
    #[pyo3(get)]
    sort_count: u64,
    #[pyo3(get)]
    autoindex_rows: u64,
    #[pyo3(get)]
    changes: i64,
    #[pyo3(get)]
    last_insert_rowid: i64,
    #[pyo3(get)]
    readonly: bool,
}

#[pymethods]
impl Result {
    #[getter]
    fn rows<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.content.as_bytes(py)[self.rows_place.clone()])
    }
}

/// What the statements of one run of `run_many` did, together.
#[pyclass(frozen, module = "tovuk_sqlite_native", get_all)]
pub struct Ran {
    content: Py<PyBytes>,
    row_count: usize,
    rows_read: u64,
    rows_written: u64,
    vm_steps: u64,
    fullscan_steps: Vec<u64>,
    changes: i64,
}

impl Ran {
    pub fn new(py: Python<'_>, outcomes: &[Outcome]) -> PyResult<Ran> {
        let bytes: usize = outcomes.iter().map(|outcome| outcome.content.len() + 1).sum();
        let content = PyBytes::new_with(py, bytes.saturating_sub(1), |mut content: &mut [u8]| {
            for (index, outcome) in outcomes.iter().enumerate() {
                if index > 0 {
                    content.write_all(b",")?;
                }
                content.write_all(&outcome.content)?;
            }
            Ok(())
        })?;
        Ok(Ran {
            content: content.unbind(),
            row_count: outcomes.last().map_or(0, |outcome| outcome.row_count),
            rows_read: outcomes.iter().map(|outcome| outcome.rows_read).sum(),
            rows_written: outcomes.iter().map(|outcome| outcome.rows_written).sum(),
            vm_steps: outcomes.iter().map(|outcome| outcome.vm_steps).sum(),
            fullscan_steps: outcomes.iter().map(|outcome| outcome.fullscan_steps).collect(),
            changes: outcomes.iter().map(|outcome| outcome.changes).sum(),
        })
    }
}

impl Outcome {
    /// The first half of the content; the rows follow.
    fn begin(&mut self, statement: &Statement) {
        self.columns = statement.column_names();
        self.content.reserve(CONTENT_BYTES);
        self.content.extend_from_slice(b"{\"columns\":[");
        for (index, name) in self.columns.iter().enumerate() {
            if index > 0 {
                self.content.push(b',');
            }
            json::text(&mut self.content, name.as_bytes());
        }
        self.content.extend_from_slice(b"],\"rows\":[");
        self.rows.start = self.content.len() - 1;
    }

    /// Bytes of the rows so far.
    fn rows_bytes(&self) -> usize {
        self.content.len() - self.rows.start
    }

    /// The second half of the content, when every figure is known.
    fn end(&mut self) {
        let figures: [(&[u8], i64); 7] = [
            (b",\"rowCount\":", self.row_count as i64),
            (b",\"rowsRead\":", self.rows_read as i64),
            (b",\"rowsWritten\":", self.rows_written as i64),
            (b",\"vmSteps\":", self.vm_steps as i64),
            (b",\"fullscanSteps\":", self.fullscan_steps as i64),
            (b",\"changes\":", self.changes),
            (b",\"lastInsertRowid\":", if self.changes == 0 { 0 } else { self.last_insert_rowid }),
        ];
        for (name, figure) in figures {
            self.content.extend_from_slice(name);
            json::integer(&mut self.content, figure);
        }
        self.content.push(b'}');
    }

    pub fn into_result(self, py: Python<'_>) -> Result {
        Result {
            columns: self.columns,
            content: PyBytes::new(py, &self.content).unbind(),
            rows_place: self.rows,
            row_count: self.row_count,
            complete: self.complete,
            rows_read: self.rows_read,
            rows_written: self.rows_written,
            vm_steps: self.vm_steps,
            fullscan_steps: self.fullscan_steps,
            sort_count: self.sort_count,
            autoindex_rows: self.autoindex_rows,
            changes: self.changes,
            last_insert_rowid: self.last_insert_rowid,
            readonly: self.readonly,
        }
    }
}

/// One run of `run_many`.
pub struct Short {
    pub statements: std::result::Result<Vec<(String, Parameters)>, Failure>,
    pub limits: [u64; 2],
}

/// How a run of `run_many` ended; None: not begun.
pub type Ended = Option<std::result::Result<Vec<Outcome>, Failure>>;

/// How a run is bounded.
pub struct Options {
    pub trusted: bool,
    /// Rows read, rows written.
    pub limits: [u64; 2],
    pub more: Option<Py<PyAny>>,
    pub deadline: Option<Instant>,
    pub interrupt: Option<Arc<AtomicBool>>,
    pub page_rows_max: usize,
    pub page_bytes_max: usize,
    pub resumable: bool,
    /// A result that does not fit its page fails instead of ending there.
    pub whole: bool,
    /// Rows of reading statements that are passed over.
    pub skip_rows: u64,
    /// Pages the file may have; 0: as before.
    pub pages_max: u32,
}

/// What SQLite's callbacks see of the run in progress. Boxed: its address is registered with the connection.
#[derive(Default)]
pub struct Context {
    pub verdict: Verdict,
    /// Frames in the WAL after the latest commit or checkpoint.
    pub wal_frames: c_int,
    counters: Option<*mut Counters>,
    deadline: Option<Instant>,
    interrupt: Option<Arc<AtomicBool>>,
    more: Option<Py<PyAny>>,
    stop: Option<&'static str>,
    raised: Option<PyErr>,
}

/// Called every so many instructions.
unsafe extern "C" fn progress(context: *mut c_void) -> c_int {
    let context = unsafe { &mut *context.cast::<Context>() };
    if context.interrupt.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
        context.stop = Some("interrupted");
    } else if context.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
        context.stop = Some("deadline");
    }
    c_int::from(context.stop.is_some())
}

/// Called after each commit; that a hook stands here keeps SQLite from moving frames by itself.
unsafe extern "C" fn committed(context: *mut c_void, _: *mut ffi::sqlite3, _: *const c_char, frames: c_int) -> c_int {
    unsafe { (*context.cast::<Context>()).wal_frames = frames };
    ffi::SQLITE_OK
}

/// Called when a meter's limit does not hold the next units: asks for more, or stops the statement.
unsafe extern "C" fn over(context: *mut c_void, meter: c_int, units: u64) -> c_int {
    let context = unsafe { &mut *context.cast::<Context>() };
    let meter = meter as usize;
    context.stop = Some(METERS[meter]);
    let (Some(more), Some(counters)) = (&context.more, context.counters) else { return 1 };
    let asked = Python::attach(|py| -> PyResult<bool> {
        loop {
            let (used, limit) = unsafe { ((*counters).used[meter], (*counters).limit[meter]) };
            if units <= limit - used {
                return Ok(true);
            }
            let granted: u64 = more.call1(py, (METERS[meter], used))?.extract(py)?;
            if granted == 0 {
                return Ok(false);
            }
            unsafe { (*counters).limit[meter] = limit.saturating_add(granted) };
        }
    });
    match asked {
        Ok(true) => {
            context.stop = None;
            0
        }
        Ok(false) => 1,
        Err(error) => {
            context.raised = Some(error);
            1
        }
    }
}

/// A statement whose page was full, with the parameters its bindings point at.
struct Suspended {
    statement: Statement,
    _parameters: Parameters,
    trusted: bool,
}

/// Statements kept for their next run, by their text.
#[derive(Default)]
pub struct Prepared {
    statements: HashMap<String, (Statement, u64)>,
    clock: u64,
}

impl Prepared {
    pub fn take(&mut self, sql: &str) -> Option<Statement> {
        self.statements.remove(sql).map(|(statement, _)| statement)
    }

    pub fn put(&mut self, sql: String, statement: Statement) {
        if self.statements.len() >= PREPARED_MAX {
            let oldest = self.statements.iter().min_by_key(|(_, (_, used))| *used).map(|(sql, _)| sql.clone());
            oldest.map(|sql| self.statements.remove(&sql));
        }
        self.clock += 1;
        self.statements.insert(sql, (statement, self.clock));
    }
}

/// An open connection and what it keeps. Statements stand before the handle: they are dropped first.
pub struct Session {
    prepared: [Prepared; 2],
    own: HashMap<&'static str, Statement>,
    suspended: Option<Suspended>,
    pub context: Box<Context>,
    pub memory_bytes_max: u64,
    pub temp_bytes_max: u64,
    pub readonly: bool,
    pages_max: u32,
    pub handle: Handle,
}

// One thread at a time: the connection's lock holds it.
unsafe impl Send for Session {}

impl Session {
    pub fn new(handle: Handle, memory_bytes_max: u64, temp_bytes_max: u64, readonly: bool) -> Session {
        let mut context = Box::<Context>::default();
        let counters = handle.counters();
        context.counters = Some(&raw mut *counters);
        counters.limit = [u64::MAX; 2];
        counters.over = Some(over);
        counters.argument = (&raw mut *context).cast();
        counters.enforced = 1;
        unsafe {
            ffi::sqlite3_wal_hook(handle.raw, Some(committed), (&raw mut *context).cast());
            ffi::sqlite3_progress_handler(handle.raw, 1_000, Some(progress), (&raw mut *context).cast());
            ffi::sqlite3_set_authorizer(handle.raw, Some(crate::authorizer::authorize), (&raw mut context.verdict).cast());
        }
        Session {
            prepared: Default::default(),
            own: HashMap::new(),
            suspended: None,
            context,
            memory_bytes_max,
            temp_bytes_max,
            readonly,
            pages_max: 0,
            handle,
        }
    }

    /// Runs one statement of ours, kept prepared, unmetered; answers its first row's integers.
    pub fn own(&mut self, sql: &'static str) -> std::result::Result<Vec<i64>, Failure> {
        self.trust();
        if !self.own.contains_key(sql) {
            let (statement, _) = self.handle.prepare(sql, ffi::SQLITE_PREPARE_PERSISTENT)?;
            self.own.insert(sql, statement.expect("our own text holds a statement"));
        }
        self.handle.step_all(&self.own[sql])
    }

    /// Our own work: no limits, no tenant.
    fn trust(&mut self) {
        self.context.verdict.tenant = false;
        self.context.stop = None;
        self.context.deadline = None;
        self.context.interrupt = None;
        self.context.more = None;
        let counters = self.handle.counters();
        counters.tenant = 0;
        counters.used = [0; 2];
        counters.limit = [u64::MAX; 2];
    }

    fn enter(&mut self, options: &mut Options) {
        self.context.verdict = Verdict { tenant: !options.trusted, ..Verdict::default() };
        self.context.stop = None;
        self.context.raised = None;
        self.context.deadline = options.deadline;
        self.context.interrupt = options.interrupt.take();
        self.context.more = options.more.take();
        let counters = self.handle.counters();
        counters.tenant = c_int::from(!options.trusted);
        counters.used = [0; 2];
        counters.limit = options.limits;
    }

    /// The failure with what the callbacks know of its cause.
    fn explained(&mut self, mut failure: Failure) -> Failure {
        failure.rows_read = self.handle.counters().used[READ];
        failure.raised = self.context.raised.take();
        if let Some(kind) = self.context.stop.take() {
            failure.kind = kind;
            failure.message = match kind {
                "rows_read" => "the budget of rows read is used up",
                "rows_written" => "the budget of rows written is used up",
                "deadline" => "the deadline has passed",
                _ => "interrupted",
            }
            .to_owned();
        } else if failure.kind == "full" {
            failure.kind = guard::what_is_full();
        } else if let Some((kind, message)) = self.context.verdict.denied.take() {
            failure.kind = kind;
            failure.message = message;
            if kind == "syntax" {
                failure.extended_code = ffi::SQLITE_ERROR;
            }
        }
        failure
    }

    /// The one statement of a text, from the kept ones if it is there.
    pub fn prepare(&mut self, sql: &str, trusted: bool) -> std::result::Result<Statement, Failure> {
        if let Some(statement) = self.prepared[usize::from(trusted)].take(sql) {
            return Ok(statement);
        }
        if sql.contains('\0') {
            return Err(Failure::plain("syntax", "the statement contains a NUL"));
        }
        let mut begin = 0;
        let statement = loop {
            let (statement, taken) = self.handle.prepare(&sql[begin..], ffi::SQLITE_PREPARE_PERSISTENT).map_err(|mut failure| {
                failure.offset = failure.offset.map(|offset| offset + begin);
                failure
            })?;
            begin += taken;
            match statement {
                Some(statement) => break statement,
                None if taken == 0 || begin >= sql.len() => return Err(Failure::plain("empty", "there is no statement in the text")),
                None => {}
            }
        };
        let blank = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_whitespace() || byte == b';');
        while !blank(&sql[begin..]) {
            match self.handle.prepare(&sql[begin..], 0) {
                Ok((None, taken)) if taken > 0 => begin += taken,
                Ok((None, _)) => break,
                _ => {
                    self.context.verdict.denied = None;
                    let offset = begin + sql[begin..].find(|letter: char| !letter.is_whitespace()).unwrap_or(0);
                    let failure = Failure::plain("several_statements", "the text holds more than one statement");
                    return Err(Failure { offset: Some(offset), ..failure });
                }
            }
        }
        Ok(statement)
    }

    /// All statements or none: in a transaction of their own, or a savepoint of the open one.
    pub fn run(&mut self, statements: Vec<(String, Parameters)>, mut options: Options) -> std::result::Result<Vec<Outcome>, Failure> {
        if self.suspended.is_some() {
            return Err(Failure::plain("busy", "a statement of this connection is suspended"));
        }
        self.cap(&options)?;
        let nested = !self.handle.autocommit();
        // What writes and answers with rows commits when it is reset, also for a fault in its rows.
        let returns = |sql: &str| sql.as_bytes().windows(9).any(|word| word.eq_ignore_ascii_case(b"returning"));
        let alone = statements.len() == 1 && !nested && (self.readonly || !returns(&statements[0].0));
        if nested {
            self.own("SAVEPOINT s")?;
        } else if !alone {
            self.own(if self.readonly { "BEGIN" } else { "BEGIN IMMEDIATE" })?;
        }
        let trusted = options.trusted;
        let outcome = self.run_bounded(&mut options, !alone, |session, options| session.run_all(statements, options));
        let catalogue = self.context.verdict.catalogue;
        let outcome = match outcome {
            Ok(outcomes) => self.keep(nested, alone).map(|()| outcomes),
            Err(failure) => Err(self.undo(nested, failure)),
        };
        if catalogue && trusted {
            self.find_hidden()?;
        }
        outcome
    }

    /// Independent runs, each all of its statements or none: within the open transaction, each in a savepoint; or within one snapshot, on a connection
    /// that only reads. None: not begun, since the earlier ones took `total`.
    pub fn run_many(&mut self, runs: Vec<Short>, mut options: Options, each: Duration, total: Duration) -> std::result::Result<Vec<Ended>, Failure> {
        if self.suspended.is_some() {
            return Err(Failure::plain("busy", "a statement of this connection is suspended"));
        }
        self.cap(&options)?;
        let nested = !self.handle.autocommit();
        if !nested {
            self.own("BEGIN")?;
        }
        let end = Instant::now() + total;
        let mut ended = Vec::with_capacity(runs.len());
        let mut lost = false;
        for run in runs {
            let now = Instant::now();
            if lost || (now >= end && !ended.is_empty()) {
                ended.push(None);
                continue;
            }
            if nested {
                self.own("SAVEPOINT s")?;
            }
            options.limits = run.limits;
            options.deadline = Some(now + each);
            let outcome = run.statements.and_then(|statements| {
                self.run_bounded(&mut options, nested, |session, options| session.run_all(statements, options))
            });
            let outcome = match outcome {
                Ok(outcome) if nested => self.keep(true, false).map(|()| outcome),
                Err(failure) if nested => Err(self.undo(true, failure)),
                other => other,
            };
            lost = outcome.as_ref().is_err_and(|failure| failure.transaction_lost);
            ended.push(Some(outcome));
        }
        if !nested {
            self.own("COMMIT")?;
        }
        Ok(ended)
    }

    /// What the file may have from now on.
    fn cap(&mut self, options: &Options) -> std::result::Result<(), Failure> {
        if options.pages_max != 0 && options.pages_max != self.pages_max {
            self.handle.execute(&format!("PRAGMA max_page_count={}", options.pages_max))?;
            self.pages_max = options.pages_max;
        }
        Ok(())
    }

    /// A tenant's work under its bounds; `ends`: foreign keys are due at its end.
    fn run_bounded<T>(
        &mut self,
        options: &mut Options,
        ends: bool,
        work: impl FnOnce(&mut Session, &Options) -> std::result::Result<T, Failure>,
    ) -> std::result::Result<T, Failure> {
        unsafe { ffi::sqlite3_set_last_insert_rowid(self.handle.raw, 0) };
        self.enter(options);
        let bounds = Bounds::set(self.memory_bytes_max, self.temp_bytes_max);
        let mut outcome = work(self, options);
        if outcome.is_ok() && ends && self.handle.foreign_keys_open() {
            let mut failure = Failure::plain("constraint", "FOREIGN KEY constraint failed");
            failure.extended_code = ffi::SQLITE_CONSTRAINT_FOREIGNKEY;
            failure.rows_read = self.handle.counters().used[READ];
            outcome = Err(failure);
        }
        drop(bounds);
        let pragma = self.context.verdict.pragma;
        self.trust();
        if pragma {
            // It holds for its own run.
            let _ = self.own("PRAGMA defer_foreign_keys=OFF");
        }
        outcome
    }

    fn keep(&mut self, nested: bool, alone: bool) -> std::result::Result<(), Failure> {
        if nested {
            self.own("RELEASE s")?;
        } else if !alone && let Err(failure) = self.own("COMMIT") {
            return Err(self.undo(false, failure));
        }
        Ok(())
    }

    fn undo(&mut self, nested: bool, mut failure: Failure) -> Failure {
        if self.handle.autocommit() {
            failure.transaction_lost = nested;
        } else if !nested {
            let _ = self.own("ROLLBACK");
        } else if self.own("ROLLBACK TO s").is_err() || self.own("RELEASE s").is_err() {
            let _ = self.own("ROLLBACK");
            failure.transaction_lost = true;
        }
        failure
    }

    fn run_all(&mut self, statements: Vec<(String, Parameters)>, options: &Options) -> std::result::Result<Vec<Outcome>, Failure> {
        let mut outcomes = Vec::with_capacity(statements.len());
        let mut bytes = 0;
        let mut last = None;
        for (index, (sql, parameters)) in statements.into_iter().enumerate() {
            match self.run_one(&mut last, sql, parameters, options, bytes) {
                Ok(outcome) => {
                    bytes += outcome.content.len();
                    outcomes.push(outcome);
                }
                Err(failure) => {
                    let failure = self.explained(failure);
                    self.put_back(last, options.trusted);
                    return Err(Failure { statement: index, ..failure });
                }
            }
        }
        self.put_back(last, options.trusted);
        Ok(outcomes)
    }

    /// `last` is the statement that was run before: many of a run have one text.
    fn run_one(
        &mut self,
        last: &mut Option<(String, Statement)>,
        sql: String,
        parameters: Parameters,
        options: &Options,
        bytes: usize,
    ) -> std::result::Result<Outcome, Failure> {
        // A run of short statements passes few progress checks.
        if unsafe { progress((&raw mut *self.context).cast()) } != 0 {
            return Err(Failure::plain("interrupted", ""));
        }
        let (sql, statement) = match last.take() {
            Some(same) if same.0 == sql => same,
            other => {
                self.put_back(other, options.trusted);
                let statement = self.prepare(&sql, options.trusted)?;
                (sql, statement)
            }
        };
        let changes = unsafe { ffi::sqlite3_total_changes64(self.handle.raw) };
        let bound = parameters.bind(&self.handle, &statement);
        let page = bound.and_then(|()| self.page(&statement, options, bytes, false));
        let mut outcome = match page {
            Ok(outcome) => outcome,
            Err(failure) => {
                statement.reset();
                // Its next run counts from nothing.
                let _ = STATUSES.map(|status| statement.take_status(status));
                *last = Some((sql, statement));
                return Err(failure);
            }
        };
        unsafe {
            if ffi::sqlite3_total_changes64(self.handle.raw) != changes {
                outcome.changes = ffi::sqlite3_changes64(self.handle.raw);
            }
            outcome.last_insert_rowid = ffi::sqlite3_last_insert_rowid(self.handle.raw);
        }
        outcome.end();
        if options.resumable && !outcome.complete && statement.readonly() && self.handle.autocommit() {
            self.suspended = Some(Suspended { statement, _parameters: parameters, trusted: options.trusted });
        } else {
            statement.reset();
            *last = Some((sql, statement));
        }
        Ok(outcome)
    }

    fn put_back(&mut self, last: Option<(String, Statement)>, trusted: bool) {
        let Some((sql, statement)) = last else { return };
        let verdict = &self.context.verdict;
        if sql.len() <= PREPARED_SQL_BYTES_MAX && !verdict.pragma && !verdict.catalogue {
            self.prepared[usize::from(trusted)].put(sql, statement);
        }
    }

    /// Rows until the page is full or the statement done; `bytes` of the page are taken. `pending`: the statement stands on a row that was not told yet.
    fn page(&mut self, statement: &Statement, options: &Options, bytes: usize, pending: bool) -> std::result::Result<Outcome, Failure> {
        self.handle.counters().statement = statement.raw.cast();
        let page = self.counted_page(statement, options, bytes, pending);
        self.handle.counters().statement = std::ptr::null_mut();
        page
    }

    fn counted_page(&mut self, statement: &Statement, options: &Options, bytes: usize, mut pending: bool) -> std::result::Result<Outcome, Failure> {
        let raw = statement.raw;
        let (rows_max, bytes_max) = (options.page_rows_max, options.page_bytes_max.saturating_sub(bytes));
        let mut skip = if statement.readonly() { options.skip_rows } else { 0 };
        let used = self.handle.counters().used;
        let mut out = Outcome { readonly: statement.readonly(), ..Outcome::default() };
        let mut begun = false;
        loop {
            if !pending {
                match unsafe { ffi::sqlite3_step(raw) } {
                    ffi::SQLITE_ROW => {}
                    ffi::SQLITE_DONE => out.complete = true,
                    code => return Err(Failure::running(&self.handle, code)),
                }
            }
            pending = false;
            // The first step prepares anew what was prepared before the schema changed: then there may be other columns.
            if !begun {
                begun = true;
                out.begin(statement);
            }
            if out.complete {
                break;
            }
            let columns = unsafe { ffi::sqlite3_data_count(raw) };
            if skip > 0 {
                skip -= 1;
                continue;
            }
            let before = out.content.len();
            let mut full = out.row_count >= rows_max;
            if out.row_count > 0 {
                out.content.push(b',');
            }
            let begin = out.content.len();
            out.content.push(b'[');
            for column in 0..if full { 0 } else { columns } {
                if column > 0 {
                    out.content.push(b',');
                }
                if !json::value(&mut out.content, statement, column) {
                    return Err(Failure::plain("text", "a text is not UTF-8"));
                }
                if out.content.len() - begin > bytes_max.max(1 << 20).saturating_mul(2) {
                    return Err(Failure::plain("page", "a row is larger than a page"));
                }
            }
            out.content.push(b']');
            // Where there is a next page, each has a row at least.
            full |= out.rows_bytes() >= bytes_max && (out.row_count > 0 || options.whole);
            if full {
                out.content.truncate(before);
                if out.readonly && !options.whole {
                    break;
                }
                return Err(Failure::plain("page", "the result does not fit a page"));
            }
            out.row_count += 1;
        }
        out.content.push(b']');
        out.rows.end = out.content.len();
        let counters = self.handle.counters();
        out.rows_read = counters.used[READ] - used[READ];
        out.rows_written = counters.used[WRITTEN] - used[WRITTEN];
        [out.fullscan_steps, out.sort_count, out.autoindex_rows, out.vm_steps] = STATUSES.map(|status| statement.take_status(status));
        Ok(out)
    }

    /// None: nothing is suspended.
    pub fn next_page(&mut self, mut options: Options) -> Option<std::result::Result<Outcome, Failure>> {
        let suspended = self.suspended.take()?;
        options.trusted = suspended.trusted;
        self.enter(&mut options);
        let bounds = Bounds::set(self.memory_bytes_max, self.temp_bytes_max);
        let page = self.page(&suspended.statement, &options, 0, true).map(|mut page| {
            page.end();
            page
        });
        drop(bounds);
        let page = page.map_err(|failure| self.explained(failure));
        self.trust();
        if page.as_ref().is_ok_and(|page| !page.complete) {
            self.suspended = Some(suspended);
        }
        Some(page)
    }

    pub fn suspended(&self) -> bool {
        self.suspended.is_some()
    }

    pub fn close_cursor(&mut self) {
        self.suspended = None;
    }

    /// Looks up which rows of the catalogue are ours.
    pub fn find_hidden(&mut self) -> std::result::Result<(), Failure> {
        const FIND: &str = concat!("SELECT rowid FROM sqlite_schema WHERE substr(lower(tbl_name),1,7)='", env!("TOVUK_HIDDEN_PREFIX"), "' LIMIT 17");
        self.trust();
        let (statement, _) = self.handle.prepare(FIND, 0)?;
        let statement = statement.expect("our own text holds a statement");
        let mut found = Vec::new();
        loop {
            match unsafe { ffi::sqlite3_step(statement.raw) } {
                ffi::SQLITE_ROW => found.push(statement.integer(0)),
                ffi::SQLITE_DONE => break,
                code => return Err(Failure::running(&self.handle, code)),
            }
        }
        if found.len() > HIDDEN_ROWS {
            return Err(Failure::plain("runtime", "more hidden tables and indexes than can be hidden"));
        }
        let counters = self.handle.counters();
        counters.hidden_count = found.len() as c_int;
        counters.hidden[..found.len()].copy_from_slice(&found);
        Ok(())
    }

    /// A tenant's statement is prepared, not run.
    pub fn as_tenant<T>(&mut self, work: impl FnOnce(&mut Session) -> std::result::Result<T, Failure>) -> std::result::Result<T, Failure> {
        self.trust();
        self.context.verdict = Verdict { tenant: true, ..Verdict::default() };
        self.handle.counters().tenant = 1;
        let outcome = work(self).map_err(|failure| self.explained(failure));
        self.trust();
        outcome
    }
}
