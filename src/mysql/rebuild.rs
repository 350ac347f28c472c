//! Rebuilding a table: the only thing that gives back the space of rows deleted here and there.

use super::nodes::Patience;
use super::{Dialect, Error, Mysql, Result, code, quote};

/// How long a rebuild waits for the tenant's locks, in seconds. While it waits, others wait behind it.
const LOCK_WAIT: u8 = 2;

/// Rebuilds a table without keeping the app from it, where the server can (not with full-text indexes). On MySQL its file no longer
/// grows by what its owner set (`AUTOEXTEND_SIZE`), or it would be as large as before. False: the table is gone.
///
/// # Errors
/// Whatever the server says; a lock of the tenant's is error 1205. A server that falls silent is given up, however long a rebuild may take.
pub async fn table(mysql: &Mysql, database: &str, table: &str) -> Result<bool> {
    tokio::select! {
        done = rebuild(mysql, database, table) => done,
        error = mysql.fallen_silent(mysql.current_index(), Patience::Rebuild) => Err(error),
    }
}

async fn rebuild(mysql: &Mysql, database: &str, table: &str) -> Result<bool> {
    let dialect = mysql.info().await?.dialect;
    let mut connection = mysql.connection().await?;
    let set = |value: String| format!("SET SESSION lock_wait_timeout = {value}");
    super::raw(&mut connection, set(LOCK_WAIT.to_string())).await.map_err(Error::doing("SET"))?;
    let name = format!("{}.{}", quote::identifier(database), quote::identifier(table));
    let anew = match dialect {
        Dialect::MariaDb => "FORCE",
        Dialect::MySql => "AUTOEXTEND_SIZE = 0, FORCE",
    };
    let online = format!("ALTER TABLE {name} {anew}, ALGORITHM=INPLACE, LOCK=NONE");
    let mut done = super::raw(&mut connection, online).await.map_err(Error::doing("the rebuilding of a table"));
    if let Err(error) = &done
        && matches!(error.code(), Some(code::ALTER_NOT_SUPPORTED | code::ALTER_NOT_SUPPORTED_BECAUSE))
    {
        done = super::raw(&mut connection, format!("ALTER TABLE {name} {anew}")).await.map_err(Error::doing("the rebuilding of a table"));
    }
    super::raw(&mut connection, set("DEFAULT".to_owned())).await.map_err(Error::doing("SET"))?;
    connection.give_back();
    match done {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(code::NO_SUCH_TABLE) => Ok(false),
        Err(error) => Err(error),
    }
}
