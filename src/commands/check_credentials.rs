//! `check-credentials`: what an app does first, with the credentials of a binding.

use std::io::Read as _;
use std::time::Duration;

use serde::Deserialize;

use super::{Failure, Result};
use crate::domain::credentials::Endpoint;
use crate::domain::names::random_hex;
use crate::mysql::app_session::AppSession;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
struct Credentials {
    hostname: String,
    port: u16,
    username: String,
    password: String,
    name: String,
}

/// Reads the credentials from stdin, as `cf service-key` or a binding's answer has them; connects, writes, reads, cleans up.
pub(super) async fn run() -> Result<()> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    // serde's message could repeat a password
    let unreadable = |_| anyhow::anyhow!("stdin is not the JSON of a binding's credentials (hostname, port, username, password, name)");
    let mut json: serde_json::Value = serde_json::from_str(&text).map_err(unreadable)?;
    if let Some(inner) = json.get_mut("credentials") {
        json = inner.take();
    }
    let credentials: Credentials = serde_json::from_value(json).map_err(unreadable)?;
    match tokio::time::timeout(PATIENCE, try_out(&credentials)).await {
        Ok(done) => done?,
        Err(_) => return Err(Failure::Missing(format!("the database server has not answered within {} s", PATIENCE.as_secs()))),
    }
    println!("Connected to {} as {}: a row was written and read.", credentials.name, credentials.username);
    Ok(())
}

async fn try_out(credentials: &Credentials) -> Result<()> {
    let endpoint = Endpoint { host: credentials.hostname.clone(), port: credentials.port };
    let mut session = AppSession::connect(&endpoint, &credentials.username, &credentials.password, &credentials.name).await?;
    let table = format!("cf_mysql_broker_check_{}", random_hex(8));
    session.execute(&format!("CREATE TABLE {table} (id INT PRIMARY KEY)")).await?;
    let written = session.execute(&format!("INSERT INTO {table} VALUES (7)")).await;
    let read = session.number(&format!("SELECT CAST(id AS SIGNED) FROM {table}")).await;
    session.execute(&format!("DROP TABLE {table}")).await?;
    written?;
    if read? == 7 { Ok(()) } else { Err(anyhow::anyhow!("what was read is not what was written").into()) }
}
