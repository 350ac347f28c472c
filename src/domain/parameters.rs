//! The parameters users may pass with `-c`, described by the very schemas that are published in the catalog
//! (draft 4, because Cloud Controller accepts nothing newer) and enforced by them.

use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// A set of parameters: always an object.
pub type Parameters = Map<String, Value>;

/// The requests that take parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParametersOf {
    /// `PUT /v2/service_instances/:id`
    Provision,
    /// `PATCH /v2/service_instances/:id`
    Update,
    /// `PUT .../service_bindings/:id`
    Bind,
}

/// Parameters that break their schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("The parameters are not valid at '{pointer}': {reason}.")]
pub struct ParametersError {
    /// JSON pointer of the offending place, `/` and the key for an unknown one.
    pub pointer: String,
    /// What would be right.
    pub reason: String,
}

const DRAFT_4: &str = "http://json-schema.org/draft-04/schema#";

static PROVISION: LazyLock<Value> = LazyLock::new(|| {
    let name = |what: &str| json!({"type": "string", "pattern": "^[A-Za-z0-9_]{1,64}$", "description": format!("The {what} of the new database, as the server names it.")});
    json!({"$schema": DRAFT_4, "type": "object", "additionalProperties": false,
           "properties": {"charset": name("character set"), "collation": name("collation")}})
});
static UPDATE: LazyLock<Value> = LazyLock::new(|| {
    json!({"$schema": DRAFT_4, "type": "object", "additionalProperties": false,
           "properties": {"reclaim": {"type": "boolean", "description": "true: rebuild tables, so that the space of deleted rows is free again."}}})
});
static BIND: LazyLock<Value> = LazyLock::new(|| {
    json!({"$schema": DRAFT_4, "type": "object", "additionalProperties": false,
           "properties": {"read-only": {"type": "boolean", "description": "true: the credentials can read, and nothing else."}}})
});

impl ParametersOf {
    /// The schema, as the catalog publishes it.
    pub fn schema(self) -> &'static Value {
        match self {
            Self::Provision => &PROVISION,
            Self::Update => &UPDATE,
            Self::Bind => &BIND,
        }
    }

    /// Checks parameters by their schema.
    ///
    /// # Errors
    /// The first violation, with the JSON pointer of its place.
    pub fn check(self, parameters: &Parameters) -> Result<(), ParametersError> {
        if parameters.is_empty() {
            return Ok(());
        }
        if let Value::Object(properties) = &self.schema()["properties"]
            && let Some(unknown) = parameters.keys().find(|key| !properties.contains_key(*key))
        {
            let known: Vec<_> = properties.keys().map(String::as_str).collect();
            let pointer = format!("/{}", unknown.chars().take(64).collect::<String>().replace('~', "~0").replace('/', "~1"));
            let reason = match known.as_slice() {
                [] => "no parameters are known here".to_owned(),
                _ => format!("this parameter is not known; known are: {}", known.join(", ")),
            };
            return Err(ParametersError { pointer, reason });
        }
        let parameters = Value::Object(parameters.clone());
        let Some(validator) = self.validator() else {
            return Err(ParametersError { pointer: "/".to_owned(), reason: "the schema of these parameters is broken".to_owned() });
        };
        match validator.iter_errors(&parameters).next() {
            None => Ok(()),
            // the masked form says the rule and not the user's value, which may be a secret pasted into the wrong place
            Some(error) => {
                Err(ParametersError { pointer: error.instance_path().to_string(), reason: error.masked_with("the value").to_string() })
            }
        }
    }

    fn validator(self) -> Option<&'static Validator> {
        static VALIDATORS: LazyLock<[Option<Validator>; 3]> =
            LazyLock::new(|| [&*PROVISION, &*UPDATE, &*BIND].map(|schema| jsonschema::draft4::new(schema).ok()));
        VALIDATORS[self as usize].as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(of: ParametersOf, value: Value) -> Result<(), (String, String)> {
        let Value::Object(map) = value else { panic!("an object") };
        of.check(&map).map_err(|e| (e.pointer, e.reason))
    }

    #[test]
    fn schemas_are_valid_draft_4_and_self_contained() {
        for of in [ParametersOf::Provision, ParametersOf::Update, ParametersOf::Bind] {
            assert!(of.validator().is_some(), "{of:?}");
            assert!(jsonschema::draft4::meta::is_valid(of.schema()));
            assert!(!of.schema().to_string().contains("$ref"));
        }
    }

    #[test]
    fn what_is_known_passes() {
        assert_eq!(check(ParametersOf::Provision, json!({"charset": "utf8mb4", "collation": "utf8mb4_bin"})), Ok(()));
        assert_eq!(check(ParametersOf::Bind, json!({"read-only": true})), Ok(()));
        assert_eq!(check(ParametersOf::Update, json!({})), Ok(()));
        assert_eq!(check(ParametersOf::Update, json!({"reclaim": true})), Ok(()));
    }

    #[test]
    fn what_is_wrong_names_its_place_and_hides_the_value() {
        let (pointer, reason) = check(ParametersOf::Bind, json!({"read-only": "hunter2"})).unwrap_err();
        assert_eq!(pointer, "/read-only");
        assert!(reason.contains("boolean") && !reason.contains("hunter2"), "{reason}");
        assert_eq!(check(ParametersOf::Bind, json!({"read/only": true})).unwrap_err().0, "/read~1only");
        assert_eq!(check(ParametersOf::Provision, json!({"charset": "x; DROP"})).unwrap_err().0, "/charset");
    }
}
