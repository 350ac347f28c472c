//! What can go wrong with a database server, reduced to what the callers decide on.

use std::io;

/// A failure of the database, safe to log: the text of a statement is never part of it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No server, no healthy node, no free connection; or the server refuses to work at present.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// The connection was lost in the middle: what was sent may or may not have happened.
    #[error("the connection to the database was lost: {0}")]
    ConnectionLost(String),
    /// The server refused a statement.
    #[error("the database refused {what}: error {code} ({sqlstate}){}{text}", if .text.is_empty() { "" } else { ": " })]
    Server {
        /// What was tried, in words.
        what: String,
        /// Server error number (server manual, "Server Error Message Reference").
        code: u16,
        /// SQLSTATE.
        sqlstate: String,
        /// The server's own text; empty for statements that carry secrets.
        text: String,
    },
    /// What was read is not what the broker writes.
    #[error("unexpected data in the broker's tables: {0}")]
    Data(String),
}

/// Server error numbers the broker knows (MySQL's and MariaDB's references agree on them unless said).
pub mod code {
    /// Duplicate key.
    pub const DUPLICATE_KEY: u16 = 1062;
    /// Unknown database.
    pub const UNKNOWN_DATABASE: u16 = 1049;
    /// Unknown table.
    pub const NO_SUCH_TABLE: u16 = 1146;
    /// No such column: a schema older than the program.
    pub const UNKNOWN_COLUMN: u16 = 1054;
    /// No such thread.
    pub const NO_SUCH_THREAD: u16 = 1094;
    /// There is no such grant.
    pub const NO_SUCH_GRANT: u16 = 1141;
    /// There is no such grant on a table.
    pub const NO_SUCH_TABLE_GRANT: u16 = 1147;
    /// There is no such grant on a routine.
    pub const NO_SUCH_ROUTINE_GRANT: u16 = 1403;
    /// No such routine.
    pub const NO_SUCH_ROUTINE: u16 = 1305;
    /// A table has no such column.
    pub const NO_SUCH_COLUMN_IN_TABLE: u16 = 1072;
    /// This ALTER cannot be done online.
    pub const ALTER_NOT_SUPPORTED: u16 = 1845;
    /// This ALTER cannot be done online, with a reason.
    pub const ALTER_NOT_SUPPORTED_BECAUSE: u16 = 1846;
    /// GRANT to an account that does not exist (MariaDB).
    pub const NO_SUCH_USER: u16 = 1133;
    /// GRANT to an account that does not exist (MySQL).
    pub const CANNOT_CREATE_USER_WITH_GRANT: u16 = 1410;
    /// Unknown system variable.
    pub const UNKNOWN_VARIABLE: u16 = 1193;
    /// Lock wait timeout.
    pub const LOCK_WAIT_TIMEOUT: u16 = 1205;
    /// Deadlock; on Galera also a failed certification.
    pub const DEADLOCK: u16 = 1213;
    /// Record changed since last read (MariaDB, Galera).
    pub const RECORD_CHANGED: u16 = 1020;
    /// Galera: this node is not part of a working cluster.
    pub const NOT_PREPARED: u16 = 1047;
    /// Shutdown in progress.
    pub const SHUTDOWN: u16 = 1053;
    /// COMMIT failed: outcome unknown on Galera.
    pub const COMMIT_FAILED: u16 = 1180;
    /// Too many connections.
    pub const TOO_MANY_CONNECTIONS: u16 = 1040;
    /// Access denied.
    pub const ACCESS_DENIED: u16 = 1045;
    /// Access denied to a database.
    pub const DATABASE_ACCESS_DENIED: u16 = 1044;
    /// A command is denied on a table: what a tenant over its quota hears.
    pub const TABLE_ACCESS_DENIED: u16 = 1142;
    /// The server is read-only.
    pub const READ_ONLY: u16 = 1290;
    /// The server is read-only (`read_only`, MariaDB and MySQL).
    pub const READ_ONLY_MODE: u16 = 1836;
    /// The connection was killed (MariaDB).
    pub const CONNECTION_KILLED: u16 = 1927;
    /// The session was killed (MySQL).
    pub const SESSION_KILLED: u16 = 3169;
    /// The connection was idle for too long (MySQL).
    pub const IDLE_TOO_LONG: u16 = 4031;
    /// The statement was interrupted.
    pub const QUERY_INTERRUPTED: u16 = 1317;
    /// No room on the server's disk.
    pub const DISK_FULL: u16 = 1021;
    /// No room for a row: what InnoDB says when the disk is full.
    pub const TABLE_FULL: u16 = 1114;
}

