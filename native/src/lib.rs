//! SQLite with row counters, for Python. What each part promises stands in `typings/tovuk_sqlite_native.pyi`.

mod authorizer;
mod backup;
mod connection;
mod error;
mod estimate;
mod guard;
mod json;
mod own;
mod params;
mod run;
mod sqlite;

use pyo3::prelude::*;

/// Rises whenever what the service calls changes: a service of another number does not use us.
const INTERFACE: u32 = 4;

#[pymodule]
fn tovuk_sqlite_native(py: Python<'_>, module: &Bound<'_, PyModule>) -> PyResult<()> {
    guard::initialize().map_err(pyo3::exceptions::PyImportError::new_err)?;
    module.add("VERSION", sqlite::version())?;
    module.add("INTERFACE", INTERFACE)?;
    module.add("HIDDEN_PREFIX", sqlite::HIDDEN_PREFIX)?;
    module.add("SqliteError", py.get_type::<error::SqliteError>())?;
    module.add_class::<run::Interrupt>()?;
    module.add_class::<run::Result>()?;
    module.add_class::<run::Ran>()?;
    module.add_class::<estimate::PlanStep>()?;
    module.add_class::<estimate::Estimate>()?;
    module.add_class::<connection::Connection>()?;
    module.add_class::<own::OwnConnection>()?;
    Ok(())
}
