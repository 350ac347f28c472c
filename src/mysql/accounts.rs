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

/// An account's write privileges on a database, under the pattern it was granted with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whose.
    pub account: Account,
    /// As stored, escaped or not: REVOKE must spell it the same.
    pub pattern: String,
    /// The write privileges it has, by name.
    pub writes: Vec<String>,
}

/// Every account with database-level rights on a database, granted with the escaped or with the plain name.
///
/// # Errors
/// Whatever keeps the server from answering; the account of the caller must be able to read `mysql.db`.
pub async fn on_database(mysql: &Mysql, database: &str) -> Result<Vec<Grant>> {
    let held: Vec<_> = privileges::WRITE.iter().map(|(name, column)| format!("IF({column} = 'Y', '{name}', NULL)")).collect();
    let query = format!("SELECT User, Host, Db, CONCAT_WS(',', {}) FROM mysql.db WHERE Db IN (?, ?)", held.join(", "));
    let query = query.as_str();
    mysql
        .repeat("list the accounts of a database", |mut connection| async move {
            let rows: Vec<(String, String, String, String)> = sqlx::query_as(sqlx::AssertSqlSafe(query))
                .bind(quote::grant_pattern(database, false))
                .bind(database)
                .fetch_all(&mut *connection)
                .await
                .map_err(Error::doing("a look at the accounts of a database"))?;
            Ok(rows
                .into_iter()
                .map(|(user, host, pattern, writes)| Grant {
                    account: Account { user, host },
                    pattern,
                    writes: writes.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
                })
                .collect())
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

/// Takes every write privilege of an account under a pattern.
///
/// # Errors
/// Whatever the server says; an account without the grant is no error.
pub async fn revoke_writes(mysql: &Mysql, account: &Account, pattern: &str) -> Result<()> {
    let statement = mysql.info().await?.dialect.revoke(&privileges::write_names(), pattern, account);
    let result = mysql.send("revoke", &statement, Error::doing("REVOKE")).await;
    match result {
        Err(error) if error.code() == Some(super::code::NO_SUCH_GRANT) || error.is_missing_account() => Ok(()),
        other => other,
    }
}

/// Gives privileges back. False: the account is gone, so there is nobody to give them to.
///
/// # Errors
/// Whatever the server says.
pub async fn grant(mysql: &Mysql, account: &Account, pattern: &str, rights: &[String]) -> Result<bool> {
    let statement = format!("GRANT {} ON {}.* TO {}", rights.join(", "), quote::identifier(pattern), quote::account(account));
    let result = mysql.send("grant", &statement, Error::doing("GRANT")).await;
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.is_missing_account() => Ok(false),
        Err(error) => Err(error),
    }
}
