//! Accounts and their rights. Statements that carry a password are sent as text, so that it stays in no statement cache, and
//! their errors are reduced to numbers. GRANT and REVOKE take effect by themselves: FLUSH PRIVILEGES is never needed.

use secrecy::{ExposeSecret as _, SecretString};

use super::{Error, Mysql, Result, quote};
use crate::domain::binding::Account;
use crate::domain::names::random_hex;
use crate::domain::privileges;

/// Steps B2 and B3: the account with its password, its connection limit and its rights on one database. Can be repeated.
///
/// # Errors
/// [`Error::is_missing_account`]: somebody swept the account between the two steps, so the lease is lost.
pub async fn create(
    mysql: &Mysql,
    account: &Account,
    password: &SecretString,
    max_user_connections: u32,
    database: &str,
    rights: &[&str],
) -> Result<()> {
    let info = mysql.info().await?;
    let name = quote::account(account);
    let pattern = quote::identifier(&quote::grant_pattern(database, info.partial_revokes));
    let password = quote::string(password.expose_secret());
    let create = format!("CREATE USER IF NOT EXISTS {name} IDENTIFIED BY {password} WITH MAX_USER_CONNECTIONS {max_user_connections}");
    // one message for both steps; in two only where a test ends the broker between them
    #[cfg(feature = "failpoints")]
    if crate::failpoint::is_armed("B2") {
        mysql.send("create an account", &create, Error::doing_secretly("CREATE USER")).await?;
        crate::failpoint::hit("B2");
    }
    let statements = format!("{create}; GRANT {} ON {pattern}.* TO {name}", rights.join(", "));
    mysql.send("create an account", &statements, Error::doing_secretly("CREATE USER and GRANT")).await
}

/// Step U2. DROP USER does not end sessions: see `sessions::kill`. An account that is gone is no error.
///
/// # Errors
/// Whatever the server says.
pub async fn drop(mysql: &Mysql, account: &Account) -> Result<()> {
    let statement = format!("DROP USER IF EXISTS {}", quote::account(account));
    mysql.send("drop an account", &statement, Error::doing("DROP USER")).await
}

/// Nobody can log in with the account any more; whoever is in stays in until `sessions::kill`. Objects it has defined work on. One
/// that is gone is no error.
///
/// # Errors
/// Whatever the server says.
pub async fn lock(mysql: &Mysql, account: &Account) -> Result<()> {
    let statement = format!("ALTER USER IF EXISTS {} ACCOUNT LOCK", quote::account(account));
    mysql.send("lock an account", &statement, Error::doing("ALTER USER")).await
}

/// Gives the account a password nobody knows.
///
/// # Errors
/// Whatever the server says; the password is not part of it.
pub async fn forget_password(mysql: &Mysql, account: &Account) -> Result<()> {
    let password = format!("p{}_0aA", random_hex(24));
    let statement = format!("ALTER USER IF EXISTS {} IDENTIFIED BY {}", quote::account(account), quote::string(&password));
    mysql.send("retire an account", &statement, Error::doing_secretly("ALTER USER")).await
}

/// Applies a connection limit to an account; one that is gone is no error.
///
/// # Errors
/// Whatever the server says.
pub async fn limit(mysql: &Mysql, account: &Account, max_user_connections: u32) -> Result<()> {
    let statement = format!("ALTER USER IF EXISTS {} WITH MAX_USER_CONNECTIONS {max_user_connections}", quote::account(account));
    mysql.send("limit an account", &statement, Error::doing("ALTER USER")).await
}

/// What a grant is on, inside a database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The whole database, under the pattern as stored, escaped or not: REVOKE must spell it the same.
    Pattern(String),
    /// One object of it.
    Object(Object),
}

/// A table, a column or a routine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// `TABLE`, `PROCEDURE`, `FUNCTION` and whatever else the server calls routines.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its column; empty for all of it.
    pub column: String,
}

impl Scope {
    /// What stands behind ON.
    fn target(&self, database: &str) -> String {
        match self {
            Self::Pattern(pattern) => format!("{}.*", quote::identifier(pattern)),
            Self::Object(Object { kind, name, .. }) => format!("{kind} {}.{}", quote::identifier(database), quote::identifier(name)),
        }
    }

    fn list(&self, privileges: &[String]) -> String {
        match self {
            Self::Object(Object { column, .. }) if !column.is_empty() => {
                let column = quote::identifier(column);
                privileges.iter().map(|name| format!("{name} ({column})")).collect::<Vec<_>>().join(", ")
            }
            _ => privileges.join(", "),
        }
    }
}

/// An account's write privileges on a database or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whose.
    pub account: Account,
    /// On what.
    pub scope: Scope,
    /// The write privileges it has, by name.
    pub writes: Vec<String>,
    /// Whether it may call routines.
    pub executes: bool,
}

