//! What Cloud Foundry tells an app: its port, its routes, its services. A layer between the file and the program's own variables,
//! and only where `VCAP_APPLICATION` says that this is an app: a `PORT` in somebody's shell means nothing.

use std::collections::HashMap;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::{ENVIRONMENT_PREFIX, Problems};

/// The variables that are read.
pub const VARIABLES: [&str; 3] = ["PORT", "VCAP_APPLICATION", "VCAP_SERVICES"];

/// The settings they amount to.
pub(super) fn layer(environment: &HashMap<String, String>, problems: &mut Problems) -> Option<Value> {
    let application = read(environment, "VCAP_APPLICATION", problems)?;
    let mut server = Map::new();
    if let Some(port) = environment.get("PORT") {
        match port.parse::<u16>() {
            Ok(port) => drop(server.insert("port".to_owned(), port.into())),
            Err(_) => problems.add("PORT", "must be a port number"),
        }
    }
    if let Some(route) = application["application_uris"][0].as_str() {
        // a route may have a path
        server.insert("external_host".to_owned(), route.split('/').next().unwrap_or(route).into());
    }
    let mut layer = json!({ "server": server });
    if let Some(services) = read(environment, "VCAP_SERVICES", problems)
        && let Some(mysql) = mysql(&services, environment, problems)
    {
        layer["mysql"] = mysql;
    }
    Some(layer)
}

fn read(environment: &HashMap<String, String>, name: &str, problems: &mut Problems) -> Option<Value> {
    let text = environment.get(name)?;
    // serde's message could repeat a password
    serde_json::from_str(text).map_err(|_| problems.add(name, "is not JSON")).ok()
}

/// The one bound service that looks like a MySQL server, as section `mysql`.
fn mysql(services: &Value, environment: &HashMap<String, String>, problems: &mut Problems) -> Option<Value> {
    let bound = services.as_object()?.values().filter_map(Value::as_array).flatten();
    let found: Vec<(&str, Value)> =
        bound.filter_map(|service| Some((service["name"].as_str().unwrap_or_default(), section(service)?))).collect();
    match found.as_slice() {
        [] => None,
        [(_, section)] => Some(section.clone()),
        several => {
            let is_named = |key: &str| environment.contains_key(&format!("{ENVIRONMENT_PREFIX}__MYSQL__{key}"));
            if !is_named("HOST") && !is_named("HOSTS") {
                let names: Vec<_> = several.iter().map(|(name, _)| *name).collect();
                problems.add(
                    "VCAP_SERVICES",
                    format!(
                        "has several services that look like a MySQL server ({}): unbind all but one, or set mysql.hosts",
                        names.join(", ")
                    ),
                );
            }
            None
        }
    }
}

/// A service's credentials, by cf-mysql's names or those of other brokers and of operators; else by its URI.
fn section(service: &Value) -> Option<Value> {
    let credentials = &service["credentials"];
    let uri = credentials["uri"].as_str().or(credentials["url"].as_str()).and_then(|uri| url::Url::parse(uri).ok());
    let uri = uri.filter(|uri| ["mysql", "mysql2", "mariadb"].contains(&uri.scheme()));
    let is_tagged = service["tags"].as_array().is_some_and(|tags| tags.iter().any(|tag| tag == "mysql"));
    let is_provided = service["label"] == "user-provided" && !credentials["username"].is_null();
    if uri.is_none() && !is_tagged && !(is_provided && credentials["uri"].is_null()) {
        return None;
    }
    let given = |names: &[&str]| names.iter().map(|name| &credentials[*name]).find(|value| !value.is_null()).cloned();
    let decoded =
        |text: &str| percent_decode_str(text).decode_utf8().ok().filter(|text| !text.is_empty()).map(|text| Value::from(text.into_owned()));
    let of_uri = |part: fn(&url::Url) -> Option<&str>| uri.as_ref().and_then(part).and_then(decoded);
    let mut section = Map::new();
    if let Some(host) = given(&["hostname", "host"]).or_else(|| of_uri(url::Url::host_str)) {
        section.insert("hosts".to_owned(), json!([host]));
        // the single-host spelling in a file must not win over this layer
        section.insert("host".to_owned(), Value::Null);
    }
    let port = given(&["port"]).or_else(|| uri.as_ref().and_then(url::Url::port).map(Value::from));
    let username = given(&["username", "user"]).or_else(|| of_uri(|uri| Some(uri.username())));
    let password = given(&["password"]).or_else(|| of_uri(url::Url::password));
    let database = given(&["name", "database"]).or_else(|| of_uri(|uri| Some(uri.path().trim_start_matches('/'))));
    for (key, value) in [("port", port), ("username", username), ("password", password), ("database", database)] {
        if let Some(value) = value {
            section.insert(key.to_owned(), value);
        }
    }
    Some(Value::Object(section))
}
