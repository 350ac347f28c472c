//! What was taken from whom: written down before it is taken, so that a crash at any point leaves something the next pass can
//! repair.

use super::accounts::{Object, Scope};
use super::sessions::Watermarks;
use super::transact::End;
use super::{Error, Mysql, Result};
use crate::domain::binding::Account;
use crate::domain::privileges;

/// What goes with an account; each statement takes the database, and twice the user and the host. A retired account keeps its
/// rights, so it must get back what was taken.
pub(super) const FORGET_ACCOUNT: &[&str] = &[
    "DELETE FROM quota_revocations WHERE db_name = ? AND username = ? AND host = ? \
     AND NOT EXISTS (SELECT 1 FROM retired_accounts WHERE username = ? AND host = ?)",
    "DELETE FROM quota_object_revocations WHERE db_name = ? AND username = ? AND host = ? \
     AND NOT EXISTS (SELECT 1 FROM retired_accounts WHERE username = ? AND host = ?)",
];

/// Something that was taken, or was never given because the database is over its quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// From whom.
    pub account: Account,
    /// On what.
    pub scope: Scope,
    /// What, by name.
    pub privileges: Vec<String>,
}

/// Notes a database as over its quota, and what is about to be taken; what was noted before stays. Watermarks are stale from here on.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn record(mysql: &Mysql, database: &str, revocations: &[Revocation]) -> Result<()> {
    mysql
        .transact("record a violation", |mut transaction| async move {
            let doing = Error::doing("a note on a database over its quota");
            sqlx::query(
                "INSERT INTO quota_violations (db_name, watermarks, is_stale, since) VALUES (?, '', TRUE, UTC_TIMESTAMP(6)) \
                 ON DUPLICATE KEY UPDATE is_stale = TRUE",
            )
            .bind(database)
            .execute(&mut *transaction)
            .await
            .map_err(&doing)?;
            for revocation in revocations {
                note(&mut transaction, database, revocation).await?;
            }
            Ok(End::Commit(transaction, ()))
        })
        .await
}

/// Notes what a new account was not given, if its database is (still) over its quota. False: it is not, give it.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn withhold(mysql: &Mysql, database: &str, revocation: &Revocation) -> Result<bool> {
    mysql
        .transact("withhold privileges", |mut transaction| async move {
            // the lock makes a restoration that runs at the same time come before (then it is over) or after (then it sees the note)
            let over: Option<String> = sqlx::query_scalar("SELECT db_name FROM quota_violations WHERE db_name = ? FOR UPDATE")
                .bind(database)
                .fetch_optional(&mut *transaction)
                .await
                .map_err(Error::doing("a look at a quota"))?;
            if over.is_none() {
                return Ok(End::Rollback(false));
            }
            note(&mut transaction, database, revocation).await?;
            Ok(End::Commit(transaction, true))
        })
        .await
}

async fn note(connection: &mut sqlx::MySqlConnection, database: &str, revocation: &Revocation) -> Result<()> {
    let privileges = revocation.privileges.join(",");
    let query = match &revocation.scope {
        Scope::Pattern(pattern) => sqlx::query(
            "INSERT INTO quota_revocations (db_name, pattern, username, host, privileges) VALUES (?, ?, ?, ?, ?) \
             ON DUPLICATE KEY UPDATE privileges = VALUES(privileges)",
        )
        .bind(database)
        .bind(pattern),
        Scope::Object(object) => sqlx::query(
            "INSERT INTO quota_object_revocations (db_name, kind, object_name, column_name, username, host, privileges) \
             VALUES (?, ?, ?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE privileges = VALUES(privileges)",
        )
        .bind(database)
        .bind(&object.kind)
        .bind(&object.name)
        .bind(&object.column),
    };
    query
        .bind(&revocation.account.user)
        .bind(&revocation.account.host)
        .bind(privileges)
        .execute(connection)
        .await
        .map_err(Error::doing("a note on what was taken"))?;
    Ok(())
}

