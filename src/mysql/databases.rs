//! The databases that are sold. Every function can be repeated.

use super::{Error, Mysql, Result, code, quote};

/// Seconds for which a DROP waits for somebody's lock (a backup's, an operator's). Without a limit it would wait for a day or longer; whoever
/// deletes tries again.
const PATIENCE: u32 = 20;

/// Step P2. `charset` and `collation` have been checked by [`charset_of`].
///
/// # Errors
/// Whatever the server says; the statement carries no secret.
pub async fn create(mysql: &Mysql, database: &str, charset: &str, collation: Option<&str>) -> Result<()> {
    let mut statement = format!("CREATE DATABASE IF NOT EXISTS {} CHARACTER SET {}", quote::identifier(database), quote::string(charset));
    if let Some(collation) = collation {
        statement.push_str(&format!(" COLLATE {}", quote::string(collation)));
    }
    mysql.send("create a database", &statement, Error::doing("CREATE DATABASE")).await
}

/// Step D2: table by table, so that the server never works on one statement for long (a Galera cluster stands still meanwhile),
/// and an interrupted drop goes on where it was.
///
/// # Errors
/// Whatever the server says.
pub async fn drop(mysql: &Mysql, database: &str) -> Result<()> {
    for table in tables(mysql, database).await? {
        // foreign keys between the tables of a database that goes are no obstacle
        let statement = format!(
            "SET SESSION foreign_key_checks = 0, lock_wait_timeout = {PATIENCE}; DROP TABLE IF EXISTS {}.{}",
            quote::identifier(database),
            quote::identifier(&table)
        );
        let dropped = mysql.send("drop a table", &statement, Error::doing("DROP TABLE")).await;
        match dropped {
            Ok(()) => {}
            // the database would wait for the same lock
            Err(error) if error.code() == Some(code::LOCK_WAIT_TIMEOUT) => return Err(error),
            // a table that cannot be dropped by itself goes with the database, or that says why
            Err(error) => tracing::debug!(database, %error, "a table was not dropped by itself"),
        }
    }
    let statement = format!("SET SESSION lock_wait_timeout = {PATIENCE}; DROP DATABASE IF EXISTS {}", quote::identifier(database));
    mysql.send("drop a database", &statement, Error::doing("DROP DATABASE")).await
}

async fn tables(mysql: &Mysql, database: &str) -> Result<Vec<String>> {
    mysql
        .repeat("list the tables of a database", |mut connection| async move {
            sqlx::query_scalar("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_TYPE = 'BASE TABLE'")
                .bind(database)
                .fetch_all(&mut *connection)
                .await
                .map_err(Error::doing("a list of tables"))
        })
        .await
}

/// The character set that a character set and a collation mean together: utf8mb4 where it may be; none where the server knows no such
/// pair.
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn charset_of(mysql: &Mysql, charset: Option<&str>, collation: Option<&str>) -> Result<Option<String>> {
    mysql
        .repeat("look for a character set", |mut connection| async move {
            sqlx::query_scalar(
                "SELECT CHARACTER_SET_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY \
                 WHERE (? IS NULL OR CHARACTER_SET_NAME = ?) AND (? IS NULL OR COLLATION_NAME = ?) \
                 ORDER BY CHARACTER_SET_NAME = 'utf8mb4' DESC LIMIT 1",
            )
            .bind(charset)
            .bind(charset)
            .bind(collation)
            .bind(collation)
            .fetch_optional(&mut *connection)
            .await
            .map_err(Error::doing("a look for a character set"))
        })
        .await
}

/// Whether a database of this name exists.
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn exists(mysql: &Mysql, database: &str) -> Result<bool> {
    mysql
        .repeat("look for a database", |mut connection| async move {
            let found: i64 = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?)")
                .bind(database)
                .fetch_one(&mut *connection)
                .await
                .map_err(Error::doing("a look for a database"))?;
            Ok(found != 0)
        })
        .await
}
