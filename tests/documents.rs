//! What the documents promise is what the program has: verbs, options, settings with their defaults, metrics, names of tests and files.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where something is not as it should be"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use yaml_rust2::{Yaml, YamlLoader};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Runs the program: exit code, stdout, stderr.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_cf-mysql-broker")).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// What stands in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The cells of every table row.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter_map(|line| Some(line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect()))
}

/// Every file below a folder.
fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

/// The verbs that scripts, operators and the BOSH jobs rely on, with their options.
const INTERFACE: &[(&[&str], &[&str])] = &[
    (&["serve"], &["--config"]),
    (&["quota-enforcer"], &["--config", "--once", "--json"]),
    (&["migrate"], &["--config"]),
    (&["check-config"], &["--config"]),
    (&["dev"], &["--port", "--data-dir", "--disk", "--brokers", "--server", "--json", "--demo"]),
    (&["capacity"], &["--config", "--json"]),
    (&["instances"], &["--config", "--json"]),
    (&["instances", "list"], &["--config", "--json"]),
    (&["instances", "show"], &["<ID>", "--config", "--json"]),
    (&["reclaim"], &["<ID>", "--config", "--json"]),
    (&["reconcile"], &["--config", "--json", "--apply", "--wait"]),
    (&["doctor"], &["--config", "--json"]),
    (&["audit"], &["--config", "--json", "--instance", "--limit"]),
    (&["operator-accounts"], &["--config", "--server-version", "--partial-revokes"]),
    (&["check-credentials"], &[]),
];

#[test]
fn every_verb_has_the_options_of_the_interface_and_no_other() {
    for (verb, promised) in INTERFACE {
        let (code, help, _) = run(&[*verb, &["--help"]].concat());
        assert_eq!(code, Some(0), "{verb:?}");
        let listed: BTreeSet<&str> = help
            .lines()
            .filter_map(|line| line.split_whitespace().find(|word| !word.starts_with("-h")))
            .filter(|word| (word.starts_with("--") || *word == "<ID>") && *word != "--help")
            .collect();
        assert_eq!(listed, promised.iter().copied().collect(), "{verb:?}\n{help}");
    }
}

#[test]
fn readme_has_every_verb() {
    let (_, help, _) = run(&["--help"]);
    let commands = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let verbs: BTreeSet<&str> = commands.lines().filter_map(|line| line.split_whitespace().next()).filter(|verb| *verb != "help").collect();
    let tested: BTreeSet<&str> = INTERFACE.iter().map(|(verb, _)| verb[0]).collect();
    assert_eq!(verbs, tested, "a verb is in the table of this test");
    let readme = read("README.md");
    let table = readme.split("| verb | does |").nth(1).unwrap().split("\n\n").next().unwrap();
    let documented: BTreeSet<&str> =
        rows(table).flat_map(|cells| quoted(cells[0])).filter_map(|text| text.split_whitespace().next()).collect();
    assert_eq!(documented, verbs);
}

/// Settings with everything in them that may be left out.
fn complete() -> Value {
    json!({
        "server": {"credentials": [{"username": "admin", "password": "secret"}],
                   "tls": {"certificate_file": "/dev/null", "private_key_file": "/dev/null"}},
        "mysql": {"username": "broker", "password": "secret", "tls": {"mode": "preferred"}},
        "capacity": {"persistent_disk": 1000},
        "quota_enforcer": {"enabled": true},
        "bindings": {"secrets": [{"id": "1", "key": "0123456789abcdef0123456789abcdef"}]},
        "services": [{"id": "s", "name": "p-mysql", "description": "d",
                      "dashboard_client": {"id": "c", "secret": "s", "redirect_uri": "u"},
                      "plans": [{"id": "p", "name": "small", "description": "d", "max_storage_mb": 10, "maintenance_info": {"version": "1.0.0"}}]}],
        "audit": {"retention_days": 1},
        "logging": {"format": "json"},
    })
}

