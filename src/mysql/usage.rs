//! How much databases use, from the cheap and never too small to the exact. Nothing here waits for a tenant's locks for more
//! than a moment: a tenant who holds one must become neither invisible nor a burden to the others.

use std::collections::{HashMap, HashSet};

use sqlx::{MySqlConnection, Row as _};

use super::pool::Connection;
use super::{Dialect, Error, Mysql, Result, quote};
use crate::domain::gate::Counters;
use crate::domain::quota::{DatabaseSizes, TableSize, file_sizes};
use crate::domain::tablespace;

/// The columns of a table, in the order of the query that reads them.
type TableRow = (String, Option<String>, u64, u64, Option<String>);

/// File sizes of all databases, and how many files were listed.
#[derive(Debug, Default)]
pub struct Screen {
    /// Bytes by database.
    pub bytes: HashMap<String, u64>,
    /// Rows the server sent.
    pub rows: usize,
}

/// The size of the files of each of `databases`. At once right, and nothing a tenant sets on a table hides its growth. MariaDB
/// lists only what was opened since it started: see [`open_tables`].
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn screen(mysql: &Mysql, databases: &[String]) -> Result<Screen> {
    let dialect = mysql.info().await?.dialect;
    let mut connection = mysql.connection().await?;
    let rows: Vec<(String, u64)> =
        sqlx::query_as(dialect.tablespaces_query()).fetch_all(&mut *connection).await.map_err(Error::doing("a look at the tablespaces"))?;
    let by_spelling = file_sizes(rows.iter().map(|(name, bytes)| (name.as_str(), *bytes)));
    let mut bytes = HashMap::new();
    for database in databases {
        let found = if tablespace::is_plain(database) {
            by_spelling.get(database.as_str())
        } else {
            by_spelling.get(spelled(&mut connection, dialect, database).await?.as_str())
        };
        if let Some(found) = found {
            bytes.insert(database.clone(), *found);
        }
    }
    connection.give_back();
    Ok(Screen { bytes, rows: rows.len() })
}

/// A name as the view of tablespaces spells it. MariaDB encodes it by itself, so that no table of ours can be incomplete.
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn spelling(mysql: &Mysql, name: &str) -> Result<String> {
    let dialect = mysql.info().await?.dialect;
    let mut connection = mysql.connection().await?;
    let spelled = spelled(&mut connection, dialect, name).await?;
    connection.give_back();
    Ok(spelled)
}

async fn spelled(connection: &mut MySqlConnection, dialect: Dialect, name: &str) -> Result<String> {
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
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SHOW GLOBAL STATUS WHERE Variable_name IN ('Innodb_pages_created', 'Innodb_page_size', 'Uptime', 'Com_create_table', \
         'Com_alter_table', 'Com_create_db')",
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(Error::doing("a look at the server's counters"))?;
    connection.give_back();
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

/// Makes the server open every table of a database, so that its tablespaces are listed.
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn open_tables(mysql: &Mysql, database: &str) -> Result<()> {
    sizes(mysql, database).await.map(|_| ())
}

/// What the server says of a database at present, without making statistics.
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn sizes(mysql: &Mysql, database: &str) -> Result<DatabaseSizes> {
    let dialect = mysql.info().await?.dialect;
    let mut impatient = Impatient::begin(mysql, dialect).await?;
    let sizes = sizes_on(&mut impatient.connection, dialect, database).await;
    impatient.end().await?;
    sizes
}

/// An upper bound of what a database uses, at once right where [`DatabaseSizes::is_bounded`].
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn live(mysql: &Mysql, database: &str) -> Result<u64> {
    Ok(sizes(mysql, database).await?.live_bytes())
}

/// What a database uses exactly, in bytes: statistics made anew, then added up. A table that is locked counts with its upper
/// bound: its owner can hold the lock for ever.
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn exact(mysql: &Mysql, database: &str) -> Result<u64> {
    exact_sizes(mysql, database).await.map(|(used, _)| used)
}

/// As [`exact`], and what the server says of the database afterwards.
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn exact_sizes(mysql: &Mysql, database: &str) -> Result<(u64, DatabaseSizes)> {
    let dialect = mysql.info().await?.dialect;
    let mut impatient = Impatient::begin(mysql, dialect).await?;
    let exact = exact_on(&mut impatient.connection, dialect, database).await;
    impatient.end().await?;
    exact
}

async fn exact_on(connection: &mut MySqlConnection, dialect: Dialect, database: &str) -> Result<(u64, DatabaseSizes)> {
    let names: Vec<String> = tables(connection, database).await?.into_iter().map(|table| table.name).collect();
    let not_analysed = analyse(connection, dialect, database, &names).await?;
    let sizes = sizes_on(connection, dialect, database).await?;
    Ok((sizes.exact_bytes(&not_analysed), sizes))
}

/// Makes statistics; the names of the tables whose lock somebody holds. A failed table is a row of the answer and no error.
async fn analyse(connection: &mut MySqlConnection, dialect: Dialect, database: &str, names: &[String]) -> Result<HashSet<String>> {
    // MySQL waits a second for each locked table, and cannot be told to wait less
    let at_once = match dialect {
        Dialect::MariaDb => 50,
        Dialect::MySql => 1,
    };
    let mut done: HashSet<String> = HashSet::new();
    for names in names.chunks(at_once) {
        let quoted: Vec<_> = names.iter().map(|name| format!("{}.{}", quote::identifier(database), quote::identifier(name))).collect();
        let statement = format!("ANALYZE NO_WRITE_TO_BINLOG TABLE {}", quoted.join(", "));
        let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).fetch_all(&mut *connection).await.map_err(Error::doing("ANALYZE"))?;
        let mut blocked = false;
        for row in rows {
            let cell = |i| row.try_get::<String, usize>(i).map_err(Error::doing("ANALYZE"));
            let (table, text) = (cell(0)?, cell(3)?);
            if text == "OK" || text.contains("up to date") || text.contains("doesn't support analyze") {
                done.insert(table.strip_prefix(&format!("{database}.")).unwrap_or(&table).to_owned());
            }
            blocked |= text.starts_with("Lock wait timeout");
        }
        if blocked && at_once == 1 {
            break;
        }
    }
    Ok(names.iter().filter(|name| !done.contains(*name)).cloned().collect())
}

