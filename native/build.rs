//! Puts row counters into SQLite's amalgamation, which the crate libsqlite3-sys carries, and compiles it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

#[path = "insertions.rs"]
mod insertions;

/// Names beginning so are the platform's own, in every tenant's file.
const HIDDEN_PREFIX: &str = "_tovuk_";

/// Where cargo unpacked the crate: its folder is not passed on when its own build of SQLite is off.
fn amalgamation() -> PathBuf {
    let manifest = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap()).join("Cargo.toml");
    let output = Command::new(env::var("CARGO").unwrap())
        .args(["metadata", "--format-version", "1", "--offline", "--manifest-path"])
        .arg(manifest)
        // Crates that only other platforms need were not fetched.
        .args(["--filter-platform", &env::var("TARGET").unwrap()])
        .output()
        .expect("cargo metadata");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo metadata speaks UTF-8");
    let folders: Vec<&str> = text
        .split("\"manifest_path\":\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .filter(|path| path.contains("libsqlite3-sys-"))
        .collect();
    assert_eq!(folders.len(), 1, "one libsqlite3-sys: {folders:?}");
    Path::new(folders[0]).parent().unwrap().join("sqlite3")
}

fn patched(mut source: String) -> String {
    for insertion in insertions::INSERTIONS {
        let place = format!("{}{}", insertion.after, insertion.before);
        let found = source.matches(&place).count();
        assert_eq!(found, 1, "insertion {:?} found {found} places", insertion.why);
        source = source.replacen(&place, &format!("{}{}{}", insertion.after, insertion.text, insertion.before), 1);
    }
    source + "\n#include \"counters.c\"\n"
}

fn main() {
    for file in ["build.rs", "insertions.rs", "sqlite/counters.h", "sqlite/counters.c"] {
        println!("cargo:rerun-if-changed={file}");
    }
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "macos") {
        // Python's own symbols are found when the extension is loaded.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-undefined,dynamic_lookup");
    }
    println!("cargo:rustc-env=TOVUK_HIDDEN_PREFIX={HIDDEN_PREFIX}");
    let source = amalgamation();
    let out = PathBuf::from(env::var("OUT_DIR").unwrap());
    let text = fs::read_to_string(source.join("sqlite3.c")).expect("sqlite3.c");
    fs::write(out.join("sqlite3.c"), patched(text)).unwrap();
    let mut build = cc::Build::new();
    build.file(out.join("sqlite3.c")).include("sqlite").include(&source).opt_level(2).warnings(false);
    build.define("TOVUK_HIDDEN_PREFIX", Some(format!("\"{HIDDEN_PREFIX}\"").as_str()));
    for (name, value) in insertions::OPTIONS {
        build.define(name, *value);
    }
    build.compile("tovuk_sqlite");
}
