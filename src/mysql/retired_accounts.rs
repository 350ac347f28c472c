//! Accounts that outlive their binding because views, routines, triggers or events name them as DEFINER.

use super::{Error, Mysql, Result};
use crate::domain::binding::Account;

/// Whether any object of a database was made by this account.
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn is_definer(mysql: &Mysql, account: &Account, database: &str) -> Result<bool> {
    let definer = format!("{}@{}", account.user, account.host);
    let definer = definer.as_str();
    mysql
        .repeat("look for objects of an account", |mut connection| async move {
            let found: i64 = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = ? AND DEFINER = ?) \
                 OR EXISTS (SELECT 1 FROM information_schema.EVENTS WHERE EVENT_SCHEMA = ? AND DEFINER = ?) \
                 OR EXISTS (SELECT 1 FROM information_schema.VIEWS WHERE TABLE_SCHEMA = ? AND DEFINER = ?) \
                 OR EXISTS (SELECT 1 FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = ? AND DEFINER = ?)",
            )
            .bind(database)
            .bind(definer)
            .bind(database)
            .bind(definer)
            .bind(database)
            .bind(definer)
            .bind(database)
            .bind(definer)
            .fetch_one(&mut *connection)
            .await
            .map_err(Error::doing("a look for objects of an account"))?;
            Ok(found != 0)
        })
        .await
}

/// Notes an account as retired, before its binding goes.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn record(mysql: &Mysql, account: &Account, instance_row: i64) -> Result<()> {
    mysql
        .repeat("retire an account", |mut connection| async move {
            sqlx::query(
                "INSERT IGNORE INTO retired_accounts (username, host, service_instance_id, retired_at) VALUES (?, ?, ?, UTC_TIMESTAMP(6))",
            )
            .bind(&account.user)
            .bind(&account.host)
            .bind(instance_row)
            .execute(&mut *connection)
            .await
            .map_err(Error::doing("a note on a retired account"))?;
            Ok(())
        })
        .await
}

/// The retired accounts of an instance.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn of_instance(mysql: &Mysql, instance_row: i64) -> Result<Vec<Account>> {
    mysql
        .repeat("list retired accounts", |mut connection| async move {
            let rows: Vec<(String, String)> = sqlx::query_as("SELECT username, host FROM retired_accounts WHERE service_instance_id = ?")
                .bind(instance_row)
                .fetch_all(&mut *connection)
                .await
                .map_err(Error::doing("a list of retired accounts"))?;
            Ok(rows.into_iter().map(|(user, host)| Account { user, host }).collect())
        })
        .await
}

/// Every retired account, with its instance's row and database.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn all(mysql: &Mysql) -> Result<Vec<(Account, i64, String)>> {
    mysql
        .repeat("list retired accounts", |mut connection| async move {
            let rows: Vec<(String, String, i32, Option<String>)> = sqlx::query_as(
                "SELECT r.username, r.host, r.service_instance_id, i.db_name FROM retired_accounts r \
                 LEFT JOIN service_instances i ON i.id = r.service_instance_id",
            )
            .fetch_all(&mut *connection)
            .await
            .map_err(Error::doing("a list of retired accounts"))?;
            Ok(rows
                .into_iter()
                .map(|(user, host, row, database)| (Account { user, host }, row.into(), database.unwrap_or_default()))
                .collect())
        })
        .await
}

/// Forgets a retired account that has been dropped.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn forget(mysql: &Mysql, account: &Account) -> Result<()> {
    mysql
        .repeat("forget a retired account", |mut connection| async move {
            sqlx::query("DELETE FROM retired_accounts WHERE username = ? AND host = ?")
                .bind(&account.user)
                .bind(&account.host)
                .execute(&mut *connection)
                .await
                .map_err(Error::doing("a note on a retired account"))?;
            Ok(())
        })
        .await
}
