//! How a statement would run: SQLite's plan, and what the steps would read. Nothing of it is run.

use pyo3::prelude::*;

use crate::error::Failure;
use crate::run::Session;
use crate::sqlite::{Statement, ffi};

/// SQLite's own guess for a lookup in an index without statistics.
const ROWS_PER_KEY: i64 = 10;
/// And the share of a table that it takes for a range.
const RANGE_SHARE: i64 = 4;

#[pyclass(frozen, module = "tovuk_sqlite_native", get_all, skip_from_py_object)]
#[derive(Clone)]
pub struct PlanStep {
    detail: String,
    table: Option<String>,
    access: &'static str,
    index: Option<String>,
    rows: Option<i64>,
}

#[pyclass(frozen, module = "tovuk_sqlite_native", get_all)]
pub struct Estimate {
    steps: Vec<PlanStep>,
    scans: bool,
    rows_read: i64,
    readonly: bool,
    parameter_count: usize,
}

struct Line {
    parent: i64,
    root_page: i64,
    detail: String,
}

pub fn estimate(session: &mut Session, sql: &str) -> Result<Estimate, Failure> {
    let (lines, readonly, parameter_count) = session.as_tenant(|session| {
        let statement = session.prepare(sql, false)?;
        let explained = unsafe { ffi::sqlite3_stmt_isexplain(statement.raw) } != 0;
        let lines = if explained { Vec::new() } else { plan(session, sql)? };
        Ok((lines, statement.readonly(), statement.parameter_count()))
    })?;
    let mut steps = Vec::new();
    let mut rows_read: i64 = 0;
    // Steps beside each other under one parent are loops within loops.
    let mut nesting: Vec<(i64, i64)> = Vec::new();
    for line in lines {
        let step = step(session, &line);
        if let Some(rows) = step.rows {
            let times = match nesting.iter_mut().find(|(parent, _)| *parent == line.parent) {
                Some((_, times)) => times,
                None => {
                    nesting.push((line.parent, 1));
                    &mut nesting.last_mut().expect("it was just put there").1
                }
            };
            *times = times.saturating_mul(rows.max(1));
            rows_read = rows_read.saturating_add(*times);
        }
        steps.push(step);
    }
    let scans = steps.iter().any(|step| step.access == "scan");
    Ok(Estimate { steps, scans, rows_read, readonly, parameter_count })
}

fn plan(session: &Session, sql: &str) -> Result<Vec<Line>, Failure> {
    const EXPLAIN: &str = "EXPLAIN QUERY PLAN ";
    let (statement, _) = session.handle.prepare(&format!("{EXPLAIN}{sql}"), 0)?;
    let Some(statement) = statement else { return Ok(Vec::new()) };
    let mut lines = Vec::new();
    while unsafe { ffi::sqlite3_step(statement.raw) } == ffi::SQLITE_ROW {
        lines.push(Line { parent: statement.integer(1), root_page: statement.integer(2), detail: statement.string(3) });
    }
    Ok(lines)
}

fn step(session: &mut Session, line: &Line) -> PlanStep {
    let access = match line.detail.split(' ').next() {
        Some("SCAN") if line.root_page > 0 => "scan",
        Some("SEARCH") if line.root_page > 0 => "search",
        _ => "other",
    };
    let mut step = PlanStep { detail: line.detail.clone(), table: None, access, index: None, rows: None };
    if access == "other" {
        return step;
    }
    step.index =
        line.detail.split_once(" INDEX ").and_then(|(_, rest)| rest.split([' ', '(']).next()).filter(|name| !name.is_empty()).map(str::to_owned);
    step.table = first_text(session, "SELECT name FROM sqlite_schema WHERE type='table' AND rootpage=?", &[line.root_page.to_string()]);
    let Some(table) = &step.table else { return step };
    let total = table_rows(session, table);
    step.rows = if access == "scan" { total } else { Some(matches(session, &line.detail, table, step.index.as_deref(), total)) };
    step
}

fn table_rows(session: &mut Session, table: &str) -> Option<i64> {
    let counted = first_text(session, "SELECT stat FROM sqlite_stat1 WHERE tbl=? ORDER BY idx LIMIT 1", &[table.to_owned()]);
    counted.and_then(|stat| stat.split(' ').next().and_then(|rows| rows.parse().ok())).or_else(|| {
        let quoted = table.replace('"', "\"\"");
        first_text(session, &format!("SELECT coalesce(max(rowid), 0) FROM \"{quoted}\""), &[]).and_then(|rows| rows.parse().ok())
    })
}

/// Rows that a lookup finds.
fn matches(session: &mut Session, detail: &str, table: &str, index: Option<&str>, total: Option<i64>) -> i64 {
    let equal = detail.matches("=?").count() - detail.matches("<=?").count() - detail.matches(">=?").count();
    let within = |rows: i64| rows.min(total.unwrap_or(rows)).max(1);
    let Some(index) = index else {
        return if equal > 0 { 1 } else { within(total.unwrap_or(0) / RANGE_SHARE) };
    };
    let stat = first_text(session, "SELECT stat FROM sqlite_stat1 WHERE tbl=? AND idx=?", &[table.to_owned(), index.to_owned()]);
    if let Some(rows) = stat.and_then(|stat| stat.split(' ').nth(equal).and_then(|rows| rows.parse::<i64>().ok())) {
        return within(if equal > 0 { rows } else { rows / RANGE_SHARE });
    }
    let unique = first_text(
        session,
        "SELECT 1 FROM pragma_index_list(?) l WHERE l.name=? AND l.\"unique\" AND (SELECT count(*) FROM pragma_index_info(l.name))=CAST(? AS INTEGER)",
        &[table.to_owned(), index.to_owned(), equal.to_string()],
    );
    match (unique, equal) {
        (Some(_), _) => 1,
        (None, 0) => within(total.unwrap_or(0) / RANGE_SHARE),
        (None, _) => within(ROWS_PER_KEY),
    }
}

/// The first column of our own query's first row. None too where its table does not exist.
fn first_text(session: &mut Session, sql: &str, arguments: &[String]) -> Option<String> {
    let (statement, _) = session.handle.prepare(sql, 0).ok()?;
    let statement: Statement = statement?;
    for (index, argument) in arguments.iter().enumerate() {
        let begin = argument.as_ptr().cast();
        unsafe { ffi::sqlite3_bind_text64(statement.raw, index as i32 + 1, begin, argument.len() as u64, None, ffi::SQLITE_UTF8 as u8) };
    }
    (unsafe { ffi::sqlite3_step(statement.raw) } == ffi::SQLITE_ROW).then(|| statement.string(0))
}
