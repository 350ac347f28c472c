//! Who is behind a request, as the platform says (OSB API 2.17, "Originating Identity"). For the log and the audit trail;
//! an identity that cannot be read never fails a request.

use actix_web::http::header::HeaderMap;
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

const HEADER: &str = "X-Broker-API-Originating-Identity";
/// What is kept: Cloud Foundry's and Kubernetes' keys. Others may be anything.
const KEPT: [&str; 4] = ["user_id", "username", "uid", "groups"];
/// The longest text that is kept of each, in characters.
const MAX_TEXT: usize = 256;

/// The parts that are kept of an identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Identity {
    /// `user_id` or `username`; empty without an identity, `unparsable` for a broken one.
    pub(super) user: String,
    /// `platform` and what is kept, as JSON; empty without an identity.
    pub(super) json: String,
}

/// Reads the header: base64 padded or not, standard or URL-safe.
pub(super) fn read(headers: &HeaderMap) -> Identity {
    let Some(header) = headers.get(HEADER) else { return Identity::default() };
    let Some((platform, object)) = header.to_str().ok().and_then(parse) else {
        tracing::warn!("the header '{HEADER}' could not be read");
        return Identity { user: "unparsable".to_owned(), json: String::new() };
    };
    let kept: Map<String, Value> = KEPT.iter().filter_map(|key| Some(((*key).to_owned(), shortened(object.get(*key)?)?))).collect();
    let user = ["user_id", "username"].iter().find_map(|key| kept.get(*key)?.as_str()).unwrap_or_default().to_owned();
    let mut json = kept;
    json.insert("platform".to_owned(), short(platform).into());
    Identity { user, json: Value::Object(json).to_string() }
}

fn parse(header: &str) -> Option<(&str, Map<String, Value>)> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let (platform, value) = header.split_once(' ')?;
    let engines = [GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT), GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT)];
    let bytes = engines.iter().find_map(|engine| engine.decode(value.trim()).ok())?;
    match serde_json::from_slice(&bytes).ok()? {
        Value::Object(object) => Some((platform, object)),
        _ => None,
    }
}

fn shortened(value: &Value) -> Option<Value> {
    match value {
        Value::String(text) => Some(short(text).into()),
        Value::Array(list) => Some(list.iter().take(64).filter_map(|item| item.as_str().map(short)).collect()),
        _ => None,
    }
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn read_value(value: &str) -> Identity {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("x-broker-api-originating-identity"), HeaderValue::from_str(value).unwrap());
        read(&headers)
    }

    #[test]
    fn identities_in_every_base64_and_broken_ones() {
        let user = |value: &str| read_value(value).user;
        assert_eq!(user("cloudfoundry eyJ1c2VyX2lkIjoiNjgzZWE3NDgifQ=="), "683ea748");
        assert_eq!(user("cloudfoundry eyJ1c2VyX2lkIjoiNjgzZWE3NDgifQ"), "683ea748");
        assert_eq!(user("kubernetes eyJ1c2VybmFtZSI6Ij8_PyJ9"), "???");
        for broken in ["cloudfoundry %%%", "cloudfoundry", "cloudfoundry bnVsbA==", ""] {
            assert_eq!(user(broken), "unparsable", "{broken}");
        }
        assert_eq!(read(&HeaderMap::new()), Identity::default());
    }

    #[test]
    fn only_known_keys_are_kept() {
        let header =
            base64::engine::general_purpose::STANDARD.encode(r#"{"username":"ada","groups":["a","b"],"extra":{"token":"secret"}}"#);
        assert_eq!(read_value(&format!("kubernetes {header}")).json, r#"{"groups":["a","b"],"platform":"kubernetes","username":"ada"}"#);
    }

    proptest::proptest! {
        #[test]
        fn any_identity_is_survived(value in "[ -~]{0,200}") {
            let _ = read_value(&value);
        }
    }
}
