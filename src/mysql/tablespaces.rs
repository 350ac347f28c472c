//! Looks at the whole server: the files of all databases, and the counters that say whether there is anything new.

use std::collections::{HashMap, HashSet};

use sqlx::MySqlConnection;

use super::patience::{ONE_DATABASE, WHOLE_SERVER, in_time};
use super::{Dialect, Error, Mysql, Result};
use crate::domain::gate::Counters;
use crate::domain::tablespace;
use crate::domain::usage::{FileSizes, file_sizes};

/// File sizes of all databases.
#[derive(Debug, Default)]
pub struct Screen {
    /// By database.
    pub files: HashMap<String, FileSizes>,
    /// File by file, as the server sent it: name and bytes.
    pub list: Vec<(String, u64)>,
}

/// Every file there is: name as spelled, and bytes. At once right, and nothing a tenant sets on a table hides its growth. MariaDB lists only
/// what was opened since it started: see [`super::usage::tables`].
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn list(mysql: &Mysql) -> Result<Vec<(String, u64)>> {
    let dialect = mysql.info().await?.dialect;
    let mut connection = mysql.connection().await?;
    let list = in_time("a look at the tablespaces", WHOLE_SERVER, list_on(&mut connection, dialect)).await?;
    connection.give_back();
    Ok(list)
}

async fn list_on(connection: &mut MySqlConnection, dialect: Dialect) -> Result<Vec<(String, u64)>> {
    sqlx::query_as(dialect.tablespaces_query()).fetch_all(connection).await.map_err(Error::doing("a look at the tablespaces"))
}

/// The size of the files of each of `databases`, by a [`list`].
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn screen(mysql: &Mysql, databases: &[String]) -> Result<Screen> {
    let dialect = mysql.info().await?.dialect;
    let mut connection = mysql.connection().await?;
    let found = in_time("a look at the tablespaces", WHOLE_SERVER, screen_on(&mut connection, dialect, databases)).await?;
    connection.give_back();
    Ok(found)
}

async fn screen_on(connection: &mut MySqlConnection, dialect: Dialect, databases: &[String]) -> Result<Screen> {
    let list = list_on(connection, dialect).await?;
    let by_spelling = file_sizes(&list);
    let mut files = HashMap::new();
    for database in databases {
        let found = if tablespace::is_plain(database) {
            by_spelling.get(database.as_str())
        } else {
            by_spelling.get(spelled(connection, dialect, database).await?.as_str())
        };
        if let Some(found) = found {
            files.insert(database.clone(), *found);
        }
    }
    Ok(Screen { files, list })
}

/// A name as the view of tablespaces spells it. MariaDB encodes it by itself, so that no table of ours can be incomplete.
pub(super) async fn spelled(connection: &mut MySqlConnection, dialect: Dialect, name: &str) -> Result<String> {
    if dialect == Dialect::MySql || tablespace::is_plain(name) {
        return Ok(name.to_owned());
    }
    let encoded: Vec<u8> = sqlx::query_scalar("SELECT CAST(CONVERT(CONVERT(? USING utf8mb4) USING filename) AS BINARY)")
        .bind(name)
        .fetch_one(connection)
        .await
        .map_err(Error::doing("the encoding of a name"))?;
    Ok(String::from_utf8_lossy(&encoded).into_owned())
}

/// The server's counters that say whether anything has grown.
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn counters(mysql: &Mysql) -> Result<Counters> {
    let mut connection = mysql.connection().await?;
    let found = in_time("a look at the server's counters", ONE_DATABASE, counters_on(&mut connection)).await?;
    connection.give_back();
    Ok(found)
}

async fn counters_on(connection: &mut MySqlConnection) -> Result<Counters> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SHOW GLOBAL STATUS WHERE Variable_name IN ('Innodb_pages_created', 'Innodb_page_size', 'Uptime', 'Com_create_table', \
         'Com_alter_table', 'Com_create_db')",
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(Error::doing("a look at the server's counters"))?;
    let mut counters = Counters::default();
    for (name, value) in rows {
        let value = value.parse().unwrap_or(0);
        match name.to_ascii_lowercase().as_str() {
            "innodb_pages_created" => counters.pages_created = value,
            "innodb_page_size" => counters.page_size = value,
            "uptime" => counters.uptime = value,
            _ => counters.definitions = counters.definitions.wrapping_add(value),
        }
    }
    Ok(counters)
}

/// Databases with tables that the view of tablespaces does not list under their name: in a shared tablespace, and on MySQL of
/// another engine. For other engines on MariaDB see [`super::usage::has_other_engines`]: there this question costs as much as all tables.
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn outside(mysql: &Mysql) -> Result<HashSet<String>> {
    let dialect = mysql.info().await?.dialect;
    let mut connection = mysql.connection().await?;
    let found = in_time("a look at engines and shared tablespaces", WHOLE_SERVER, outside_on(&mut connection, dialect)).await?;
    connection.give_back();
    Ok(found)
}

async fn outside_on(connection: &mut MySqlConnection, dialect: Dialect) -> Result<HashSet<String>> {
    if dialect == Dialect::MariaDb {
        let shared: Vec<String> =
            sqlx::query_scalar("SELECT NAME FROM information_schema.INNODB_SYS_TABLES WHERE SPACE_TYPE = 'System' AND NAME LIKE '%/%'")
                .fetch_all(&mut *connection)
                .await
                .map_err(Error::doing("a look at shared tablespaces"))?;
        return Ok(shared.iter().filter_map(|name| tablespace::parts(name)).map(|(database, _)| tablespace::decode(database)).collect());
    }
    // not INNODB_TABLES, which has the tablespace of each table: it waits for a table that a tenant is making, as long as that takes
    let files = list_on(connection, dialect).await?;
    let with_file: HashSet<(&str, &str)> = files
        .iter()
        .filter_map(|(name, _)| tablespace::parts(name))
        .flat_map(|(database, table)| [(database, table), (database, tablespace::without_partition(table))])
        .collect();
    let tables: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' AND ENGINE IS NOT NULL \
         AND TABLE_SCHEMA NOT IN ('mysql', 'performance_schema', 'information_schema', 'sys')",
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(Error::doing("a look at engines"))?;
    let is_outside = |database: &str, table: &str, engine: &str| engine != "InnoDB" || !with_file.contains(&(database, table));
    Ok(tables.into_iter().filter(|(database, table, engine)| is_outside(database, table, engine)).map(|(database, ..)| database).collect())
}