/// Every account with database-level rights on a database, granted with the escaped or with the plain name.
///
/// # Errors
/// Whatever keeps the server from answering; the account of the caller must be able to read `mysql.db`.
pub async fn on_database(mysql: &Mysql, database: &str) -> Result<Vec<Grant>> {
    let held: Vec<_> = privileges::WRITE.iter().map(|(name, column)| format!("IF({column} = 'Y', '{name}', NULL)")).collect();
    let query = format!("SELECT User, Host, Db, CONCAT_WS(',', {}), Execute_priv = 'Y' FROM mysql.db WHERE Db IN (?, ?)", held.join(", "));
    let query = query.as_str();
    mysql
        .repeat("list the accounts of a database", |mut connection| async move {
            let rows: Vec<(String, String, String, String, i64)> = sqlx::query_as(sqlx::AssertSqlSafe(query))
                .bind(quote::grant_pattern(database, false))
                .bind(database)
                .fetch_all(&mut *connection)
                .await
                .map_err(Error::doing("a look at the accounts of a database"))?;
            Ok(rows
                .into_iter()
                .map(|(user, host, pattern, writes, executes)| Grant {
                    account: Account { user, host },
                    scope: Scope::Pattern(pattern),
                    writes: privileges::split(&writes),
                    executes: executes != 0,
                })
                .collect())
        })
        .await
}

/// Every account with rights on single tables, columns or routines of a database. The server gives whoever makes a routine
/// the right to alter it.
///
/// # Errors
/// Whatever keeps the server from answering; the account of the caller must be able to read the schema `mysql`.
pub async fn on_objects(mysql: &Mysql, database: &str) -> Result<Vec<Grant>> {
    mysql
        .repeat("list the rights on objects of a database", |mut connection| async move {
            let rows: Vec<(String, String, String, String, String, String)> = sqlx::query_as(
                "SELECT CAST(User AS CHAR), CAST(Host AS CHAR), 'TABLE', CAST(Table_name AS CHAR), '', CAST(Table_priv AS CHAR) \
                 FROM mysql.tables_priv WHERE Db = ? \
                 UNION ALL SELECT CAST(User AS CHAR), CAST(Host AS CHAR), 'TABLE', CAST(Table_name AS CHAR), CAST(Column_name AS CHAR), \
                 CAST(Column_priv AS CHAR) FROM mysql.columns_priv WHERE Db = ? \
                 UNION ALL SELECT CAST(User AS CHAR), CAST(Host AS CHAR), CAST(Routine_type AS CHAR), CAST(Routine_name AS CHAR), '', \
                 CAST(Proc_priv AS CHAR) FROM mysql.procs_priv WHERE Db = ?",
            )
            .bind(database)
            .bind(database)
            .bind(database)
            .fetch_all(&mut *connection)
            .await
            .map_err(Error::doing("a look at the rights on objects of a database"))?;
            Ok(rows
                .into_iter()
                .map(|(user, host, kind, name, column, held)| {
                    let held: Vec<String> = privileges::split(&held.to_ascii_uppercase());
                    Grant {
                        account: Account { user, host },
                        scope: Scope::Object(Object { kind, name, column }),
                        executes: held.iter().any(|name| name == "EXECUTE"),
                        writes: held.into_iter().filter(|name| privileges::write_names().contains(&name.as_str())).collect(),
                    }
                })
                .collect())
        })
        .await
}

/// The definers (`user@host`) of routines in a database that run with their definer's rights.
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn definers(mysql: &Mysql, database: &str) -> Result<Vec<String>> {
    mysql
        .repeat("list the definers of routines", |mut connection| async move {
            sqlx::query_scalar(
                "SELECT DISTINCT CAST(DEFINER AS CHAR) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = ? AND SECURITY_TYPE = 'DEFINER'",
            )
            .bind(database)
            .fetch_all(&mut *connection)
            .await
            .map_err(Error::doing("a look at the routines of a database"))
        })
        .await
}

/// The pattern under which new accounts get their rights on a database.
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn grant_pattern(mysql: &Mysql, database: &str) -> Result<String> {
    Ok(quote::grant_pattern(database, mysql.info().await?.partial_revokes))
}

/// Takes privileges of an account on a database, or on a part of it.
///
/// # Errors
/// Whatever the server says; an account without the grant is no error.
pub async fn revoke(mysql: &Mysql, database: &str, account: &Account, scope: &Scope, privileges: &[String]) -> Result<()> {
    let statement = mysql.info().await?.dialect.revoke(&scope.list(privileges), &scope.target(database), account);
    let result = mysql.send("revoke", &statement, Error::doing("REVOKE")).await;
    match result {
        Err(error)
            if matches!(
                error.code(),
                Some(super::code::NO_SUCH_GRANT | super::code::NO_SUCH_TABLE_GRANT | super::code::NO_SUCH_ROUTINE_GRANT)
            ) || error.is_missing_account() =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Gives privileges back. False: the account, or what they were on, is gone, so there is nothing to give.
///
/// # Errors
/// Whatever the server says.
pub async fn grant(mysql: &Mysql, database: &str, account: &Account, scope: &Scope, rights: &[String]) -> Result<bool> {
    let grantee = mysql.info().await?.dialect.grantee(account);
    let statement = format!("GRANT {} ON {} TO {grantee}", scope.list(rights), scope.target(database));
    let result = mysql.send("grant", &statement, Error::doing("GRANT")).await;
    match result {
        Ok(()) => Ok(true),
        Err(error)
            if error.is_missing_account()
                || matches!(
                    error.code(),
                    Some(
                        super::code::NO_SUCH_TABLE
                            | super::code::NO_SUCH_COLUMN_IN_TABLE
                            | super::code::NO_SUCH_ROUTINE
                            | super::code::UNKNOWN_COLUMN
                    )
                ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