/// Every mapping in the settings by its path, and where it is.
fn mappings(value: &Value, path: &str, pointer: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            found.push((path.to_owned(), pointer.to_owned()));
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                mappings(value, &path, &format!("{pointer}/{key}"), found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| mappings(item, &format!("{path}[]"), &format!("{pointer}/0"), found)),
        _ => {}
    }
}

/// Every key the program knows, by its path: what it says itself when it meets one that it does not know.
fn known_keys() -> BTreeSet<String> {
    let settings = complete();
    let mut all = Vec::new();
    mappings(&settings, "", "", &mut all);
    let containers: BTreeSet<String> = all.iter().map(|(path, _)| path.clone()).collect();
    let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    let mut keys = BTreeSet::new();
    for (path, pointer) in all.iter().filter(|(path, _)| !path.is_empty()) {
        let mut changed = settings.clone();
        changed.pointer_mut(pointer).unwrap()["no_such_key"] = json!(1);
        fs::write(file.path(), changed.to_string()).unwrap();
        let (code, _, problems) = run(&["check-config", "--config", file.path().to_str().unwrap()]);
        assert_eq!(code, Some(78), "{path}");
        let problem = problems.lines().find(|line| line.contains("no_such_key")).unwrap_or_else(|| panic!("{path}: {problems}"));
        keys.extend(quoted(problem).into_iter().filter(|key| *key != "no_such_key").map(|key| format!("{path}.{key}")));
    }
    keys.retain(|key| !containers.contains(key) && !containers.contains(&format!("{key}[]")));
    keys
}

/// Every key in docs/settings.md with its default as it stands there.
fn documented_keys(text: &str) -> BTreeMap<String, String> {
    rows(text)
        .filter(|cells| cells.len() == 3 && cells[0].starts_with('`'))
        .flat_map(|cells| quoted(cells[0]).into_iter().map(|key| (key.to_owned(), cells[1].to_owned())).collect::<Vec<_>>())
        .collect()
}

#[test]
fn every_setting_is_documented_with_its_default() {
    let text = read("docs/settings.md");
    let documented = documented_keys(&text);
    let known = known_keys();
    assert!(known.contains("quota_enforcer.pause") && known.contains("services[].plans[].max_storage_mb"), "{known:#?}");
    assert_eq!(documented.keys().cloned().collect::<BTreeSet<_>>(), known);

    let defaults = YamlLoader::load_from_str(&read("config/default.yml")).unwrap();
    let mut found = Vec::new();
    leaves(&defaults[0], "", &mut found);
    for (key, value) in &found {
        let shown = &documented.get(key).unwrap_or_else(|| panic!("{key} of config/default.yml is no setting"));
        assert_eq!(*shown, value, "{key}");
    }
    for (key, shown) in &documented {
        let is_said_otherwise = shown.is_empty() || ["required", "none", "`", "the "].iter().any(|word| shown.starts_with(word));
        let is_of_a_list = key.contains("[]");
        assert!(is_said_otherwise || is_of_a_list || found.iter().any(|(path, _)| path == key), "{key}: {shown} is nobody's default");
    }
}

fn leaves(yaml: &Yaml, path: &str, found: &mut Vec<(String, String)>) {
    let text = |yaml: &Yaml| match yaml {
        Yaml::String(text) | Yaml::Real(text) => text.clone(),
        Yaml::Integer(number) => number.to_string(),
        Yaml::Boolean(flag) => flag.to_string(),
        other => panic!("{other:?}"),
    };
    match yaml {
        Yaml::Hash(map) => {
            for (key, value) in map {
                let key = text(key);
                leaves(value, &if path.is_empty() { key } else { format!("{path}.{key}") }, found);
            }
        }
        Yaml::Array(items) => found.push((path.to_owned(), items.iter().map(text).collect::<Vec<_>>().join(", "))),
        other => found.push((path.to_owned(), text(other))),
    }
}

/// It says of itself that it is complete.
#[test]
fn the_example_has_every_setting() {
    let example = read("config/example.yml");
    let words: BTreeSet<&str> = example.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let missing: Vec<_> = known_keys().into_iter().filter(|key| !words.contains(key.rsplit('.').next().unwrap())).collect();
    // other spellings, for those who come from cf-mysql
    assert_eq!(missing, ["services[].plan_updatable", "services[].plans[].guid"]);
}

