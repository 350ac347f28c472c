//! What the verb `doctor` asks each node, one question at a time, so that the first answer that is wrong hides none of the others.

use super::operator_accounts::{self, OperatorAccounts};
use super::{Error, Mysql, Node, Result, ServerInfo, schema, server};

/// What a node says.
#[derive(Debug)]
pub struct Examined {
    /// Where it is.
    pub node: String,
    /// What it is; without this nothing else was asked.
    pub info: Result<ServerInfo>,
    /// The cipher of the connection; none without TLS.
    pub cipher: Option<String>,
    /// Whether it would take writes.
    pub writable: Result<()>,
    /// Whether the broker's schema is there and new enough.
    pub schema: Result<()>,
    /// What SHOW GRANTS says of the account that asks.
    pub grants: Result<Vec<String>>,
}

/// Asks every configured node.
pub async fn examine(mysql: &Mysql) -> Vec<Examined> {
    let mut found = Vec::new();
    for node in mysql.nodes() {
        found.push(examine_node(node, mysql.database()).await);
    }
    found
}

async fn examine_node(node: &Node, database: &str) -> Examined {
    let name = format!("{}:{}", node.endpoint.host, node.endpoint.port);
    let not_asked = || Error::Unavailable("not asked".to_owned());
    let mut connection = match node.connect_in_time().await {
        Ok(connection) => connection,
        Err(error) => {
            let (writable, schema, grants) = (Err(not_asked()), Err(not_asked()), Err(not_asked()));
            return Examined { node: name, info: Err(error), cipher: None, writable, schema, grants };
        }
    };
    let writable = server::check_writable(&mut connection).await;
    let info = server::info(&mut connection).await;
    let cipher: Option<(String, String)> =
        sqlx::query_as("SHOW SESSION STATUS LIKE 'Ssl_cipher'").fetch_optional(&mut connection).await.ok().flatten();
    let schema = schema::check(&mut connection, database).await;
    let grants = sqlx::query_scalar("SHOW GRANTS").fetch_all(&mut connection).await.map_err(Error::doing("a look at the account's rights"));
    Examined { node: name, info, cipher: cipher.map(|(_, cipher)| cipher).filter(|cipher| !cipher.is_empty()), writable, schema, grants }
}

/// The GRANT statements an account of this name needs on this server; those of the enforcer only `with_enforcer`.
pub fn needed(info: &ServerInfo, accounts: &OperatorAccounts<'_>, with_enforcer: bool, user: &str) -> Vec<String> {
    let is_for = format!(" TO '{}'@", user.replace('\\', "\\\\").replace('\'', "''"));
    operator_accounts::sql(&info.version, info.partial_revokes, accounts, with_enforcer)
        .into_iter()
        .filter(|statement| statement.starts_with("GRANT ") && statement.contains(&is_for))
        .collect()
}
