//! The lease of an operation on a row: who works on it, and until when nobody else may.

use std::convert::Infallible;
use std::time::Duration;

use super::{Error, Mysql, Result};
use crate::domain::instance::OpId;

/// The row an operation works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A row of `service_instances`.
    Instance(i64),
    /// A row of `service_bindings`.
    Binding(i64),
}

/// Extends the lease by `lease` from now, by the database's clock. False: somebody else has the row, or it is gone.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn renew(mysql: &Mysql, subject: Subject, op: &OpId, lease: Duration) -> Result<bool> {
    let (statement, row) = match subject {
        Subject::Instance(row) => {
            ("UPDATE service_instances SET lease_until = UTC_TIMESTAMP(6) + INTERVAL ? SECOND WHERE id = ? AND op_id = ?", row)
        }
        Subject::Binding(row) => {
            ("UPDATE service_bindings SET lease_until = UTC_TIMESTAMP(6) + INTERVAL ? SECOND WHERE id = ? AND op_id = ?", row)
        }
    };
    mysql
        .spare()
        .repeat("renew a lease", |mut connection| async move {
            let done = sqlx::query(statement)
                .bind(lease.as_secs_f64())
                .bind(row)
                .bind(&op.0)
                .execute(&mut *connection)
                .await
                .map_err(Error::doing("the renewal of a lease"))?;
            Ok(done.rows_affected() == 1)
        })
        .await
}

/// Runs `work` and renews the lease every third of it, until the work ends. A work that is done within the first third
/// costs nothing. When the lease is lost the work goes on to its next compare-and-set, which then fails.
pub async fn while_renewing<T>(mysql: &Mysql, subject: Subject, op: &OpId, lease: Duration, work: impl Future<Output = T>) -> T {
    tokio::select! {
        done = work => done,
        never = keep_renewing(mysql, subject, op, lease) => match never {},
    }
}

async fn keep_renewing(mysql: &Mysql, subject: Subject, op: &OpId, lease: Duration) -> Infallible {
    loop {
        tokio::time::sleep(lease / 3).await;
        match renew(mysql, subject, op, lease).await {
            Ok(true) => {}
            Ok(false) => tracing::warn!(?subject, "the lease of a running operation was lost"),
            Err(error) => tracing::warn!(?subject, %error, "the lease of a running operation could not be renewed"),
        }
    }
}
