//! What differs between MariaDB and MySQL: one enum, and a `match` where they differ.

use super::quote;
use crate::domain::binding::Account;

/// The family a server belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// MariaDB 10.x and later, with or without Galera.
    MariaDb,
    /// MySQL 8 and later, Percona Server, PXC.
    MySql,
}

impl Dialect {
    /// Reads it off `@@version`.
    pub fn of_version(version: &str) -> Self {
        if version.to_ascii_lowercase().contains("mariadb") { Self::MariaDb } else { Self::MySql }
    }

    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::MariaDb => "MariaDB",
            Self::MySql => "MySQL",
        }
    }

    /// The view that lists every open tablespace with its file size.
    pub fn tablespaces_query(self) -> &'static str {
        match self {
            Self::MariaDb => "SELECT NAME, FILE_SIZE FROM information_schema.INNODB_SYS_TABLESPACES",
            Self::MySql => "SELECT NAME, FILE_SIZE FROM information_schema.INNODB_TABLESPACES",
        }
    }

    /// As [`Dialect::tablespaces_query`], for one database; its placeholder takes `database/%`. In the middle the table's name
    /// without the file-name encoding and without its partition, which only MariaDB needs and knows.
    pub fn tablespaces_of_database_query(self) -> &'static str {
        match self {
            Self::MariaDb => {
                "SELECT NAME, CONVERT(CONVERT(CONVERT(SUBSTRING_INDEX(SUBSTRING_INDEX(NAME, '/', -1), '#', 1) USING binary) USING filename) \
                 USING utf8mb4), FILE_SIZE FROM information_schema.INNODB_SYS_TABLESPACES WHERE NAME LIKE ?"
            }
            Self::MySql => "SELECT NAME, NAME, FILE_SIZE FROM information_schema.INNODB_TABLESPACES WHERE NAME LIKE ?",
        }
    }

    /// A name, and the size of the redo log in bytes. Where only `innodb_log_file_size` and `innodb_log_files_in_group` are set, MySQL 8 goes
    /// by their product and its variable `innodb_redo_log_capacity` keeps saying 100 MB: the status says what is.
    pub fn redo_query(self) -> &'static str {
        match self {
            Self::MariaDb => "SHOW GLOBAL VARIABLES LIKE 'innodb_log_file_size'",
            Self::MySql => "SHOW GLOBAL STATUS LIKE 'Innodb_redo_log_capacity_resized'",
        }
    }

    /// Takes privileges, held or not. On MySQL a plain REVOKE of a privilege that is not held is error 1141, so that one
    /// says IF EXISTS; MariaDB takes what is there.
    pub fn revoke(self, privileges: &str, target: &str, account: &Account) -> String {
        let account = self.grantee(account);
        match self {
            Self::MariaDb => format!("REVOKE {privileges} ON {target} FROM {account}"),
            Self::MySql => format!("REVOKE IF EXISTS {privileges} ON {target} FROM {account} IGNORE UNKNOWN USER"),
        }
    }

    /// An account as GRANT and REVOKE name it. A role of MariaDB has no host, and must not be given one.
    pub fn grantee(self, account: &Account) -> String {
        if self == Self::MariaDb && account.host.is_empty() && !account.user.is_empty() {
            return quote::string(&account.user);
        }
        quote::account(account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(Dialect::of_version("10.11.14-MariaDB-0+deb12u2"), Dialect::MariaDb);
        assert_eq!(Dialect::of_version("9.7.0"), Dialect::MySql);
        assert_eq!(Dialect::of_version("8.0.36-28.1"), Dialect::MySql);
    }
}