async fn sizes_on(connection: &mut MySqlConnection, dialect: Dialect, database: &str) -> Result<DatabaseSizes> {
    let tables = tables(connection, database).await?;
    let spelled = spelled(connection, dialect, database).await?;
    let rows: Vec<(String, String, u64)> = sqlx::query_as(dialect.tablespaces_of_database_query())
        .bind(format!("{}/%", quote::like(&spelled)))
        .fetch_all(&mut *connection)
        .await
        .map_err(Error::doing("a look at the tablespaces of a database"))?;
    let known: HashSet<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let mut files: HashMap<String, u64> = HashMap::new();
    for (name, decoded, bytes) in &rows {
        let Some((_, table)) = tablespace::parts(name) else { continue };
        // a table may be called like a partition, or like a copy
        let table = if known.contains(table) {
            table
        } else if tablespace::is_copy(table) {
            if known.contains(decoded.as_str()) { decoded } else { table }
        } else if dialect == Dialect::MariaDb {
            decoded
        } else {
            tablespace::without_partition(table)
        };
        *files.entry(table.to_owned()).or_insert(0) += bytes;
    }
    Ok(DatabaseSizes { tables, files })
}

async fn tables(connection: &mut MySqlConnection, database: &str) -> Result<Vec<TableSize>> {
    let rows: Vec<TableRow> = sqlx::query_as(
        "SELECT TABLE_NAME, ENGINE, CAST(COALESCE(DATA_LENGTH, 0) + COALESCE(INDEX_LENGTH, 0) AS UNSIGNED), \
         CAST(COALESCE(DATA_FREE, 0) AS UNSIGNED), CAST(UPDATE_TIME AS CHAR) \
         FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED', 'SEQUENCE')",
    )
    .bind(database)
    .fetch_all(&mut *connection)
    .await
    .map_err(Error::doing("a look at the tables of a database"))?;
    Ok(rows
        .into_iter()
        .map(|(name, engine, data_bytes, free_bytes, updated)| TableSize { name, engine, data_bytes, free_bytes, updated })
        .collect())
}

/// Databases with tables that the view of tablespaces does not list under their name: in a shared tablespace, and on MySQL of
/// another engine. For other engines on MariaDB see [`has_other_engines`]: there this question costs as much as all tables.
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn outside(mysql: &Mysql) -> Result<HashSet<String>> {
    let dialect = mysql.info().await?.dialect;
    let mut connection = mysql.connection().await?;
    if dialect == Dialect::MariaDb {
        let shared: Vec<String> =
            sqlx::query_scalar("SELECT NAME FROM information_schema.INNODB_SYS_TABLES WHERE SPACE_TYPE = 'System' AND NAME LIKE '%/%'")
                .fetch_all(&mut *connection)
                .await
                .map_err(Error::doing("a look at shared tablespaces"))?;
        connection.give_back();
        return Ok(shared.iter().filter_map(|name| tablespace::parts(name)).map(|(database, _)| tablespace::decode(database)).collect());
    }
    // not INNODB_TABLES, which has the tablespace of each table: it waits for a table that a tenant is making, as long as that takes
    let files: Vec<(String, u64)> =
        sqlx::query_as(dialect.tablespaces_query()).fetch_all(&mut *connection).await.map_err(Error::doing("a look at the tablespaces"))?;
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
    connection.give_back();
    let is_outside = |database: &str, table: &str, engine: &str| engine != "InnoDB" || !with_file.contains(&(database, table));
    Ok(tables.into_iter().filter(|(database, table, engine)| is_outside(database, table, engine)).map(|(database, ..)| database).collect())
}

/// Whether a database has tables of another engine than InnoDB. Opens no table.
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn has_other_engines(mysql: &Mysql, database: &str) -> Result<bool> {
    let mut impatient = Impatient::begin(mysql, mysql.info().await?.dialect).await?;
    let found: Result<Option<String>> = sqlx::query_scalar(
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_TYPE <> 'VIEW' AND ENGINE <> 'InnoDB' LIMIT 1",
    )
    .bind(database)
    .fetch_optional(&mut *impatient.connection)
    .await
    .map_err(Error::doing("a look at engines"));
    impatient.end().await?;
    Ok(found?.is_some())
}

/// A connection that waits for nobody's locks. Given back as it was.
struct Impatient {
    connection: Connection,
}

impl Impatient {
    async fn begin(mysql: &Mysql, dialect: Dialect) -> Result<Self> {
        let mut connection = mysql.connection().await?;
        // MySQL knows no shorter wait
        let seconds = u8::from(dialect == Dialect::MySql);
        super::raw(&mut connection, format!("SET SESSION lock_wait_timeout = {seconds}")).await.map_err(Error::doing("SET"))?;
        Ok(Self { connection })
    }

    async fn end(mut self) -> Result<()> {
        super::raw(&mut self.connection, "SET SESSION lock_wait_timeout = DEFAULT".to_owned()).await.map_err(Error::doing("SET"))?;
        self.connection.give_back();
        Ok(())
    }
}
