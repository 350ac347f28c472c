//! The ids platforms choose: any non-empty string (OSB API 2.17, "Provisioning" and "Binding").

use std::fmt;

use percent_encoding::percent_decode_str;

/// Longest id in bytes, after percent-decoding: the width of the column that keeps it.
pub const MAX_ID_BYTES: usize = 255;

/// Why a path segment is no id. Names what would be right; never repeats the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The segment is empty after decoding.
    #[error("must not be empty")]
    Empty,
    /// More than [`MAX_ID_BYTES`] after decoding.
    #[error("must be at most {MAX_ID_BYTES} bytes long")]
    TooLong,
    /// The decoded bytes are no UTF-8.
    #[error("must be valid UTF-8 after percent-decoding")]
    NotUtf8,
    /// A control character or a slash.
    #[error("must not contain control characters or '/'")]
    Forbidden,
}

fn parse(segment: &str) -> Result<String, IdError> {
    check(&percent_decode_str(segment).decode_utf8().map_err(|_| IdError::NotUtf8)?)
}

fn check(id: &str) -> Result<String, IdError> {
    if id.is_empty() {
        return Err(IdError::Empty);
    }
    if id.len() > MAX_ID_BYTES {
        return Err(IdError::TooLong);
    }
    if id.chars().any(|c| c.is_control() || c == '/') {
        return Err(IdError::Forbidden);
    }
    Ok(id.to_owned())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// Parses one raw (still percent-encoded) path segment.
            ///
            /// # Errors
            /// [`IdError`] says what an id must be.
            pub fn parse(segment: &str) -> Result<Self, IdError> {
                parse(segment).map(Self)
            }

            /// Checks an id that stands in a body, as it is.
            ///
            /// # Errors
            /// [`IdError`] says what an id must be.
            pub fn parse_text(text: &str) -> Result<Self, IdError> {
                check(text).map(Self)
            }

            /// An id read back from the broker's own tables, where it was checked when it was written.
            pub fn from_stored(id: String) -> Self {
                Self(id)
            }

            /// The id as the platform wrote it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// The platform's name of a service instance.
    InstanceId
}
id! {
    /// The platform's name of a service binding; its scope is the instance (OSB row BI-5).
    BindingId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_once() {
        assert_eq!(InstanceId::parse("a%2541").map(|i| i.0), Ok("a%41".to_owned()));
        assert_eq!(InstanceId::parse("caf%C3%A9").map(|i| i.0), Ok("café".to_owned()));
    }

    #[test]
    fn refuses_what_is_no_id() {
        assert_eq!(InstanceId::parse(""), Err(IdError::Empty));
        assert_eq!(InstanceId::parse("a%2Fb"), Err(IdError::Forbidden));
        assert_eq!(InstanceId::parse("a%00b"), Err(IdError::Forbidden));
        assert_eq!(InstanceId::parse("%ff"), Err(IdError::NotUtf8));
        assert_eq!(InstanceId::parse(&"x".repeat(256)), Err(IdError::TooLong));
        assert!(InstanceId::parse(&"x".repeat(255)).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn any_segment_is_an_id_or_an_error(segment in ".*") {
            if let Ok(id) = BindingId::parse(&segment) {
                proptest::prop_assert!(!id.as_str().is_empty() && id.as_str().len() <= MAX_ID_BYTES);
            }
        }
    }
}
