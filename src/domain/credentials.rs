//! What a binding hands to an app, and how its password comes about.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

/// One of the operator's secrets that passwords are derived from.
#[derive(Debug, Clone)]
pub struct BindingSecret {
    /// Recorded with each binding, so that secrets can be replaced.
    pub id: String,
    /// At least 32 characters.
    pub key: SecretString,
}

/// Everything unreserved in RFC 3986 stays readable in a URI.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Derives the password of an account: 192 bits of HMAC-SHA256 over its salt and name, in a URL-safe alphabet. The tail has
/// one of each class of characters, so that servers with a password policy (`validate_password`, `simple_password_check`)
/// accept it. Nothing in clear is stored: the same secret, salt and name give the same password for ever.
pub fn derive_password(secret: &BindingSecret, salt: &str, user: &str) -> SecretString {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.key.expose_secret().as_bytes());
    let tag = hmac::sign(&key, format!("cf-mysql-broker binding password\0{salt}\0{user}").as_bytes());
    // a leading letter, because some clients take a leading '-' for an option
    SecretString::from(format!("p{}_0aA", URL_SAFE_NO_PAD.encode(&tag.as_ref()[..24])))
}

/// Where apps reach the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Builds the credentials object: cf-mysql's fields (`hostname`, `port`, `name`, `username`, `password`, `uri`, `jdbcUrl`),
/// the names of the specification's example (`host`, `database`), and `ca_certificate` where TLS is verified.
pub fn credentials(endpoint: &Endpoint, database: &str, user: &str, password: &SecretString, ca_certificate: Option<&str>) -> Value {
    let encode = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
    let (host, port) = (bracketed(&endpoint.host), endpoint.port);
    let (name, username, secret) = (encode(database), encode(user), encode(password.expose_secret()));
    let mut credentials = json!({
        "hostname": endpoint.host,
        "host": endpoint.host,
        "port": port,
        "name": database,
        "database": database,
        "username": user,
        "password": password.expose_secret(),
        "uri": format!("mysql://{username}:{secret}@{host}:{port}/{name}"),
        "jdbcUrl": format!("jdbc:mysql://{host}:{port}/{name}?user={username}&password={secret}"),
    });
    if let Some(ca) = ca_certificate {
        credentials["ca_certificate"] = Value::from(ca);
    }
    credentials
}

/// An IPv6 address in a URL needs brackets.
fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(key: &str) -> BindingSecret {
        BindingSecret { id: "1".into(), key: SecretString::from(key.to_owned()) }
    }

    #[test]
    fn a_password_depends_on_each_of_its_parts_and_on_nothing_else() {
        let password = |key, salt, user| derive_password(&secret(key), salt, user).expose_secret().to_owned();
        let first = password("k", "s", "u");
        assert_eq!(first, password("k", "s", "u"));
        for other in [password("K", "s", "u"), password("k", "S", "u"), password("k", "s", "U"), password("k", "su", "")] {
            assert_ne!(first, other);
        }
        assert_eq!(first.len(), 37);
        assert!(first.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    }

    #[test]
    fn urls_survive_odd_values() {
        let endpoint = Endpoint { host: "::1".into(), port: 3307 };
        let made = credentials(&endpoint, "cf_x", "u@1", &SecretString::from("a:b/c?d".to_owned()), None);
        assert_eq!(made["uri"], "mysql://u%401:a%3Ab%2Fc%3Fd@[::1]:3307/cf_x");
        assert_eq!(made["jdbcUrl"], "jdbc:mysql://[::1]:3307/cf_x?user=u%401&password=a%3Ab%2Fc%3Fd");
        assert_eq!(made["port"], 3307);
        assert!(made.get("ca_certificate").is_none());
    }
}
