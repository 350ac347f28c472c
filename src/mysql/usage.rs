//! How much one database uses, from the cheap and never too small to the exact. Nothing here waits for a tenant's locks for more
//! than a moment.

mod look;

use std::collections::HashMap;
use std::time::Duration;

use sqlx::MySqlConnection;

pub use self::look::{Measured, TIME_BOX, exactly, measure, measure_outside};
use super::patience::{ONE_DATABASE, give_back, impatient, in_time};
use super::tablespaces::spelled;
use super::{Dialect, Error, Mysql, Result, quote};
use crate::domain::quota::Usage;
use crate::domain::tablespace;
use crate::domain::usage::{DatabaseSizes, Exact, Looked, TableSize, add_up};

/// The columns of a table, in the order of the query that reads them.
type TableRow = (String, Option<String>, Option<u64>, u64, Option<String>);

/// What the server says of the tables of a database, without its files: it opens every one of them, and looks at no other database.
///
/// # Errors
/// Whatever keeps the server from answering in ten seconds.
pub async fn tables(mysql: &Mysql, database: &str) -> Result<Vec<TableSize>> {
    let mut connection = impatient(mysql, mysql.info().await?.dialect).await?;
    let tables = tables_on(&mut connection, database).await?;
    give_back(connection).await?;
    Ok(tables)
}

/// Adds the files to its [`tables`] a moment ago. The server lists those of all databases for that, which takes a third of a second with
/// 50,000 tables (MySQL: two thirds), however small the database is.
///
/// # Errors
/// Whatever keeps the server from answering in ten seconds.
pub async fn with_files(mysql: &Mysql, database: &str, tables: Vec<TableSize>) -> Result<DatabaseSizes> {
    let dialect = mysql.info().await?.dialect;
    let mut connection = mysql.connection().await?;
    let files = files_on(&mut connection, dialect, database, &tables).await?;
    connection.give_back();
    Ok(DatabaseSizes { tables, files })
}

/// What the server says of a database at present, without making statistics: [`tables`] and [`with_files`].
///
/// # Errors
/// As there.
pub async fn sizes(mysql: &Mysql, database: &str) -> Result<DatabaseSizes> {
    with_files(mysql, database, tables(mysql, database).await?).await
}

/// What a database uses against a quota: the upper bound where that is under it, else exactly, however many tables there are.
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn against(mysql: &Mysql, database: &str, quota_bytes: u64) -> Result<Usage> {
    let sizes = sizes(mysql, database).await?;
    if let Some(bound) = sizes.bound().filter(|bound| *bound < quota_bytes) {
        return Ok(Usage { at_least: 0, at_most: bound, disk: sizes.disk(), hidden_for: Duration::ZERO });
    }
    let measured = measure(mysql, database, sizes, Looked::default(), None).await?;
    let Exact { at_least, at_most, .. } = measured.exact();
    Ok(Usage { at_least, at_most, disk: measured.sizes.disk(), hidden_for: Duration::ZERO })
}

async fn files_on(
    connection: &mut MySqlConnection,
    dialect: Dialect,
    database: &str,
    tables: &[TableSize],
) -> Result<HashMap<String, u64>> {
    let spelled = in_time("the encoding of a name", ONE_DATABASE, spelled(connection, dialect, database)).await?;
    let doing = "a look at the tablespaces of a database";
    let rows = sqlx::query_as(dialect.tablespaces_of_database_query()).bind(format!("{}/%", quote::like(&spelled))).fetch_all(connection);
    let rows: Vec<(String, String, u64)> = in_time(doing, ONE_DATABASE, async { rows.await.map_err(Error::doing(doing)) }).await?;
    let files = rows.iter().filter_map(|(name, decoded, bytes)| {
        let (_, table) = tablespace::parts(name)?;
        let decoded = if dialect == Dialect::MariaDb { decoded } else { tablespace::without_partition(table) };
        Some((table, decoded, *bytes))
    });
    Ok(add_up(tables, files))
}

async fn tables_on(connection: &mut MySqlConnection, database: &str) -> Result<Vec<TableSize>> {
    let doing = "a look at the tables of a database";
    let rows = sqlx::query_as(
        "SELECT TABLE_NAME, ENGINE, CAST(DATA_LENGTH + COALESCE(INDEX_LENGTH, 0) AS UNSIGNED), \
         CAST(COALESCE(DATA_FREE, 0) AS UNSIGNED), CAST(UPDATE_TIME AS CHAR) \
         FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED', 'SEQUENCE')",
    )
    .bind(database)
    .fetch_all(connection);
    let rows: Vec<TableRow> = in_time(doing, ONE_DATABASE, async { rows.await.map_err(Error::doing(doing)) }).await?;
    Ok(rows
        .into_iter()
        .map(|(name, engine, data_bytes, free_bytes, updated)| TableSize { name, engine, data_bytes, free_bytes, updated })
        .collect())
}

/// Whether a database has tables of another engine than InnoDB, or one that is being made and may become that. Opens no table.
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn has_other_engines(mysql: &Mysql, database: &str) -> Result<bool> {
    let doing = "a look at engines";
    let mut connection = impatient(mysql, mysql.info().await?.dialect).await?;
    let found = sqlx::query_scalar(
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_TYPE <> 'VIEW' \
         AND (ENGINE IS NULL OR ENGINE <> 'InnoDB') LIMIT 1",
    )
    .bind(database)
    .fetch_optional(&mut *connection);
    let found: Option<String> = in_time(doing, ONE_DATABASE, async { found.await.map_err(Error::doing(doing)) }).await?;
    give_back(connection).await?;
    Ok(found.is_some())
}
