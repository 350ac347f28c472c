//! Request bodies and queries: JSON objects read field by field, so that every mistake names its field. Unknown fields are
//! ignored (OSB row HC-4); `null` for an optional field is absent, `null` or `""` for a required one is missing (ID-3).

use actix_web::HttpRequest;
use actix_web::http::header;
use serde_json::{Map, Value};

use crate::broker::{Hints, OsbError, Result};
use crate::domain::last_operation::Operation;

/// The longest text of a field: the width of the column that keeps it.
const MAX_TEXT: usize = 255;

/// A request body.
pub(super) struct Body {
    fields: Map<String, Value>,
}

impl Body {
    /// Parses a body; its `Content-Type` must be JSON or missing.
    pub(super) fn parse(request: &HttpRequest, bytes: &[u8]) -> Result<Self> {
        let content_type = request.headers().get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
        if let Some(content_type) = content_type {
            let essence = content_type.split(';').next().unwrap_or_default().trim();
            if !essence.eq_ignore_ascii_case("application/json") {
                return Err(bad("The header 'Content-Type' must be application/json."));
            }
        }
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => Ok(Self { fields }),
            Ok(_) => Err(bad("The body must be a JSON object.")),
            Err(error) => Err(bad(&format!("The body is not valid JSON at line {}, column {}.", error.line(), error.column()))),
        }
    }

    /// A text that must be there.
    pub(super) fn required(&self, name: &str) -> Result<String> {
        self.text(name)?.ok_or_else(|| bad(&format!("The field '{name}' is required.")))
    }

    /// A text; absent, null and empty are none.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>> {
        text_in(&self.fields, name, name)
    }

    /// An object; absent and null are none.
    pub(super) fn object(&self, name: &str) -> Result<Option<Map<String, Value>>> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object.clone())),
            Some(_) => Err(bad(&format!("The field '{name}' must be an object."))),
        }
    }

    /// `bind_resource.app_guid`, or the deprecated top-level `app_guid`.
    pub(super) fn app_guid(&self) -> Result<Option<String>> {
        let resource = self.object("bind_resource")?.unwrap_or_default();
        Ok(text_in(&resource, "app_guid", "bind_resource.app_guid")?.or(self.text("app_guid")?))
    }

    /// `maintenance_info.version`. One that is no text cannot be ours.
    pub(super) fn maintenance_version(&self) -> Result<Option<String>> {
        let info = self.object("maintenance_info")?.unwrap_or_default();
        match info.get("version") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(version)) => Ok((!version.is_empty()).then(|| version.clone())),
            Some(_) => Err(bad("The field 'maintenance_info.version' must be a text.")),
        }
    }
}

fn text_in(fields: &Map<String, Value>, name: &str, path: &str) -> Result<Option<String>> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() > MAX_TEXT => {
            Err(bad(&format!("The field '{path}' must be at most {MAX_TEXT} bytes long.")))
        }
        Some(Value::String(text)) => Ok((!text.is_empty()).then(|| text.clone())),
        Some(_) => Err(bad(&format!("The field '{path}' must be a text."))),
    }
}

/// The query of a DELETE: repeated keys, keys without a value and unknown keys are tolerated; the last one wins (ID-4).
pub(super) fn hints(request: &HttpRequest) -> Hints {
    let mut hints = Hints::default();
    for (key, value) in url::form_urlencoded::parse(request.query_string().as_bytes()) {
        let value = (!value.is_empty()).then(|| value.into_owned());
        match key.as_ref() {
            "service_id" => hints.service_id = value,
            "plan_id" => hints.plan_id = value,
            _ => {}
        }
    }
    hints
}

/// `accepts_incomplete=true`, exactly; the last one wins.
pub(super) fn accepts_incomplete(request: &HttpRequest) -> bool {
    let query = url::form_urlencoded::parse(request.query_string().as_bytes());
    query.filter(|(key, _)| key == "accepts_incomplete").last().is_some_and(|(_, value)| value == "true")
}

/// The operation a poll names; none where it names none of ours, which is never a mistake (LO-4); the last one wins.
pub(super) fn operation(request: &HttpRequest) -> Option<Operation> {
    let query = url::form_urlencoded::parse(request.query_string().as_bytes());
    query.filter(|(key, _)| key == "operation").last().and_then(|(_, value)| Operation::parse(&value))
}

fn bad(description: &str) -> OsbError {
    OsbError::BadRequest(description.to_owned())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use proptest::prelude::*;

    use super::*;

    /// What a handler reads of a body. Errors say what is wrong to a person, in few words.
    fn read(bytes: &[u8]) -> std::result::Result<(), TestCaseError> {
        let request = TestRequest::default().to_http_request();
        let read = Body::parse(&request, bytes).and_then(|body| {
            body.required("service_id")?;
            body.text("plan_id")?;
            body.object("parameters")?;
            body.app_guid()?;
            body.maintenance_version()
        });
        match read {
            Err(OsbError::BadRequest(description)) => prop_assert!(description.ends_with('.') && description.len() < 200, "{description}"),
            other => prop_assert!(other.is_ok(), "{other:?}"),
        }
        Ok(())
    }

    /// JSON of any shape, with our fields among its keys.
    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,300}".prop_map(Value::from),
        ];
        let key = prop_oneof![
            prop::sample::select(vec!["service_id", "plan_id", "parameters", "bind_resource", "app_guid", "maintenance_info", "version"])
                .prop_map(str::to_owned),
            ".{0,8}",
        ];
        leaf.prop_recursive(3, 32, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((key.clone(), inner), 0..6).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_body_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            read(&bytes)?;
        }

        #[test]
        fn any_json_is_a_body_or_refused(value in json()) {
            read(value.to_string().as_bytes())?;
        }

        #[test]
        fn any_query_is_survived_and_the_last_hint_wins(query in "[a-zA-Z0-9%&=+;.,_*!~'()/?@:-]{0,80}", id in "[a-z0-9-]{1,36}") {
            let request = |query: &str| TestRequest::with_uri(&format!("/?{query}")).to_http_request();
            accepts_incomplete(&request(&query));
            let query = format!("service_id=first&{query}&service_id={id}&accepts_incomplete=true");
            prop_assert_eq!(hints(&request(&query)).service_id, Some(id));
            prop_assert!(accepts_incomplete(&request(&query)));
        }
    }
}
