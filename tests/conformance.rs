//! Every row of the contract has a test: `docs/conformance.md` lists them, and this fails when one is missing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where something is not as it should be")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The sections of the requirements and how many rows each has. Dashboard single sign-on (SS) is not part of the broker yet.
const ROWS: &[(&str, usize)] = &[
    ("AU", 6),
    ("HV", 4),
    ("HI", 2),
    ("HO", 3),
    ("HX", 1),
    ("HC", 5),
    ("ER", 8),
    ("ID", 5),
    ("SY", 5),
    ("CA", 16),
    ("PR", 15),
    ("GI", 7),
    ("UP", 15),
    ("LO", 8),
    ("BI", 21),
    ("BR", 6),
    ("GB", 4),
    ("UB", 7),
    ("DE", 8),
    ("OR", 7),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The rows of the document and the tests each names.
fn rows() -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(root().join("docs/conformance.md")).unwrap();
    text.lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let id = cells.get(1)?;
            let is_row = id.split_once('-').is_some_and(|(section, number)| section.len() == 2 && number.parse::<usize>().is_ok());
            let tests = cells.get(3)?.split(',').map(|test| test.trim().trim_matches('`').to_owned()).collect();
            is_row.then(|| ((*id).to_owned(), tests))
        })
        .collect()
}

fn exists(test: &str) -> bool {
    let (place, name) = test.rsplit_once("::").unwrap_or(("", test));
    let file = if place.starts_with("src/") { root().join(place) } else { root().join(format!("tests/it/{place}.rs")) };
    fs::read_to_string(file).is_ok_and(|text| text.contains(&format!("fn {name}(")))
}

#[test]
fn every_row_has_a_test() {
    let rows = rows();
    let wanted = ROWS.iter().flat_map(|(section, count)| (1..=*count).map(move |number| format!("{section}-{number}")));
    let missing: Vec<_> = wanted.filter(|id| rows.get(id).is_none_or(|tests| tests.iter().all(String::is_empty))).collect();
    assert!(missing.is_empty(), "without a test: {missing:?}");
}

#[test]
fn every_test_that_is_named_exists() {
    let unknown: Vec<_> = rows()
        .into_iter()
        .flat_map(|(id, tests)| tests.into_iter().filter(|test| !exists(test)).map(move |test| format!("{id}: {test}")))
        .collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
}
