//! docs/openapi.yml against the sources: it has every route of src/http/mod.rs and no other, and its examples are what
//! `cf-mysql-broker dev` sells. scripts/fuzz-api holds it against a running broker.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where something is not as it should be")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use yaml_rust2::{Yaml, YamlLoader};

const METHODS: [&str; 8] = ["get", "put", "post", "patch", "delete", "head", "options", "trace"];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn document() -> Yaml {
    YamlLoader::load_from_str(&read("docs/openapi.yml")).unwrap().remove(0)
}

fn keys(yaml: &Yaml) -> impl Iterator<Item = &str> {
    yaml.as_hash().unwrap().keys().map(|key| key.as_str().unwrap())
}

/// `METHOD path` of every operation in the document.
fn documented(document: &Yaml) -> BTreeSet<String> {
    let paths = &document["paths"];
    let of = |path| keys(&paths[path]).filter(|key| METHODS.contains(key)).map(move |method| format!("{method} {path}"));
    keys(paths).flat_map(of).collect()
}

/// `METHOD path` of every route of the broker: resources in the function `routes`, those made before `config` or inside of
/// `scope` below the scope's path.
fn routed(source: &str) -> BTreeSet<String> {
    let body = source.split("\nfn routes(").nth(1).unwrap().split("\n}\n").next().unwrap();
    let scope = body.split("web::scope(\"").nth(1).unwrap().split('"').next().unwrap();
    let (below, beside) = body.split_once("\n    config\n").unwrap();
    let mut found = BTreeSet::new();
    for (part, prefix) in [(below, scope), (beside, "")] {
        for resource in part.split("web::resource(\"").skip(1) {
            let path = resource.split('"').next().unwrap();
            for method in METHODS {
                if [".route(", ".route(versioned("].iter().any(|route| resource.contains(&format!("{route}web::{method}()"))) {
                    found.insert(format!("{method} {prefix}{path}"));
                }
            }
        }
        // another way to write a route would escape this test
        let known = part.matches(".route(web::").count() + part.matches(".route(versioned(web::").count();
        assert_eq!(part.matches(".route(").count(), known);
    }
    found
}

#[test]
fn the_document_has_every_route_and_no_other() {
    let (documented, routed) = (documented(&document()), routed(&read("src/http/mod.rs")));
    assert!(routed.len() > 10, "routes are no longer found: {routed:?}");
    assert_eq!(documented, routed);
}

/// Every `$ref` below `yaml`.
fn references(yaml: &Yaml, found: &mut BTreeSet<String>) {
    match yaml {
        Yaml::Array(items) => items.iter().for_each(|item| references(item, found)),
        Yaml::Hash(hash) => {
            for (key, value) in hash {
                match (key.as_str(), value.as_str()) {
                    (Some("$ref"), Some(target)) => drop(found.insert(target.to_owned())),
                    _ => references(value, found),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn references_and_components_match() {
    let document = document();
    let mut used = BTreeSet::new();
    references(&document, &mut used);
    let components = &document["components"];
    let defined = keys(components)
        .filter(|kind| *kind != "securitySchemes")
        .flat_map(|kind| keys(&components[kind]).map(move |name| format!("#/components/{kind}/{name}")))
        .collect();
    assert_eq!(used, defined, "left: used, right: defined");
}

#[test]
fn every_operation_has_an_id_and_says_what_refuses_it() {
    let document = document();
    let mut ids = BTreeSet::new();
    for operation in documented(&document) {
        let (method, path) = operation.split_once(' ').unwrap();
        let described = &document["paths"][path][method];
        assert!(ids.insert(described["operationId"].as_str().unwrap().to_owned()), "{operation}: its id is used twice");
        let answers: Vec<&str> = keys(&described["responses"]).collect();
        let expected: &[&str] = match (path.starts_with("/v2/"), method) {
            (true, "put" | "patch") => &["400", "401", "412", "413", "429", "500"],
            (true, _) => &["400", "401", "412", "429", "500"],
            (false, _) => &["200"],
        };
        for status in expected {
            assert!(answers.contains(status), "{operation}: {status} is missing");
        }
    }
}

#[test]
fn examples_are_what_dev_sells() {
    let document = document();
    let state = read("src/commands/dev/state.rs");
    let ids = |name: &str| -> Vec<String> {
        let examples = document["components"]["schemas"][name]["examples"].as_vec().unwrap();
        examples.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((ids("ServiceId"), ids("PlanId")), (ids("OptionalServiceId"), ids("OptionalPlanId")));
    for id in ids("ServiceId") {
        assert!(state.contains(&format!("SERVICE_ID: &str = \"{id}\"")), "{id}");
    }
    let plans = state.split("PLANS: ").nth(1).unwrap().split("];").next().unwrap();
    for id in ids("PlanId") {
        assert!(plans.contains(&format!("\"{id}\"")), "{id}");
    }
    assert_eq!(ids("PlanId").len(), plans.matches("(\"").count());
}