#[test]
fn every_metric_is_documented_and_described() {
    let mut used = BTreeSet::new();
    let mut described = BTreeSet::new();
    for file in files("src") {
        let text = fs::read_to_string(&file).unwrap();
        for (at, _) in text.match_indices("!(\"cf_mysql_") {
            let name = text[at + 3..].split('"').next().unwrap().to_owned();
            match text[..at].rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap() {
                "describe_counter" | "describe_gauge" | "describe_histogram" => drop(described.insert(name)),
                "counter" | "gauge" | "histogram" => drop(used.insert(name)),
                _ => {}
            }
        }
    }
    assert!(used.contains("cf_mysql_enforcer_leader"), "{used:?}");
    assert_eq!(described, used, "src/telemetry.rs says what each metric is");
    let operations = read("docs/operations.md");
    let documented: BTreeSet<String> = rows(&operations)
        .flat_map(|cells| quoted(cells[0]))
        .filter(|name| name.starts_with("cf_mysql_"))
        .map(|name| name.split('{').next().unwrap().to_owned())
        .collect();
    assert_eq!(documented, used);
}

/// The documents for people.
fn documents() -> Vec<String> {
    let mut names: Vec<String> = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(str::to_owned).into();
    let docs = files("docs").into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    names.extend(docs.map(|path| path.strip_prefix(root()).unwrap().display().to_string()));
    names
}

#[test]
fn links_and_paths_lead_somewhere() {
    let mut wrong = Vec::new();
    for document in documents() {
        let text = read(&document);
        let folder = root().join(&document).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
            if link.starts_with("http") {
                continue;
            }
            if !file.is_empty() && !folder.join(file).exists() {
                wrong.push(format!("{document}: {link}"));
            }
            let headings = if file.is_empty() { text.clone() } else { fs::read_to_string(folder.join(file)).unwrap_or_default() };
            if anchor.is_some_and(|anchor| !headings.lines().any(|line| line.starts_with('#') && slug(line) == anchor)) {
                wrong.push(format!("{document}: no heading {link}"));
            }
        }
        for name in quoted(&text) {
            let path = name.split([' ', ':']).next().unwrap();
            let is_path = path.contains('/')
                && ["src/", "scripts/", "tests/", "docs/", "config/", "bosh/", "deploy/"].iter().any(|f| path.starts_with(f));
            if is_path && !path.contains('*') && !path.ends_with("...") && !root().join(path).exists() {
                wrong.push(format!("{document}: {path}"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// As GitHub makes anchors of headings.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == ' ').map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn the_invariants_name_files_and_tests_that_exist() {
    let text = read("ARCHITECTURE.md");
    let table = text.split("| what always holds | where | tested by |").nth(1).unwrap().split("\n\n").next().unwrap();
    let tests: String = files("tests")
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let mut wrong = Vec::new();
    for cells in rows(table).skip(1) {
        for name in quoted(cells[1]) {
            let is_there = ["", "src/"].iter().any(|folder| root().join(folder).join(name.split(':').next().unwrap()).exists());
            if !is_there && !name.contains('*') && !name.contains("::") && name.contains('.') {
                wrong.push(name.to_owned());
            }
        }
        for name in quoted(cells[2]) {
            let (module, test) = name.split_once("::").unwrap_or((name, ""));
            let module_is_there =
                [format!("tests/it/{module}.rs"), format!("tests/{module}.rs"), module.to_owned(), format!("src/domain/{module}.rs")]
                    .iter()
                    .any(|path| root().join(path).exists());
            let test = test.trim_end_matches("...");
            if name.contains('(') {
                continue;
            }
            if !module_is_there || !(test.is_empty() || tests.contains(&format!("fn {test}"))) {
                wrong.push(name.to_owned());
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn every_ops_file_is_in_its_document() {
    let text = read("docs/deploy-bosh.md");
    let named = quoted(&text);
    for file in files("bosh/operations") {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(named.iter().any(|word| *word == name || word.ends_with(&format!("/{name}"))), "{name}");
    }
}
