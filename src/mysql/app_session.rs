//! A session as an app has it, with the credentials of a binding: for `dev --demo` and for tests.

use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions as _, MySqlConnection};

use super::{Error, Result};
use crate::domain::credentials::Endpoint;

/// One connection with an app's credentials.
pub struct AppSession {
    connection: MySqlConnection,
}

impl AppSession {
    /// Connects.
    ///
    /// # Errors
    /// Whatever the server says.
    pub async fn connect(endpoint: &Endpoint, user: &str, password: &str, database: &str) -> Result<Self> {
        let options = MySqlConnectOptions::new()
            .host(&endpoint.host)
            .port(endpoint.port)
            .username(user)
            .password(password)
            .database(database)
            .disable_statement_logging();
        Ok(Self { connection: options.connect().await.map_err(Error::doing("a connection of an app"))? })
    }

    /// Runs a statement; the number of rows it changed.
    ///
    /// # Errors
    /// Whatever the server says.
    pub async fn execute(&mut self, statement: &str) -> Result<u64> {
        let done = super::raw(&mut self.connection, statement.to_owned()).await.map_err(Error::doing("a statement of an app"))?;
        Ok(done.rows_affected())
    }

    /// Runs a query that gives one number.
    ///
    /// # Errors
    /// Whatever the server says.
    pub async fn number(&mut self, query: &str) -> Result<i64> {
        sqlx::query_scalar(sqlx::AssertSqlSafe(query.to_owned()))
            .fetch_one(&mut self.connection)
            .await
            .map_err(Error::doing("a query of an app"))
    }
}
