//! The rule of imports, held: who may import whom, and which folder alone may use a heavy crate. ARCHITECTURE.md says why.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where something is not as it should be")]

use std::fs;
use std::path::{Path, PathBuf};

/// A module of the crate and the modules of the crate it may import.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("failpoint", &[]),
    ("domain", &[]),
    ("settings", &["domain"]),
    ("mysql", &["domain", "settings", "failpoint"]),
    ("broker", &["domain", "settings", "mysql", "failpoint"]),
    ("enforcer", &["domain", "settings", "mysql", "failpoint"]),
    ("http", &["domain", "settings", "broker"]),
    ("local_server", &[]),
    ("telemetry", &["settings"]),
    ("commands", &["domain", "settings", "mysql", "broker", "enforcer", "http", "local_server", "telemetry"]),
];

/// A crate and the only folder that may use it.
const ONE_FOLDER: &[(&str, &str)] = &[
    ("sqlx", "mysql"),
    ("deadpool", "mysql"),
    ("actix_web", "http"),
    ("actix_web_httpauth", "http"),
    ("config", "settings"),
    ("clap", "commands"),
    ("comfy_table", "commands"),
    ("indicatif", "commands"),
    ("reqwest", "commands"),
    ("anyhow", "commands"),
    ("sysinfo", "broker"),
    ("jsonschema", "domain"),
];

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Each source file: the module it belongs to, its path, and its lines without comments.
fn sources() -> Vec<(String, PathBuf, Vec<String>)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    files
        .into_iter()
        .filter_map(|path| {
            let relative = path.strip_prefix(&source).unwrap().to_owned();
            let first = relative.components().next()?.as_os_str().to_str()?.trim_end_matches(".rs").to_owned();
            let lines =
                fs::read_to_string(&path).unwrap().lines().filter(|line| !line.trim_start().starts_with("//")).map(str::to_owned).collect();
            (!["lib", "main"].contains(&first.as_str())).then_some((first, relative, lines))
        })
        .collect()
}

/// Whether a line mentions a path that begins with `name::`, not as the end of another name.
fn mentions(line: &str, name: &str) -> bool {
    let needle = format!("{name}::");
    line.match_indices(&needle).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
}

#[test]
fn modules_import_only_what_they_may() {
    let mut wrong = Vec::new();
    for (module, path, lines) in sources() {
        let allowed = MAY_IMPORT.iter().find(|(name, _)| *name == module).unwrap_or_else(|| panic!("{module} has no rule: add one here")).1;
        for (number, line) in lines.iter().enumerate() {
            for (other, _) in MAY_IMPORT {
                if *other != module
                    && !allowed.contains(other)
                    && (line.contains(&format!("crate::{other}::")) || line.contains(&format!("crate::{other}::{{")))
                {
                    wrong.push(format!("{}:{}: {module} may not import {other}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_heavy_crate_lives_in_one_folder() {
    let mut wrong = Vec::new();
    for (module, path, lines) in sources() {
        for (number, line) in lines.iter().enumerate() {
            for (name, folder) in ONE_FOLDER {
                if module != *folder && mentions(line, name) {
                    wrong.push(format!("{}:{}: {name} belongs to {folder}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_rules_can_fail() {
    assert!(mentions("use sqlx::Row;", "sqlx") && mentions("    sqlx::query(\"x\")", "sqlx"));
    assert!(!mentions("use crate::config::X;", "config") && !mentions("my_sqlx::x()", "sqlx"));
}
