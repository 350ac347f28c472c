//! Who changed what, and how it ended.

use sqlx::QueryBuilder;

use super::{Error, Mysql, Result};

/// One change, or one that was refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, sqlx::FromRow)]
pub struct Entry {
    /// When, RFC 3339 in UTC; set by the database.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub at: String,
    /// `provision`, `update`, `deprovision`, `bind`, `unbind`.
    pub verb: String,
    /// The instance's id.
    pub instance: String,
    /// The binding's id; empty for instances.
    pub binding: String,
    /// HTTP status of the answer; 499 where the client went away before it.
    pub status: u16,
    /// `ok`, `refused`, or the error code; `unanswered` where the client went away.
    pub outcome: String,
    /// The tag of the platform's credentials.
    pub platform: String,
    /// Who is behind it, as the platform says: `user_id`, or `username`, `uid` and `groups`; JSON.
    pub identity: String,
    /// The request's identity, as in the log.
    pub request_identity: String,
}

/// Adds entries, all or none.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn append(mysql: &Mysql, entries: &[Entry]) -> Result<()> {
    mysql
        .repeat("append to the audit trail", |mut connection| async move {
            let mut query = QueryBuilder::new(
                "INSERT INTO audit_trail (at, verb, instance_guid, binding_guid, status, outcome, platform, identity, request_identity) ",
            );
            query.push_values(entries, |mut row, entry| {
                row.push("UTC_TIMESTAMP(6)")
                    .push_bind(&entry.verb)
                    .push_bind(&entry.instance)
                    .push_bind(&entry.binding)
                    .push_bind(entry.status)
                    .push_bind(&entry.outcome)
                    .push_bind(&entry.platform)
                    .push_bind(&entry.identity)
                    .push_bind(&entry.request_identity);
            });
            // a statement of its own for each number of entries: it would drive those of the verbs out of the connection's cache
            query.build().persistent(false).execute(&mut *connection).await.map_err(Error::doing("the audit trail"))?;
            Ok(())
        })
        .await
}

/// The newest entries, newest first: all, or those of one instance.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn newest(mysql: &Mysql, instance: Option<&str>, limit: u32) -> Result<Vec<Entry>> {
    mysql
        .repeat("read the audit trail", |mut connection| async move {
            sqlx::query_as(
                "SELECT DATE_FORMAT(at, '%Y-%m-%dT%H:%i:%s.%fZ') AS at, verb, instance_guid AS instance, binding_guid AS binding, status, \
                 outcome, platform, identity, request_identity FROM audit_trail WHERE (? IS NULL OR instance_guid = ?) ORDER BY id DESC LIMIT ?",
            )
            .bind(instance)
            .bind(instance)
            .bind(limit)
            .fetch_all(&mut *connection)
            .await
            .map_err(Error::doing("the audit trail"))
        })
        .await
}

/// Removes what is older than the retention, a part at a time.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn purge(mysql: &Mysql, retention_days: u32) -> Result<()> {
    mysql
        .repeat("purge the audit trail", |mut connection| async move {
            sqlx::query("DELETE FROM audit_trail WHERE at < UTC_TIMESTAMP(6) - INTERVAL ? DAY LIMIT 1000")
                .bind(retention_days)
                .execute(&mut *connection)
                .await
                .map_err(Error::doing("the audit trail"))?;
            Ok(())
        })
        .await
}
