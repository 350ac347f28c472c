//! Grants as statements: what an account has (SHOW GRANTS) against what it needs.

use std::collections::BTreeSet;

/// One GRANT statement, as far as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Upper case; a right on a column carries its name: `SELECT(host)`.
    privileges: BTreeSet<String>,
    /// `*.*`, `pattern.*` or `database.table`, without quotes.
    scope: String,
    /// WITH GRANT OPTION.
    may_grant: bool,
}

impl Grant {
    /// Reads a statement; none for what is no grant of privileges on something.
    pub fn parse(statement: &str) -> Option<Self> {
        let (privileges, rest) = statement.strip_prefix("GRANT ")?.split_once(" ON ")?;
        let (scope, rest) = rest.split_once(" TO ")?;
        Some(Self {
            privileges: split(privileges).into_iter().collect(),
            scope: scope.replace('`', ""),
            may_grant: rest.contains("WITH GRANT OPTION"),
        })
    }

    fn covers(&self, scope: &str) -> bool {
        let database = |scope: &str| scope.rsplit_once('.').map(|(database, _)| format!("{database}.*"));
        self.scope == "*.*" || self.scope == scope || database(scope).is_some_and(|all| all == self.scope)
    }

    fn has(&self, privilege: &str) -> bool {
        let on_the_whole = privilege.split('(').next().unwrap_or(privilege);
        // MySQL spells out what ALL PRIVILEGES on *.* was
        let is_nearly_all =
            privilege == "ALL PRIVILEGES" && ["SELECT", "INSERT", "CREATE", "DROP", "ALTER"].iter().all(|p| self.privileges.contains(*p));
        self.privileges.contains(privilege)
            || self.privileges.contains(on_the_whole)
            || self.privileges.contains("ALL PRIVILEGES")
            || is_nearly_all
    }
}

/// `SELECT (User, Host), PROCESS` as its parts.
fn split(list: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = list;
    while !rest.is_empty() {
        let end = rest.find(',').unwrap_or(rest.len());
        match rest.find('(') {
            Some(open) if open < end => {
                let close = rest.find(')').unwrap_or(rest.len());
                let privilege = rest[..open].trim().to_uppercase();
                let columns = rest.get(open + 1..close).unwrap_or_default().split(',');
                found.extend(columns.map(|column| format!("{privilege}({})", column.trim().trim_matches('`').to_lowercase())));
                rest = rest.get(close + 1..).unwrap_or_default().trim_start_matches([',', ' ']);
            }
            _ => {
                found.push(rest[..end].trim().to_uppercase());
                rest = rest.get(end + 1..).unwrap_or_default().trim_start();
            }
        }
    }
    found
}

/// What of a needed grant nobody has given.
pub fn missing(needed: &Grant, held: &[Grant]) -> Vec<String> {
    let covering: Vec<&Grant> = held.iter().filter(|grant| grant.covers(&needed.scope)).collect();
    let mut missing: Vec<String> =
        needed.privileges.iter().filter(|privilege| !covering.iter().any(|grant| grant.has(privilege))).cloned().collect();
    if needed.may_grant && !covering.iter().any(|grant| grant.may_grant) {
        missing.push("WITH GRANT OPTION".to_owned());
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(statements: &[&str]) -> Vec<Grant> {
        statements.iter().filter_map(|statement| Grant::parse(statement)).collect()
    }

    fn lacks(needed: &str, held: &[&str]) -> Vec<String> {
        missing(&Grant::parse(needed).expect("a grant"), &grants(held))
    }

    #[test]
    fn what_is_needed_and_what_is_held() {
        let needed = r"GRANT SELECT, INSERT ON `cf\_%`.* TO 'b'@'%' WITH GRANT OPTION";
        assert_eq!(lacks(needed, &[r"GRANT INSERT, SELECT, DROP ON `cf\_%`.* TO `b`@`%` WITH GRANT OPTION"]), Vec::<String>::new());
        assert_eq!(lacks(needed, &["GRANT ALL PRIVILEGES ON *.* TO `b`@`%` WITH GRANT OPTION"]), Vec::<String>::new());
        assert_eq!(lacks(needed, &[r"GRANT SELECT ON `cf\_%`.* TO `b`@`%`"]), ["INSERT", "WITH GRANT OPTION"]);
        assert_eq!(lacks(needed, &["GRANT SELECT, INSERT ON `cf_%`.* TO `b`@`%` WITH GRANT OPTION"]).len(), 3, "another pattern");
        let columns = "GRANT SELECT (User, Host), PROCESS ON mysql.user TO 'b'@'%'";
        assert_eq!(lacks(columns, &["GRANT SELECT (`Host`, `User`), PROCESS ON `mysql`.`user` TO `b`@`%`"]), Vec::<String>::new());
        assert_eq!(lacks(columns, &["GRANT SELECT ON `mysql`.* TO `b`@`%`"]), ["PROCESS"]);
        assert_eq!(lacks(columns, &["GRANT SELECT (`Host`) ON `mysql`.`user` TO `b`@`%`"]), ["PROCESS", "SELECT(user)"]);
        assert_eq!(Grant::parse("GRANT `role`@`%` TO `b`@`%`"), None);
    }
}
