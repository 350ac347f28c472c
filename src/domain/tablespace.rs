//! Tablespace names as InnoDB's views show them: `database/table`. MariaDB spells each part in the server's file-name encoding,
//! MySQL's INNODB_TABLESPACES as it is (INNODB_TABLES encoded); seen on 10.11 and 9.7.

/// The two parts of a name, as spelled; none for system and shared tablespaces.
pub fn parts(name: &str) -> Option<(&str, &str)> {
    name.split_once('/').filter(|(database, table)| !database.is_empty() && !table.is_empty())
}

/// Whether a name is spelled the same with and without the encoding: nearly all of them, so nearly none has to be encoded.
pub fn is_plain(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The part of a spelled table name before its partition (`t#P#p0`, `t#p#p0#sp#s0`).
pub fn without_partition(table: &str) -> &str {
    let marker = table.as_bytes().windows(3).position(|w| w.eq_ignore_ascii_case(b"#p#"));
    // the marker is ASCII, so this is a boundary of characters
    marker.and_then(|end| table.get(..end)).unwrap_or(table)
}

/// The copy an ALTER makes; it is gone when the ALTER ends. Only if there is no table of this name: on MySQL a tenant can
/// call one `#sql-x`.
pub fn is_copy(table: &str) -> bool {
    table.starts_with("#sql")
}

/// A file of a full-text index: it belongs to a table but no statistics count it.
pub fn is_full_text(table: &str) -> bool {
    table.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("fts_"))
}

/// Decodes `@xxxx` (four hexadecimal digits: one UTF-16 unit; server manual, "Mapping of Identifiers to File Names"). The
/// two-character escapes of letters outside ASCII only the server knows: they stay as they are, and where they matter MariaDB
/// is asked (`mysql::usage`).
pub fn decode(text: &str) -> String {
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let escaped = (c == '@')
            .then(|| rest.get(1..5))
            .flatten()
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u16::from_str_radix(digits, 16).ok());
        if let Some(unit) = escaped {
            units.push(unit);
            rest = &rest[5..];
        } else {
            units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
            rest = &rest[c.len_utf8()..];
        }
    }
    String::from_utf16_lossy(&units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(parts("cf_x/t"), Some(("cf_x", "t")));
        assert_eq!(parts("cf_x/a/b"), Some(("cf_x", "a/b")), "MySQL shows a slash in a table name as it is");
        for shared in ["innodb_system", "innodb_undo_001", "/t", "d/", ""] {
            assert_eq!(parts(shared), None, "{shared}");
        }
        assert_eq!(without_partition("my@002dtable#P#p0"), "my@002dtable");
        assert_eq!(without_partition("t#p#p0#sp#s1"), "t");
        assert_eq!(without_partition("é#"), "é#");
        assert!(is_copy("#sql-alter-1-2") && !is_copy("t"));
        assert!(is_full_text("FTS_1") && is_full_text("fts_2") && !is_full_text("ft") && !is_full_text("éééé"));
        assert!(is_plain("cf_9") && !is_plain("a-b") && !is_plain("é"));
        assert_eq!(decode("a@002db"), "a-b");
        assert_eq!(decode("@d83d@de00"), "😀");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(name in ".*") {
            let _ = (parts(&name), without_partition(&name), is_copy(&name), is_full_text(&name), decode(&name));
        }

        #[test]
        fn ascii_names_survive_the_encoding(name in "[ -~]{1,40}") {
            let encoded: String = name
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c.to_string() } else { format!("@{:04x}", c as u32) })
                .collect();
            proptest::prop_assert_eq!(decode(&encoded), name.clone());
            proptest::prop_assert_eq!(encoded == name, is_plain(&name));
        }
    }
}
