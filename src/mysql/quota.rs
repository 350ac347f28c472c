//! Which databases have which quota, and where they stand with it. What was taken from whom: see `revocations`.

use std::time::Duration;

use super::{Error, Mysql, Result};
use crate::domain::MB;
use crate::domain::quota::{QuotaState, Sold};

/// What goes with an instance; each statement takes the database.
pub(super) const FORGET_DATABASE: &[&str] = &[
    "DELETE FROM quota_revocations WHERE db_name = ?",
    "DELETE FROM quota_object_revocations WHERE db_name = ?",
    "DELETE FROM quota_violations WHERE db_name = ?",
    "DELETE FROM quota_warnings WHERE db_name = ?",
];

macro_rules! sold {
    ($rest:literal) => {
        concat!(
            "SELECT i.db_name, i.max_storage_mb, v.db_name IS NOT NULL, ",
            "CAST(GREATEST(COALESCE(TIMESTAMPDIFF(SECOND, v.since, UTC_TIMESTAMP(6)), 0), 0) AS UNSIGNED), ",
            "CAST(COALESCE(w.per_cent, 0) AS UNSIGNED) ",
            "FROM service_instances i LEFT JOIN quota_violations v ON v.db_name = i.db_name ",
            "LEFT JOIN quota_warnings w ON w.db_name = i.db_name ",
            "WHERE i.state IN ('ready', 'updating') AND i.db_name IS NOT NULL ",
            $rest
        )
    };
}

type SoldRow = (String, i32, i64, u64, u64);

fn sold_of_row((database, max_storage_mb, over, over_for, warned_at): SoldRow) -> Sold {
    Sold {
        database,
        quota_bytes: u64::try_from(max_storage_mb).unwrap_or(0).saturating_mul(MB),
        is_over: over != 0,
        over_for: Duration::from_secs(over_for),
        warned_at: u8::try_from(warned_at).unwrap_or(u8::MAX),
    }
}

/// Every database whose quota is enforced.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn sold(mysql: &Mysql) -> Result<Vec<Sold>> {
    mysql
        .repeat("list quotas", |mut connection| async move {
            let rows: Vec<SoldRow> =
                sqlx::query_as(sold!("")).fetch_all(&mut *connection).await.map_err(Error::doing("a list of quotas"))?;
            Ok(rows.into_iter().map(sold_of_row).collect())
        })
        .await
}

/// Of the databases whose quota is enforced, these, and those over it.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn sold_among(mysql: &Mysql, databases: &[String]) -> Result<Vec<Sold>> {
    mysql
        .repeat("list some quotas", |mut connection| async move {
            let doing = Error::doing("a list of some quotas");
            let over: Vec<String> =
                sqlx::query_scalar("SELECT db_name FROM quota_violations").fetch_all(&mut *connection).await.map_err(&doing)?;
            let mut names: Vec<&String> = over.iter().chain(databases).collect();
            names.sort_unstable();
            names.dedup();
            let mut found = Vec::with_capacity(names.len());
            for names in names.chunks(100) {
                let places = vec!["?"; names.len()].join(", ");
                let query = format!("{}AND i.db_name IN ({places})", sold!(""));
                let mut query = sqlx::query_as::<_, SoldRow>(sqlx::AssertSqlSafe(query));
                for name in names {
                    query = query.bind(*name);
                }
                found.extend(query.fetch_all(&mut *connection).await.map_err(&doing)?.into_iter().map(sold_of_row));
            }
            Ok(found)
        })
        .await
}

/// Databases of which something was taken, and which no instance stands for any more: an operator removed its row by hand.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn orphans(mysql: &Mysql) -> Result<Vec<String>> {
    mysql
        .repeat("list what was taken for nothing", |mut connection| async move {
            sqlx::query_scalar(
                "SELECT v.db_name FROM quota_violations v WHERE NOT EXISTS (SELECT 1 FROM service_instances i WHERE i.db_name = v.db_name)",
            )
            .fetch_all(&mut *connection)
            .await
            .map_err(Error::doing("a list of violations"))
        })
        .await
}

/// Where a database stands with its quota, as the enforcer last noted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Over its quota, warned, or neither.
    pub state: QuotaState,
    /// The highest threshold that was reported and not left since, in per cent; 0 for none.
    pub warned_at: u8,
    /// When the write privileges were taken, or the warning given (RFC 3339, UTC).
    pub since: Option<String>,
}

/// Where a database stands. For whoever shows it to people: two rows are read, nothing is measured.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn standing(mysql: &Mysql, database: &str) -> Result<Standing> {
    mysql
        .repeat("look where a database stands", |mut connection| async move {
            let row: Option<(Option<String>, Option<String>, u64)> = sqlx::query_as(
                "SELECT DATE_FORMAT(v.since, '%Y-%m-%dT%H:%i:%sZ'), DATE_FORMAT(w.since, '%Y-%m-%dT%H:%i:%sZ'), \
                 CAST(COALESCE(w.per_cent, 0) AS UNSIGNED) FROM (SELECT 1 AS one) one \
                 LEFT JOIN quota_violations v ON v.db_name = ? LEFT JOIN quota_warnings w ON w.db_name = ?",
            )
            .bind(database)
            .bind(database)
            .fetch_optional(&mut *connection)
            .await
            .map_err(Error::doing("a look at where a database stands"))?;
            let (over, warned, per_cent) = row.unwrap_or_default();
            Ok(Standing {
                state: match (&over, &warned) {
                    (Some(_), _) => QuotaState::Over,
                    (None, Some(_)) => QuotaState::Warned,
                    (None, None) => QuotaState::Ok,
                },
                warned_at: u8::try_from(per_cent).unwrap_or(u8::MAX),
                since: over.or(warned),
            })
        })
        .await
}

/// Notes the threshold that a database has crossed, or that it has left (`to` 0: all of them). False: somebody else has noted
/// another one since it was `from`, so the news is theirs to tell.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn set_warning(mysql: &Mysql, database: &str, from: u8, to: u8) -> Result<bool> {
    mysql
        .repeat("note a warning", |mut connection| async move {
            let query = match (from, to) {
                (0, _) => sqlx::query("INSERT IGNORE INTO quota_warnings (per_cent, since, db_name) VALUES (?, UTC_TIMESTAMP(6), ?)")
                    .bind(to)
                    .bind(database),
                (_, 0) => sqlx::query("DELETE FROM quota_warnings WHERE per_cent = ? AND db_name = ?").bind(from).bind(database),
                _ => sqlx::query("UPDATE quota_warnings SET per_cent = ?, since = UTC_TIMESTAMP(6) WHERE db_name = ? AND per_cent = ?")
                    .bind(to)
                    .bind(database)
                    .bind(from),
            };
            let done = query.execute(&mut *connection).await.map_err(Error::doing("a note on a warning"))?;
            Ok(done.rows_affected() == 1)
        })
        .await
}

/// Whether the write privileges of a database are taken at present.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn is_over(mysql: &Mysql, database: &str) -> Result<bool> {
    mysql
        .repeat("look at a quota", |mut connection| async move {
            let over: i64 = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM quota_violations WHERE db_name = ?)")
                .bind(database)
                .fetch_one(&mut *connection)
                .await
                .map_err(Error::doing("a look at a quota"))?;
            Ok(over != 0)
        })
        .await
}
