//! The layers, and how a section of them becomes a struct. serde stops at the first fault; here a value that cannot be read
//! is reported, taken out, and the section is read again, until what is left can be read.

use std::path::Path;

use config::{Config, File, FileFormat};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_path_to_error::{Path as KeyPath, Segment};

use super::{ENVIRONMENT_PREFIX, Problems, cloud_foundry};

const DEFAULT: &str = include_str!("../../config/default.yml");

/// All layers merged.
pub(super) struct Layers {
    sections: Map<String, Value>,
}

impl Layers {
    /// Reads the compiled-in default, the file, what Cloud Foundry says and the environment; later ones win key by key, lists
    /// as a whole.
    pub(super) fn read(file: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>, problems: &mut Problems) -> Self {
        let mut builder = Config::builder().add_source(File::from_str(DEFAULT, FileFormat::Yaml));
        if let Some(path) = file {
            let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
            let format = if is_json { FileFormat::Json } else { FileFormat::Yaml };
            match std::fs::read_to_string(path) {
                Err(error) => problems.add(path.display().to_string(), format!("cannot be read: {error}")),
                Ok(text) => match Config::builder().add_source(File::from_str(&text, format)).build() {
                    Ok(_) => builder = builder.add_source(File::from_str(&text, format)),
                    Err(_) => problems.add(
                        path.display().to_string(),
                        format!("is not valid {}{}", if is_json { "JSON" } else { "YAML" }, syntax_place(&text, is_json)),
                    ),
                },
            }
        }
        let environment: std::collections::HashMap<_, _> = environment.into_iter().collect();
        if let Some(layer) = cloud_foundry::layer(&environment, problems) {
            builder = builder.add_source(File::from_str(&layer.to_string(), FileFormat::Json));
        }
        // never try_parsing: it turns the password `007` into `7`; a text becomes a number where a number is wanted, see `section`
        let source = config::Environment::with_prefix(ENVIRONMENT_PREFIX).prefix_separator("__").separator("__").source(Some(environment));
        let merged = builder.add_source(source).build().and_then(Config::try_deserialize::<Map<String, Value>>);
        let sections = merged.unwrap_or_else(|_| {
            problems.add("settings", "the file and the environment do not fit together: a section must be a mapping of keys to values");
            Map::new()
        });
        Self { sections }
    }

    /// Takes a section out and reads it. What cannot be read is reported with its key path and keeps its default.
    pub(super) fn section<T: DeserializeOwned + Default>(&mut self, name: &str, problems: &mut Problems) -> T {
        let mut value = self.sections.remove(name).unwrap_or(Value::Null);
        if value.is_null() {
            return T::default();
        }
        // every round takes a value out or turns a text into something else, so it ends
        loop {
            let error = match serde_path_to_error::deserialize::<_, T>(value.clone()) {
                Ok(section) => return section,
                Err(error) => error,
            };
            let path = format!("{name}{}", dotted(error.path()));
            let segments: Vec<Segment> = error.path().iter().cloned().collect();
            let reason = error.inner().to_string();
            let wants_else = reason.starts_with("invalid type");
            if wants_else
                && let Some(target) = resolve(&mut value, &segments)
                && let Some(parsed) = parsed_text(target, &reason)
            {
                *target = parsed;
                continue;
            }
            problems.add(path, explain(&reason, resolve(&mut value, &segments).as_deref()));
            if !take_out(&mut value, &segments) {
                return T::default();
            }
        }
    }

    /// Reports sections nobody has taken.
    pub(super) fn refuse_the_rest(&self, problems: &mut Problems) {
        for name in self.sections.keys() {
            problems.add(
                name.as_str(),
                "is not a known section (known are server, mysql, capacity, quota_enforcer, bindings, services, audit, logging)",
            );
        }
    }
}

/// Where JSON breaks off; `config` would repeat the text around a fault of YAML, which may be a secret.
fn syntax_place(text: &str, is_json: bool) -> String {
    match serde_json::from_str::<Value>(text) {
        Err(error) if is_json => format!(" at line {}, column {}", error.line(), error.column()),
        _ => String::new(),
    }
}

fn dotted(path: &KeyPath) -> String {
    path.iter().fold(String::new(), |mut text, segment| {
        match segment {
            Segment::Seq { index } => text.push_str(&format!("[{index}]")),
            Segment::Map { key } | Segment::Enum { variant: key } => text.push_str(&format!(".{key}")),
            Segment::Unknown => {}
        }
        text
    })
}

fn resolve<'a>(value: &'a mut Value, segments: &[Segment]) -> Option<&'a mut Value> {
    segments.iter().try_fold(value, |value, segment| match segment {
        Segment::Seq { index } => value.get_mut(*index),
        Segment::Map { key } | Segment::Enum { variant: key } => value.get_mut(key.as_str()),
        Segment::Unknown => Some(value),
    })
}

/// A text of the environment where something else is wanted: JSON, or a list of texts separated by commas.
fn parsed_text(target: &Value, reason: &str) -> Option<Value> {
    let text = target.as_str()?;
    let parsed = serde_json::from_str::<Value>(text).ok().filter(|parsed| !parsed.is_string());
    if reason.contains("expected a sequence") {
        return parsed.filter(Value::is_array).or_else(|| {
            Some(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(|item| Value::from(item.to_owned())).collect())
        });
    }
    parsed
}

/// Takes the offending value out: a key from its mapping; an element of a list with the whole list, because what stands
/// behind it would change its number.
fn take_out(value: &mut Value, segments: &[Segment]) -> bool {
    let Some((last, parents)) = segments.split_last() else { return false };
    match (last, resolve(value, parents)) {
        (Segment::Map { key } | Segment::Enum { variant: key }, Some(Value::Object(map))) => {
            map.remove(key).is_some() || take_out(value, parents)
        }
        (Segment::Map { .. } | Segment::Enum { .. } | Segment::Seq { .. } | Segment::Unknown, _) => take_out(value, parents),
    }
}

/// serde's words without the value, which may be a secret.
fn explain(reason: &str, found: Option<&Value>) -> String {
    if let Some((what, expected)) = reason.split_once(", expected ") {
        if let Some(key) = what.strip_prefix("unknown field ") {
            return format!("{key} is not a known key (known are {})", expected.trim_start_matches("one of "));
        }
        if what.starts_with("unknown variant") {
            return format!("must be {expected}");
        }
        let kind = match found {
            None | Some(Value::Null) => "nothing",
            Some(Value::Bool(_)) => "true or false",
            Some(Value::Number(_)) => "a number",
            Some(Value::String(_)) => "a text",
            Some(Value::Array(_)) => "a list",
            Some(Value::Object(_)) => "a mapping",
        };
        let (expected, hint) = match expected {
            "a string" => ("a text", if kind == "a number" || kind == "true or false" { "; put it in quotes" } else { "" }),
            "u16" => ("a whole number from 0 to 65535", ""),
            "u8" => ("a whole number from 0 to 255", ""),
            "u32" | "u64" => ("a whole number, not negative", ""),
            "f64" => ("a number", ""),
            "a boolean" => ("true or false", ""),
            "a sequence" => ("a list", ""),
            other => (other, ""),
        };
        return format!("must be {expected}, but is {kind}{hint}");
    }
    reason.to_owned()
}
