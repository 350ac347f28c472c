//! What is there and what the rows say, for `reconcile`.

use std::time::Duration;

use super::transact::End;
use super::{Error, Mysql, Result, code, quote};
use crate::domain::binding::{Account, BindingState};
use crate::domain::instance::{InstanceState, OpId};
use crate::domain::reconcile::{BindingFact, Facts, InstanceFact};

/// Lists databases and accounts first, then the rows, then the counter with its sum.
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn facts(mysql: &Mysql, own_account: &str) -> Result<Facts> {
    mysql
        .repeat("compare what is there", |mut connection| async move {
            let doing = Error::doing("a comparison of what is there");
            let databases = sqlx::query_scalar("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE 'cf\\_%' ORDER BY 1")
                .fetch_all(&mut *connection)
                .await
                .map_err(&doing)?;
            let accounts: Vec<String> =
                sqlx::query_scalar("SELECT DISTINCT CAST(User AS CHAR) FROM mysql.user ORDER BY 1").fetch_all(&mut *connection).await.map_err(&doing)?;
            let other_brokers: Vec<String> = sqlx::query_scalar("SELECT DISTINCT CAST(User AS CHAR) FROM mysql.db WHERE Db = ? AND User <> ? ORDER BY 1")
                .bind(quote::grant_pattern("cf_", false) + "%")
                .bind(own_account)
                .fetch_all(&mut *connection)
                .await
                .map_err(&doing)?;
            let instances: Vec<(Option<String>, Option<String>, String, i64)> = sqlx::query_as(
                "SELECT guid, db_name, state, COALESCE(lease_until > UTC_TIMESTAMP(6), 0) FROM service_instances ORDER BY id",
            )
            .fetch_all(&mut *connection)
            .await
            .map_err(&doing)?;
            let bindings: Vec<(Option<String>, String, String, String, i64)> = sqlx::query_as(
                "SELECT i.guid, b.guid, b.username, b.state, COALESCE(b.lease_until > UTC_TIMESTAMP(6), 0) FROM service_bindings b \
                 LEFT JOIN service_instances i ON i.id = b.service_instance_id ORDER BY b.id",
            )
            .fetch_all(&mut *connection)
            .await
            .map_err(&doing)?;
            let retired = sqlx::query_scalar("SELECT username FROM retired_accounts").fetch_all(&mut *connection).await.map_err(&doing)?;
            // one statement, so one moment
            let (counter, sum): (u64, u64) = sqlx::query_as(
                "SELECT (SELECT reserved_bytes FROM capacity WHERE id = 1), CAST(COALESCE(SUM(reserved_bytes), 0) AS UNSIGNED) FROM service_instances",
            )
            .fetch_one(&mut *connection)
            .await
            .map_err(&doing)?;
            let unknown = |what: &str| Error::Data(format!("the state '{what}', which this version does not know"));
            Ok(Facts {
                databases,
                accounts,
                instances: instances
                    .into_iter()
                    .map(|(id, database, state, live)| {
                        Ok(InstanceFact {
                            id: id.unwrap_or_default(),
                            database: database.unwrap_or_default(),
                            state: InstanceState::parse(&state).ok_or_else(|| unknown(&state))?,
                            lease_live: live != 0,
                        })
                    })
                    .collect::<Result<_>>()?,
                bindings: bindings
                    .into_iter()
                    .map(|(instance, id, username, state, live)| {
                        Ok(BindingFact {
                            id: (instance.unwrap_or_default(), id),
                            username,
                            state: BindingState::parse(&state).ok_or_else(|| unknown(&state))?,
                            lease_live: live != 0,
                        })
                    })
                    .collect::<Result<_>>()?,
                retired,
                other_brokers,
                counter,
                sum,
            })
        })
        .await
}

/// Claims a database without a row by a tombstone: a row in state `deleting` that reserves nothing, which its maker, or after the lease any
/// broker, finishes like every other deletion. False: a row has this name, or somebody else has claimed it.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn bury(mysql: &Mysql, id: &str, database: &str, op: &OpId, lease: Duration) -> Result<bool> {
    mysql
        .transact("bury a database", |mut transaction| async move {
            let done = sqlx::query(
                "INSERT INTO service_instances (guid, db_name, max_storage_mb, state, op_id, lease_until, reserved_bytes, created_at, updated_at) \
                 SELECT ?, ?, 0, 'deleting', ?, UTC_TIMESTAMP(6) + INTERVAL ? SECOND, 0, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) FROM DUAL \
                 WHERE NOT EXISTS (SELECT 1 FROM (SELECT id FROM service_instances WHERE db_name = ?) AS others)",
            )
            .bind(id)
            .bind(database)
            .bind(&op.0)
            .bind(lease.as_secs_f64())
            .bind(database)
            .execute(&mut *transaction)
            .await
            .map_err(Error::doing("a tombstone"));
            match done {
                Ok(done) if done.rows_affected() == 1 => Ok(End::Commit(transaction, true)),
                Ok(_) => Ok(End::Rollback(false)),
                Err(error) if error.code() == Some(code::DUPLICATE_KEY) => Ok(End::Rollback(false)),
                Err(error) => Err(error),
            }
        })
        .await
}

/// Every account of this name, whatever hosts it may come from.
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn accounts_named(mysql: &Mysql, user: &str) -> Result<Vec<Account>> {
    mysql
        .repeat("look at an account", |mut connection| async move {
            let hosts: Vec<String> = sqlx::query_scalar("SELECT CAST(Host AS CHAR) FROM mysql.user WHERE User = ?")
                .bind(user)
                .fetch_all(&mut *connection)
                .await
                .map_err(Error::doing("a look at an account"))?;
            Ok(hosts.into_iter().map(|host| Account { user: user.to_owned(), host }).collect())
        })
        .await
}

/// Whether a binding has this account.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn has_account(mysql: &Mysql, account: &Account) -> Result<bool> {
    mysql
        .repeat("look for the binding of an account", |mut connection| async move {
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM service_bindings WHERE username = ?)")
                .bind(&account.user)
                .fetch_one(&mut *connection)
                .await
                .map(|found: i64| found != 0)
                .map_err(Error::doing("a look at a binding"))
        })
        .await
}