/// What was taken from whom.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn list(mysql: &Mysql, database: &str) -> Result<Vec<Revocation>> {
    mysql
        .repeat("list what was taken", |mut connection| async move {
            let doing = Error::doing("a list of what was taken");
            let patterns: Vec<(String, String, String, String)> =
                sqlx::query_as("SELECT pattern, username, host, privileges FROM quota_revocations WHERE db_name = ?")
                    .bind(database)
                    .fetch_all(&mut *connection)
                    .await
                    .map_err(&doing)?;
            let objects: Vec<(String, String, String, String, String, String)> = sqlx::query_as(
                "SELECT kind, object_name, column_name, username, host, privileges FROM quota_object_revocations WHERE db_name = ?",
            )
            .bind(database)
            .fetch_all(&mut *connection)
            .await
            .map_err(&doing)?;
            let patterns = patterns.into_iter().map(|(pattern, user, host, list)| (Scope::Pattern(pattern), user, host, list));
            let objects = objects
                .into_iter()
                .map(|(kind, name, column, user, host, list)| (Scope::Object(Object { kind, name, column }), user, host, list));
            let revocation = |(scope, user, host, list): (Scope, String, String, String)| Revocation {
                account: Account { user, host },
                scope,
                privileges: privileges::split(&list),
            };
            Ok(patterns.chain(objects).map(revocation).collect())
        })
        .await
}

/// Forgets one revocation: it has been given back, or its account is gone.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn forget_one(mysql: &Mysql, database: &str, revocation: &Revocation) -> Result<()> {
    mysql
        .repeat("forget what was taken", |mut connection| async move {
            let query = match &revocation.scope {
                Scope::Pattern(pattern) => {
                    sqlx::query("DELETE FROM quota_revocations WHERE db_name = ? AND pattern = ? AND username = ? AND host = ?")
                        .bind(database)
                        .bind(pattern)
                }
                Scope::Object(object) => sqlx::query(
                    "DELETE FROM quota_object_revocations WHERE db_name = ? AND kind = ? AND object_name = ? AND column_name = ? \
                     AND username = ? AND host = ?",
                )
                .bind(database)
                .bind(&object.kind)
                .bind(&object.name)
                .bind(&object.column),
            };
            query
                .bind(&revocation.account.user)
                .bind(&revocation.account.host)
                .execute(&mut *connection)
                .await
                .map_err(Error::doing("a note on what was given back"))?;
            Ok(())
        })
        .await
}

/// The database is under its quota again, if everything has been given back; false if something is left to give back.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn forget(mysql: &Mysql, database: &str) -> Result<bool> {
    mysql
        .transact("forget a violation", |mut transaction| async move {
            let doing = Error::doing("a note on a database under its quota");
            sqlx::query("SELECT db_name FROM quota_violations WHERE db_name = ? FOR UPDATE")
                .bind(database)
                .fetch_optional(&mut *transaction)
                .await
                .map_err(&doing)?;
            let left: i64 = sqlx::query_scalar(
                "SELECT (SELECT COUNT(*) FROM quota_revocations WHERE db_name = ?) + \
                 (SELECT COUNT(*) FROM quota_object_revocations WHERE db_name = ?)",
            )
            .bind(database)
            .bind(database)
            .fetch_one(&mut *transaction)
            .await
            .map_err(&doing)?;
            if left > 0 {
                return Ok(End::Rollback(false));
            }
            sqlx::query("DELETE FROM quota_violations WHERE db_name = ?")
                .bind(database)
                .execute(&mut *transaction)
                .await
                .map_err(&doing)?;
            Ok(End::Commit(transaction, true))
        })
        .await
}

/// Which sessions began before the privileges were taken, empty when that is not known; and whether something was about to be taken since.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn watermarks(mysql: &Mysql, database: &str) -> Result<(Watermarks, bool)> {
    mysql
        .repeat("look at watermarks", |mut connection| async move {
            let noted: Option<(String, bool)> = sqlx::query_as("SELECT watermarks, is_stale FROM quota_violations WHERE db_name = ?")
                .bind(database)
                .fetch_optional(&mut *connection)
                .await
                .map_err(Error::doing("a look at watermarks"))?;
            let (text, is_stale) = noted.unwrap_or_default();
            Ok((serde_json::from_str(&text).unwrap_or_default(), is_stale))
        })
        .await
}

/// Notes which sessions began before the privileges were taken. `are_all_new`: none of them is from before what was taken last.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn set_watermarks(mysql: &Mysql, database: &str, watermarks: &Watermarks, are_all_new: bool) -> Result<()> {
    let text = serde_json::to_string(watermarks).map_err(|error| Error::Data(error.to_string()))?;
    let text = text.as_str();
    mysql
        .repeat("set watermarks", |mut connection| async move {
            sqlx::query("UPDATE quota_violations SET watermarks = ?, is_stale = is_stale AND NOT ? WHERE db_name = ?")
                .bind(text)
                .bind(are_all_new)
                .bind(database)
                .execute(&mut *connection)
                .await
                .map_err(Error::doing("a note on watermarks"))?;
            Ok(())
        })
        .await
}
