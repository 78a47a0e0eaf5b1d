//! Values of SQLite as JSON: reversible, and always legal JSON.
//!
//! NULL `null`; integers plain; reals with a point or an exponent, infinities `{"real": "inf"}`; text a string;
//! blobs `{"base64": …}`. SQLite has no NaN.

use std::ffi::c_int;
use std::io::Write;
use std::slice;

use crate::sqlite::{Statement, ffi};

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends the value of one column of the current row. False: it is text whose bytes are not UTF-8, which JSON cannot carry.
pub fn value(out: &mut Vec<u8>, statement: &Statement, column: c_int) -> bool {
    let raw = statement.raw;
    unsafe {
        match ffi::sqlite3_column_type(raw, column) {
            ffi::SQLITE_INTEGER => integer(out, ffi::sqlite3_column_int64(raw, column)),
            ffi::SQLITE_FLOAT => real(out, ffi::sqlite3_column_double(raw, column)),
            ffi::SQLITE_TEXT => {
                let begin = ffi::sqlite3_column_text(raw, column);
                return text(out, bytes(begin, ffi::sqlite3_column_bytes(raw, column)));
            }
            ffi::SQLITE_BLOB => {
                let begin = ffi::sqlite3_column_blob(raw, column);
                encoded(out, b"{\"base64\":\"", bytes(begin.cast(), ffi::sqlite3_column_bytes(raw, column)));
            }
            _ => out.extend_from_slice(b"null"),
        }
    }
    true
}

/// SQLite answers null for the empty value.
unsafe fn bytes<'a>(begin: *const u8, length: c_int) -> &'a [u8] {
    if begin.is_null() || length <= 0 { &[] } else { unsafe { slice::from_raw_parts(begin, length as usize) } }
}

pub fn integer(out: &mut Vec<u8>, value: i64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

fn real(out: &mut Vec<u8>, value: f64) {
    if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"{\"real\":\"inf\"}" } else { b"{\"real\":\"-inf\"}" });
    } else {
        // The shortest text that reads back as the same number; it never looks like an integer.
        let _ = write!(out, "{value:?}");
    }
}

/// Appends a string. False: the bytes are not UTF-8.
pub fn text(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    if std::str::from_utf8(bytes).is_err() {
        return false;
    }
    out.push(b'"');
    let mut plain = 0;
    for (index, byte) in bytes.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[plain..index]);
        plain = index + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
    true
}

fn encoded(out: &mut Vec<u8>, opening: &[u8], bytes: &[u8]) {
    out.extend_from_slice(opening);
    out.reserve(bytes.len() / 3 * 4 + 8);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            out.push(if place > group.len() { b'=' } else { BASE64[(bits >> (18 - 6 * place) & 63) as usize] });
        }
    }
    out.extend_from_slice(b"\"}");
}
