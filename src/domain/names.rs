//! Names of databases and accounts. Every attempt gets new ones: a process that wakes after its lease has ended can then
//! never drop what somebody else made since under the same id.

use base64::Engine as _;
use md5::{Digest as _, Md5};
use rand::Rng as _;
use ring::digest;

use super::ids::{BindingId, InstanceId};

/// What every database sold by this broker (and by cf-mysql before it) begins with.
pub const DATABASE_PREFIX: &str = "cf_";

/// What every account made by this broker begins with.
pub const ACCOUNT_PREFIX: &str = "cfb";

/// Hexadecimal digits, lower case.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `bytes` random bytes in hexadecimal.
pub fn random_hex(bytes: usize) -> String {
    let mut buffer = vec![0_u8; bytes];
    rand::rng().fill_bytes(&mut buffer);
    hex(&buffer)
}

/// A new database name for an instance: `cf_<guid with _ for ->_<8 hex>`; an id that is no plain lower-case GUID is
/// replaced by 128 bits of its SHA-256, so that two ids never share a name. At most 48 of MySQL's 64 characters.
pub fn new_database_name(id: &InstanceId) -> String {
    let middle = if is_plain_guid(id.as_str()) {
        id.as_str().replace('-', "_")
    } else {
        let hash = digest::digest(&digest::SHA256, id.as_str().as_bytes());
        hex(&hash.as_ref()[..16])
    };
    format!("{DATABASE_PREFIX}{middle}_{}", random_hex(4))
}

/// A new account name: `cfb` and 20 hexadecimal digits. At most 23 of MySQL's 32 characters.
pub fn new_account_name() -> String {
    format!("{ACCOUNT_PREFIX}{}", random_hex(10))
}

/// The part of a database's name that stands for the id, where the name is one that [`new_database_name`] makes.
pub fn without_generation(name: &str) -> Option<&str> {
    let (id, generation) = name.strip_prefix(DATABASE_PREFIX)?.rsplit_once('_')?;
    let is_id = is_hex(id, 32) || (is_hex(&id.replace('_', ""), 32) && is_plain_guid(&id.replace('_', "-")));
    (is_hex(generation, 8) && is_id).then_some(id)
}

/// Whether [`new_account_name`] makes such a name.
pub fn is_account_name(name: &str) -> bool {
    name.strip_prefix(ACCOUNT_PREFIX).is_some_and(|rest| is_hex(rest, 20))
}

/// How long cf-mysql-broker's account names are, but for digests with more signs than any that was seen.
const ADOPTED_ACCOUNT_LENGTH: usize = 16;

/// The name of the account that cf-mysql-broker made for a binding: of the MD5 of the binding's id in Base64 the letters and digits, of
/// those the first 16. A name, not a secret: newer servers have no MD5 of their own any more.
pub fn adopted_account_name(id: &BindingId) -> String {
    let digest = base64::engine::general_purpose::STANDARD.encode(Md5::digest(id.as_str()));
    digest.chars().filter(char::is_ascii_alphanumeric).take(ADOPTED_ACCOUNT_LENGTH).collect()
}

/// Whether cf-mysql-broker makes such a name. Operators choose no such names: letters of both cases without a sign between them.
pub fn is_adopted_account_name(name: &str) -> bool {
    name.len() == ADOPTED_ACCOUNT_LENGTH
        && name.bytes().all(|b| b.is_ascii_alphanumeric())
        && name.bytes().any(|b| b.is_ascii_lowercase())
        && name.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_plain_guid(id: &str) -> bool {
    id.len() == 36
        && id.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(id: &str) -> String {
        let name = new_database_name(&InstanceId::from_stored(id.to_owned()));
        assert!(name.len() <= 64);
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
        name[..name.len() - 9].to_owned()
    }

    #[test]
    fn guid_stays_readable() {
        assert_eq!(name("3f6a0d52-9d3c-4b6e-8a51-0c2f6f9d7e10"), "cf_3f6a0d52_9d3c_4b6e_8a51_0c2f6f9d7e10");
    }

    #[test]
    fn other_ids_never_share_a_name() {
        let ids = ["a-b", "a_b", "A-b", "i1", "I1", "é", "e\u{301}", "x' OR 1=1 -- ", "3F6A0D52-9D3C-4B6E-8A51-0C2F6F9D7E10"];
        let names: std::collections::HashSet<_> = ids.iter().map(|id| name(id)).collect();
        assert_eq!(names.len(), ids.len());
    }

    #[test]
    fn our_names_are_known_again_and_no_others() {
        for id in ["3f6a0d52-9d3c-4b6e-8a51-0c2f6f9d7e10", "i1"] {
            let id = InstanceId::from_stored(id.to_owned());
            let (first, second) = (new_database_name(&id), new_database_name(&id));
            assert!(without_generation(&first).is_some());
            assert_eq!(without_generation(&first), without_generation(&second));
        }
        for other in [
            "cf_3f6a0d52_9d3c_4b6e_8a51_0c2f6f9d7e10",
            "cf_shop_12345678",
            "cf_",
            "mysql",
            "cf_3f6a0d52_9d3c_4b6e_8a51_0c2f6f9d7e10_1234567G",
        ] {
            assert_eq!(without_generation(other), None, "{other}");
        }
        assert!(is_account_name(&new_account_name()) && !is_account_name("cfbank"));
    }

    #[test]
    fn accounts_of_the_old_broker() {
        // as Ruby says: Digest::MD5.base64digest(id).gsub(/[^a-zA-Z0-9]+/, '')[0...16]
        for (id, name) in [("old-binding", "a3NKVDnBIK77raWQ"), ("third-binding", "b87n7wBCYr0892Ql"), ("h", "JRDDkBHFvnBBgkIO")] {
            assert_eq!(adopted_account_name(&BindingId::from_stored(id.to_owned())), name);
        }
        assert!(is_adopted_account_name("a3NKVDnBIK77raWQ"));
        for other in [
            "reportinguser123",
            "REPORTINGUSER123",
            "Reporting-User-1",
            "a3NKVDnBIK77raW",
            "a3NKVDnBIK77raWQj",
            "",
            "cfb0123456789abcdef0123",
        ] {
            assert!(!is_adopted_account_name(other), "{other}");
        }
    }

    #[test]
    fn every_attempt_has_its_own_name() {
        let id = InstanceId::from_stored("i1".to_owned());
        assert_ne!(new_database_name(&id), new_database_name(&id));
        assert_ne!(new_account_name(), new_account_name());
    }
}
