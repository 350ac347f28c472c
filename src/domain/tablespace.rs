//! Tablespace names as InnoDB's views show them: `database/table`, each part in the server's file-name encoding.

/// The database a tablespace belongs to, decoded; none for system and shared tablespaces.
pub fn database_of(name: &str) -> Option<String> {
    let (database, table) = name.split_once('/')?;
    if database.is_empty() || table.is_empty() {
        return None;
    }
    Some(decode(database))
}

/// The table of a tablespace, decoded, without its partition (`t#P#p0`, `t#p#p0#sp#s0`); none for system and shared
/// tablespaces.
pub fn table_of(name: &str) -> Option<String> {
    let (_, table) = name.split_once('/')?;
    let lower = table.to_ascii_lowercase();
    let end = lower.find("#p#").unwrap_or(table.len());
    Some(decode(table.get(..end).unwrap_or(table)))
}

/// The copy an ALTER makes; it is gone when the ALTER ends.
pub fn is_temporary(name: &str) -> bool {
    name.split_once('/').is_some_and(|(_, table)| table.starts_with("#sql"))
}

/// Decodes `@xxxx` (four hexadecimal digits: one UTF-16 unit; server manual, "Mapping of Identifiers to File Names").
/// Other escapes (two characters for some letters outside ASCII) stay as they are.
fn decode(text: &str) -> String {
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
        assert_eq!(database_of("cf_x/t").as_deref(), Some("cf_x"));
        assert_eq!(database_of("a@002db/t").as_deref(), Some("a-b"));
        assert_eq!(table_of("d/my@002dtable#P#p0").as_deref(), Some("my-table"));
        assert_eq!(table_of("d/t#p#p0#sp#s1").as_deref(), Some("t"));
        assert_eq!(table_of("d/@d83d@de00").as_deref(), Some("😀"));
        for shared in ["innodb_system", "innodb_undo_001", "/t", "d/", ""] {
            assert_eq!(database_of(shared), None, "{shared}");
        }
        assert!(is_temporary("d/#sql-alter-1-2") && !is_temporary("d/t"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_decode(name in ".*") {
            let _ = (database_of(&name), table_of(&name), is_temporary(&name));
        }

        #[test]
        fn ascii_names_survive_the_encoding(name in "[ -~]{1,40}") {
            let encoded: String = name
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c.to_string() } else { format!("@{:04x}", c as u32) })
                .collect();
            proptest::prop_assert_eq!(database_of(&format!("{encoded}/t")), Some(name));
        }
    }
}
