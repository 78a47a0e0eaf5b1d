//! Copies a database while it is in use, and tells whether one is whole.

use std::ffi::c_int;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::connection::resolved;
use crate::error::Failure;
use crate::guard;
use crate::run::Session;
use crate::sqlite::{Handle, ffi};

/// While another holds the file, or our own connection a transaction.
const RETRY: Duration = Duration::from_millis(2);

struct Copy {
    raw: *mut ffi::sqlite3_backup,
}

impl Drop for Copy {
    fn drop(&mut self) {
        unsafe { ffi::sqlite3_backup_finish(self.raw) };
    }
}

fn closed() -> Failure {
    Failure::plain("io", "the connection is closed")
}

/// Copies into a new file, a step at a time; the connection is free between steps. Answers the pages; a failed copy leaves no file.
pub fn copy(
    source: &Mutex<Option<Session>>,
    to_path: &str,
    pages_per_step: u32,
    pause: Duration,
    interrupt: Option<&AtomicBool>,
) -> Result<u32, Failure> {
    if fs::exists(to_path).unwrap_or(true) {
        return Err(Failure::plain("io", "the file to copy into exists"));
    }
    let path = resolved(to_path)?;
    let outcome = copy_into(source, &path, pages_per_step, pause, interrupt);
    if outcome.is_err() {
        let _ = fs::remove_file(&path);
        let _ = fs::remove_file(format!("{path}-journal"));
    }
    outcome
}

fn copy_into(
    source: &Mutex<Option<Session>>,
    path: &str,
    pages_per_step: u32,
    pause: Duration,
    interrupt: Option<&AtomicBool>,
) -> Result<u32, Failure> {
    let flags = ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_CREATE | ffi::SQLITE_OPEN_NOMUTEX;
    let target = guard::opening(path, || Handle::open(path, flags))?;
    let lock = || source.lock().unwrap_or_else(PoisonError::into_inner);
    let name = c"main".as_ptr();
    let raw = {
        let guard = lock();
        let session = guard.as_ref().ok_or_else(closed)?;
        unsafe { ffi::sqlite3_backup_init(target.raw, name, session.handle.raw, name) }
    };
    if raw.is_null() {
        return Err(Failure::running(&target, unsafe { ffi::sqlite3_errcode(target.raw) }));
    }
    // The copy's end touches the source: it must happen under the lock, on every way out.
    let mut running = Some(Copy { raw });
    let outcome = loop {
        if interrupt.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            break Err(Failure::plain("interrupted", "interrupted"));
        }
        let code = {
            let guard = lock();
            match guard.as_ref() {
                None => break Err(closed()),
                // What is not committed is not copied.
                Some(session) if !session.handle.autocommit() => ffi::SQLITE_BUSY,
                Some(_) => unsafe { ffi::sqlite3_backup_step(raw, pages_per_step as c_int) },
            }
        };
        match code {
            ffi::SQLITE_DONE => break Ok(unsafe { ffi::sqlite3_backup_pagecount(raw) } as u32),
            ffi::SQLITE_OK if pause.is_zero() => thread::yield_now(),
            ffi::SQLITE_OK => thread::sleep(pause),
            ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => thread::sleep(RETRY),
            code => break Err(Failure::running(&target, code)),
        }
    };
    let guard = lock();
    drop(running.take());
    drop(guard);
    outcome
}

/// What is wrong with the database, a line each.
pub fn problems(session: &mut Session) -> Result<Vec<String>, Failure> {
    session.own("PRAGMA page_count")?;
    let mut found = Vec::new();
    for sql in ["PRAGMA integrity_check(100)", "PRAGMA foreign_key_check"] {
        let (statement, _) = session.handle.prepare(sql, 0)?;
        let statement = statement.expect("our own text holds a statement");
        loop {
            match unsafe { ffi::sqlite3_step(statement.raw) } {
                ffi::SQLITE_ROW => {
                    let line = statement.string(0);
                    if sql.ends_with("foreign_key_check") {
                        found.push(format!("row {} of {line} refers to a missing row of {}", statement.integer(1), statement.string(2)));
                    } else if line != "ok" {
                        found.push(line);
                    }
                }
                ffi::SQLITE_DONE => break,
                code => return Err(Failure::running(&session.handle, code)),
            }
        }
    }
    Ok(found)
}
