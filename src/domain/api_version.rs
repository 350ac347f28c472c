//! `X-Broker-API-Version`: two integers, never a float (OSB API 2.17, "API Version Header").

/// The caller's minor version of API 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion(u32);

/// Why a version header is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionError {
    /// Missing, empty or not `number.number`.
    Malformed,
    /// Well-formed, but none we speak.
    Unsupported,
}

impl ApiVersion {
    /// The oldest version accepted.
    pub const OLDEST: Self = Self(11);
    /// Schemas in the catalog.
    pub const V2_13: Self = Self(13);
    /// Fetching of instances and bindings.
    pub const V2_14: Self = Self(14);
    /// Maintenance information, endpoints, context updates.
    pub const V2_15: Self = Self(15);
    /// Instance and binding metadata, `instance_usable`, `update_repeatable`.
    pub const V2_16: Self = Self(16);
    /// Rotation; the newest version whose text this broker implements. Newer minor versions only add.
    pub const V2_17: Self = Self(17);

    /// Parses the header's value. `2.9` is older than `2.11`; every minor version from 11 on is accepted.
    ///
    /// # Errors
    /// [`VersionError`] tells malformed from unsupported, because they have different status codes.
    pub fn parse(header: &str) -> Result<Self, VersionError> {
        let (major, minor) = header.trim().split_once('.').ok_or(VersionError::Malformed)?;
        let number = |text: &str| -> Result<u32, VersionError> {
            if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
                return Err(VersionError::Malformed);
            }
            text.parse().map_err(|_| VersionError::Malformed)
        };
        match (number(major)?, Self(number(minor)?)) {
            (2, minor) if minor >= Self::OLDEST => Ok(minor),
            _ => Err(VersionError::Unsupported),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(ApiVersion::parse("2.15"), Ok(ApiVersion::V2_15));
        assert_eq!(ApiVersion::parse("2.99"), Ok(ApiVersion(99)));
        for unsupported in ["2.10", "2.9", "1.0", "3.0"] {
            assert_eq!(ApiVersion::parse(unsupported), Err(VersionError::Unsupported), "{unsupported}");
        }
        for malformed in ["", "2", "abc", "2.", ".11", "2.x", "2.1.1", "+2.11", "2.99999999999"] {
            assert_eq!(ApiVersion::parse(malformed), Err(VersionError::Malformed), "{malformed}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_header_is_a_version_or_refused(header in ".{0,40}") {
            if let Ok(version) = ApiVersion::parse(&header) {
                proptest::prop_assert!(version >= ApiVersion::OLDEST);
            }
        }

        #[test]
        fn every_pair_of_numbers_is_well_formed(major in 0..9_u32, minor in 0..99_u32) {
            let is_ours = major == 2 && minor >= 11;
            let expected = if is_ours { Ok(ApiVersion(minor)) } else { Err(VersionError::Unsupported) };
            proptest::prop_assert_eq!(ApiVersion::parse(&format!("{major}.{minor}")), expected);
        }
    }
}
