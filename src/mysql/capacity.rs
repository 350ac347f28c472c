//! The counter of what is reserved, and what it is made of.

use sqlx::MySqlConnection;

use super::{Error, Mysql, Result};

/// What the counter says. Bytes.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn reserved(mysql: &Mysql) -> Result<u64> {
    mysql
        .repeat("read the counter", |mut connection| async move {
            sqlx::query_scalar("SELECT reserved_bytes FROM capacity WHERE id = 1")
                .fetch_one(&mut *connection)
                .await
                .map_err(Error::doing("a look at the counter"))
        })
        .await
}

/// What the instances of one plan, in one state, hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The plan's id; none for adopted instances without one.
    pub plan_id: Option<String>,
    /// The state's name.
    pub state: String,
    /// How many instances.
    pub instances: u64,
    /// How many bindings they have.
    pub bindings: u64,
    /// What they reserve, in bytes.
    pub reserved_bytes: u64,
}

/// Instances, bindings and reservations by plan and state.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn shares(mysql: &Mysql) -> Result<Vec<Share>> {
    mysql
        .repeat("add up the instances", |mut connection| async move {
            let rows: Vec<(Option<String>, String, i64, u64, u64)> = sqlx::query_as(
                "SELECT i.plan_guid, i.state, COUNT(*), CAST(COALESCE(SUM(b.n), 0) AS UNSIGNED), CAST(SUM(i.reserved_bytes) AS UNSIGNED) \
                 FROM service_instances i \
                 LEFT JOIN (SELECT service_instance_id, COUNT(*) AS n FROM service_bindings GROUP BY service_instance_id) b \
                   ON b.service_instance_id = i.id \
                 GROUP BY i.plan_guid, i.state",
            )
            .fetch_all(&mut *connection)
            .await
            .map_err(Error::doing("the sum of the instances"))?;
            Ok(rows
                .into_iter()
                .map(|(plan_id, state, instances, bindings, reserved_bytes)| Share {
                    plan_id,
                    state,
                    instances: u64::try_from(instances).unwrap_or(0),
                    bindings,
                    reserved_bytes,
                })
                .collect())
        })
        .await
}

/// Takes room of the counter, in the transaction that writes the row it is for; false when it does not fit.
pub(super) async fn take(connection: &mut MySqlConnection, bytes: u64, sellable_bytes: u64) -> Result<bool> {
    let done = sqlx::query("UPDATE capacity SET reserved_bytes = reserved_bytes + ? WHERE id = 1 AND reserved_bytes + ? <= ?")
        .bind(bytes)
        .bind(bytes)
        .bind(sellable_bytes)
        .execute(connection)
        .await
        .map_err(Error::doing("a reservation"))?;
    Ok(done.rows_affected() == 1)
}

/// Gives room back to the counter, in the transaction that writes the row it was for.
pub(super) async fn give_back(connection: &mut MySqlConnection, bytes: u64) -> Result<()> {
    // a counter below what is given back can only come from a hand in the tables: reconcile says so, nothing fails here
    sqlx::query("UPDATE capacity SET reserved_bytes = IF(reserved_bytes >= ?, reserved_bytes - ?, 0) WHERE id = 1")
        .bind(bytes)
        .bind(bytes)
        .execute(connection)
        .await
        .map_err(Error::doing("a release"))?;
    Ok(())
}
