//! Quoting for statements that take no placeholders (CREATE USER, GRANT, KILL). Names are generated from `[a-z0-9_]` and
//! quoted all the same: adopted names and operators' hosts come from elsewhere. The sessions' `sql_mode` has neither
//! ANSI_QUOTES nor NO_BACKSLASH_ESCAPES (see `session_settings`), which these rules rely on.

use crate::domain::binding::Account;

/// A string literal.
pub fn string(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// An identifier.
pub fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// `'user'@'host'`.
pub fn account(account: &Account) -> String {
    format!("{}@{}", string(&account.user), string(&account.host))
}

/// A text that stands for itself in a LIKE pattern.
pub fn like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('_', "\\_").replace('%', "\\%")
}

/// The pattern of a database-level grant that means this one database: unescaped, `_` would be a wildcard, and a tenant of
/// `cf_a_b` could make a database `cf_axb` of his own outside every quota. With `partial_revokes` MySQL takes names
/// literally (MySQL manual, "Privilege Restriction Using Partial Revokes").
pub fn grant_pattern(database: &str, partial_revokes: bool) -> String {
    if partial_revokes {
        return database.to_owned();
    }
    like(database)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes() {
        assert_eq!(string(r"a'b\c"), r"'a''b\\c'");
        assert_eq!(identifier("a`b"), "`a``b`");
        assert_eq!(account(&Account { user: "u'".into(), host: "%".into() }), "'u'''@'%'");
        assert_eq!(grant_pattern("cf_a%", false), r"cf\_a\%");
        assert_eq!(grant_pattern("cf_a", true), "cf_a");
    }
}