impl Error {
    /// Converts, and says what was tried.
    pub fn doing(what: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |error| Self::from_sqlx(what, error, true)
    }

    /// As [`Error::doing`], for statements that carry secrets: the server quotes a part of the statement in its text, so
    /// only the number and the SQLSTATE are kept.
    pub fn doing_secretly(what: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |error| Self::from_sqlx(what, error, false)
    }

    fn from_sqlx(what: &str, error: sqlx::Error, keep_text: bool) -> Self {
        match error {
            sqlx::Error::Database(error) => {
                let code = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>().map_or(0, sqlx::mysql::MySqlDatabaseError::number);
                match code {
                    code::NOT_PREPARED
                    | code::SHUTDOWN
                    | code::TOO_MANY_CONNECTIONS
                    | code::ACCESS_DENIED
                    | code::DATABASE_ACCESS_DENIED
                    | code::READ_ONLY
                    | code::READ_ONLY_MODE
                    | code::UNKNOWN_DATABASE => {
                        Self::Unavailable(format!("error {code}: {}", if keep_text { error.message() } else { what }))
                    }
                    // the server's last words on a connection
                    code::CONNECTION_KILLED | code::SESSION_KILLED | code::IDLE_TOO_LONG => Self::ConnectionLost(format!("error {code}")),
                    _ => Self::Server {
                        what: what.to_owned(),
                        code,
                        sqlstate: error.code().unwrap_or_default().into_owned(),
                        text: if keep_text { error.message().to_owned() } else { String::new() },
                    },
                }
            }
            sqlx::Error::Io(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound | io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable => {
                    Self::Unavailable(error.to_string())
                }
                _ => Self::ConnectionLost(error.to_string()),
            },
            sqlx::Error::Tls(error) => Self::Unavailable(format!("TLS: {error}")),
            // the client speaks no RSA, which is the other way to send such a password
            sqlx::Error::Configuration(error) if error.to_string().contains("RSA") => Self::Unavailable(
                "the account cannot log in without TLS (caching_sha2_password): mysql.tls.mode must not be 'disabled', and the server must offer it"
                    .to_owned(),
            ),
            sqlx::Error::Configuration(error) => Self::Unavailable(format!("{what}: {error}")),
            sqlx::Error::Protocol(text) => Self::ConnectionLost(text),
            other => Self::Data(format!("{what}: {other}")),
        }
    }

    /// The server's error number, where it is an answer of the server.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Server { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the same transaction, sent again from its beginning, may succeed (deadlock, lock wait, certification, lost
    /// connection, unknown outcome of a COMMIT). Bodies must be safe to repeat.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::ConnectionLost(_) => true,
            Self::Server { code, .. } => {
                matches!(*code, code::LOCK_WAIT_TIMEOUT | code::DEADLOCK | code::RECORD_CHANGED | code::COMMIT_FAILED)
            }
            Self::Unavailable(_) | Self::Data(_) => false,
        }
    }

    /// Whether somebody else was faster with the same rows: nothing is wrong, and a repeat is likely to succeed.
    pub fn is_contention(&self) -> bool {
        matches!(self.code(), Some(code::DEADLOCK | code::RECORD_CHANGED))
    }

    /// Whether the server can't be reached or does not work, as opposed to having refused this statement.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::ConnectionLost(_) => true,
            Self::Server { code, .. } => {
                matches!(*code, code::NO_SUCH_TABLE | code::UNKNOWN_COLUMN | code::QUERY_INTERRUPTED | code::DISK_FULL | code::TABLE_FULL)
            }
            Self::Data(_) => false,
        }
    }

    /// Whether the server refuses the values themselves (SQLSTATE class 22, "data exception"): it will never take them.
    pub fn is_of_the_data(&self) -> bool {
        matches!(self, Self::Server { sqlstate, .. } if sqlstate.starts_with("22"))
    }

    /// Whether a GRANT found no account: somebody else has swept it.
    pub fn is_missing_account(&self) -> bool {
        matches!(self.code(), Some(code::NO_SUCH_USER | code::CANNOT_CREATE_USER_WITH_GRANT))
    }
}
