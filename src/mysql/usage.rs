//! How much databases use, from the cheap and never too small to the exact.

use std::collections::HashMap;

use super::{Error, Mysql, Result, quote};
use crate::domain::quota::{TableSize, live_bytes};
use crate::domain::tablespace;

/// Every tablespace the server has open: name and file size in bytes. At once right, and nothing a tenant sets on a table
/// hides its growth. MariaDB lists only what was opened since it started: see [`open_tables`].
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn tablespaces(mysql: &Mysql) -> Result<Vec<(String, u64)>> {
    let query = mysql.info().await?.dialect.tablespaces_query();
    let mut connection = mysql.connection().await?;
    sqlx::query_as(query).fetch_all(&mut *connection).await.map_err(Error::doing("a look at the tablespaces"))
}

/// Seconds since the server started.
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn uptime(mysql: &Mysql) -> Result<u64> {
    let mut connection = mysql.connection().await?;
    let (_, value): (String, String) = sqlx::query_as("SHOW GLOBAL STATUS LIKE 'Uptime'")
        .fetch_one(&mut *connection)
        .await
        .map_err(Error::doing("a look at the uptime"))?;
    value.parse().map_err(|_| Error::Data("Uptime is no number".to_owned()))
}

/// Makes the server open every table of a database, so that its tablespaces are listed.
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn open_tables(mysql: &Mysql, database: &str) -> Result<()> {
    tables(mysql, database).await.map(|_| ())
}

/// An upper bound of what a database uses, at once right: see [`live_bytes`].
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn live(mysql: &Mysql, database: &str) -> Result<u64> {
    let query = mysql.info().await?.dialect.tablespaces_of_database_query();
    let tables = tables(mysql, database).await?;
    let mut connection = mysql.connection().await?;
    let rows: Vec<(String, u64)> = sqlx::query_as(query)
        .bind(format!("{}/%", quote::grant_pattern(database, false)))
        .fetch_all(&mut *connection)
        .await
        .map_err(Error::doing("a look at the tablespaces of a database"))?;
    let mut files: HashMap<String, u64> = HashMap::new();
    for (name, bytes) in rows {
        if let Some(table) = tablespace::table_of(&name)
            && !tablespace::is_temporary(&name)
        {
            *files.entry(table).or_insert(0) += bytes;
        }
    }
    Ok(live_bytes(&tables, &files))
}

/// What a database uses exactly: statistics made anew, then added up. Bytes, no rounding.
///
/// # Errors
/// Whatever keeps the server from answering: a lock of the tenant's, too, because the enforcer waits one second for it.
pub async fn exact(mysql: &Mysql, database: &str) -> Result<u64> {
    let before = tables(mysql, database).await?;
    let names: Vec<_> = before.iter().map(|table| format!("{}.{}", quote::identifier(database), quote::identifier(&table.name))).collect();
    if !names.is_empty() {
        let mut connection = mysql.connection().await?;
        super::raw(&mut connection, "SET SESSION lock_wait_timeout = 1".to_owned()).await.map_err(Error::doing("SET"))?;
        let analysed = super::raw(&mut connection, format!("ANALYZE NO_WRITE_TO_BINLOG TABLE {}", names.join(", "))).await;
        super::raw(&mut connection, "SET SESSION lock_wait_timeout = DEFAULT".to_owned()).await.map_err(Error::doing("SET"))?;
        analysed.map_err(Error::doing("ANALYZE"))?;
    }
    Ok(tables(mysql, database).await?.iter().map(|table| table.data_bytes).sum())
}

async fn tables(mysql: &Mysql, database: &str) -> Result<Vec<TableSize>> {
    let mut connection = mysql.connection().await?;
    let rows: Vec<(String, u64, u64)> = sqlx::query_as(
        "SELECT TABLE_NAME, CAST(COALESCE(DATA_LENGTH, 0) + COALESCE(INDEX_LENGTH, 0) AS UNSIGNED), CAST(COALESCE(DATA_FREE, 0) AS UNSIGNED) \
         FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_TYPE = 'BASE TABLE'",
    )
    .bind(database)
    .fetch_all(&mut *connection)
    .await
    .map_err(Error::doing("a look at the tables of a database"))?;
    Ok(rows.into_iter().map(|(name, data_bytes, free_bytes)| TableSize { name, data_bytes, free_bytes }).collect())
}
