//! A statement's parameters, taken from Python before the GIL is let go.

use std::ffi::{CString, c_char, c_int};

use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use crate::error::Failure;
use crate::sqlite::{Handle, Statement, ffi};

pub enum Value {
    Null,
    Integer(i64),
    Real(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

pub enum Parameters {
    Positional(Vec<Value>),
    Named(Vec<(String, Value)>),
}

fn refused(message: String) -> Failure {
    Failure::plain("parameters", message)
}

fn value(object: &Bound<'_, PyAny>, place: &str) -> Result<Value, Failure> {
    if object.is_none() {
        return Ok(Value::Null);
    }
    if let Ok(flag) = object.cast::<PyBool>() {
        return Ok(Value::Integer(i64::from(flag.is_true())));
    }
    if let Ok(integer) = object.cast::<PyInt>() {
        return integer.extract().map(Value::Integer).map_err(|error| {
            let wide = error.is_instance_of::<PyOverflowError>(object.py());
            refused(format!("parameter {place}: {}", if wide { "an integer beyond 64 bits" } else { "not an integer" }))
        });
    }
    if let Ok(real) = object.cast::<PyFloat>() {
        return Ok(Value::Real(real.value()));
    }
    if let Ok(string) = object.cast::<PyString>() {
        let text = string.to_cow().map_err(|_| refused(format!("parameter {place}: text that is not Unicode (a lone surrogate)")))?;
        return Ok(Value::Text(text.into_owned().into_bytes()));
    }
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Ok(Value::Blob(bytes.as_bytes().to_vec()));
    }
    Err(refused(format!(
        "parameter {place}: no SQLite type for {}",
        object.get_type().name().map_or_else(|_| "it".to_owned(), |name| name.to_string())
    )))
}

impl Parameters {
    pub fn take(object: &Bound<'_, PyAny>) -> Result<Parameters, Failure> {
        let positional = |items: Vec<Bound<'_, PyAny>>| {
            let values: Result<_, _> = items.iter().enumerate().map(|(index, item)| value(item, &(index + 1).to_string())).collect();
            values.map(Parameters::Positional)
        };
        if let Ok(tuple) = object.cast::<PyTuple>() {
            return positional(tuple.iter().collect());
        }
        if let Ok(list) = object.cast::<PyList>() {
            return positional(list.iter().collect());
        }
        let Ok(named) = object.cast::<PyDict>() else {
            return Err(refused("parameters are a list or a dictionary".to_owned()));
        };
        let mut values = Vec::with_capacity(named.len());
        for (key, item) in named.iter() {
            let name: String = key.extract().map_err(|_| refused("a parameter's name is text".to_owned()))?;
            values.push((name.clone(), value(&item, &name)?));
        }
        Ok(Parameters::Named(values))
    }

    /// Binds all of them, none left over and none missing.
    pub fn bind(&self, handle: &Handle, statement: &Statement) -> Result<(), Failure> {
        let wanted = statement.parameter_count();
        match self {
            Parameters::Positional(values) => {
                if values.len() != wanted {
                    return Err(refused(format!("it takes {wanted}, {} were sent", values.len())));
                }
                for (index, value) in values.iter().enumerate() {
                    bind_one(handle, statement, index + 1, value)?;
                }
            }
            Parameters::Named(values) => {
                let mut bound = vec![false; wanted];
                for (name, value) in values {
                    let indices = indices_of(statement, name);
                    if indices.is_empty() {
                        return Err(refused(format!("it has no {name}")));
                    }
                    for index in indices {
                        if std::mem::replace(&mut bound[index - 1], true) {
                            return Err(refused(format!("{name} was sent twice")));
                        }
                        bind_one(handle, statement, index, value)?;
                    }
                }
                if let Some(missing) = bound.iter().position(|given| !given) {
                    let name = unsafe { crate::sqlite::text(ffi::sqlite3_bind_parameter_name(statement.raw, missing as c_int + 1)) };
                    let name = if name.is_empty() { format!("{}", missing + 1) } else { name[1..].to_owned() };
                    return Err(refused(format!("{name} is missing")));
                }
            }
        }
        Ok(())
    }
}

/// A name without its sign means every parameter of that name.
fn indices_of(statement: &Statement, name: &str) -> Vec<usize> {
    let find = |name: String| {
        let name = CString::new(name).ok()?;
        let index = unsafe { ffi::sqlite3_bind_parameter_index(statement.raw, name.as_ptr()) };
        usize::try_from(index).ok().filter(|index| *index > 0)
    };
    if name.starts_with([':', '@', '$', '?']) {
        return find(name.to_owned()).into_iter().collect();
    }
    [':', '@', '$'].iter().filter_map(|sign| find(format!("{sign}{name}"))).collect()
}

fn bind_one(handle: &Handle, statement: &Statement, index: usize, value: &Value) -> Result<(), Failure> {
    let index = index as c_int;
    let raw = statement.raw;
    // Static: the caller keeps the values until the statement is reset.
    let code = unsafe {
        match value {
            Value::Null => ffi::sqlite3_bind_null(raw, index),
            Value::Integer(integer) => ffi::sqlite3_bind_int64(raw, index, *integer),
            Value::Real(real) => ffi::sqlite3_bind_double(raw, index, *real),
            Value::Text(text) => {
                let begin: *const c_char = text.as_ptr().cast();
                ffi::sqlite3_bind_text64(raw, index, begin, text.len() as u64, None, ffi::SQLITE_UTF8 as u8)
            }
            Value::Blob(blob) if blob.is_empty() => ffi::sqlite3_bind_zeroblob(raw, index, 0),
            Value::Blob(blob) => ffi::sqlite3_bind_blob64(raw, index, blob.as_ptr().cast(), blob.len() as u64, None),
        }
    };
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(Failure::running(handle, code)) }
}
