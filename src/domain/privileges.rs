//! Which rights a binding has on its database, and which of them store bytes.

/// Rights that read, delete or run, and stay when a database is over its quota. TRIGGER and EVENT stay because without them
/// deletes and purge jobs stop; a trigger or event writes with its definer's rights, and those are gone.
const KEPT: &[&str] = &["SELECT", "DELETE", "DROP", "EXECUTE", "SHOW VIEW", "TRIGGER", "EVENT"];

/// Rights of a read-only binding.
pub const READ_ONLY: &[&str] = &["SELECT", "SHOW VIEW"];

/// Rights with which a tenant can store a byte, with the column of `mysql.db` that keeps each. They are taken from a
/// database over its quota. Each was tried on a database that had only this one left (ALTER: 13 MB became 205 MB in one
/// statement); REFERENCES does nothing alone and goes with ALTER.
pub const WRITE: &[(&str, &str)] = &[
    ("INSERT", "Insert_priv"),
    ("UPDATE", "Update_priv"),
    ("CREATE", "Create_priv"),
    ("ALTER", "Alter_priv"),
    ("INDEX", "Index_priv"),
    ("REFERENCES", "References_priv"),
    ("CREATE TEMPORARY TABLES", "Create_tmp_table_priv"),
    ("CREATE VIEW", "Create_view_priv"),
    ("CREATE ROUTINE", "Create_routine_priv"),
    ("ALTER ROUTINE", "Alter_routine_priv"),
];

/// The names in [`WRITE`].
pub fn write_names() -> Vec<&'static str> {
    WRITE.iter().map(|(name, _)| *name).collect()
}

/// What is taken besides where a routine runs with the rights of somebody who may still write (an operator who restored a dump).
pub const CALL: &str = "EXECUTE";

/// The names in a comma-separated list.
pub fn split(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// What a new account gets on its database. `mariadb`: DELETE HISTORY exists there only.
pub fn of_binding(read_only: bool, may_write: bool, table_locks: bool, mariadb: bool) -> Vec<&'static str> {
    if read_only {
        return READ_ONLY.to_vec();
    }
    let mut privileges = KEPT.to_vec();
    if mariadb {
        privileges.push("DELETE HISTORY");
    }
    if table_locks {
        privileges.push("LOCK TABLES");
    }
    if may_write {
        privileges.extend(write_names());
    }
    privileges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_only_never_writes() {
        assert_eq!(of_binding(true, true, true, true), READ_ONLY);
    }

    #[test]
    fn over_quota_keeps_exactly_what_reads_and_deletes() {
        let over = of_binding(false, false, false, false);
        assert_eq!(over, KEPT);
        assert!(write_names().iter().all(|name| !over.contains(name)));
        let under = of_binding(false, true, true, true);
        assert!(["LOCK TABLES", "DELETE HISTORY", "INSERT"].iter().all(|name| under.contains(name)));
    }
}
