//! The accounts an operator makes for the broker and for the enforcer, with the least rights each needs: found by taking
//! away one at a time. `dev` and the tests run with them; `docs/deploy.md` shows them as statements.

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions as _, MySqlConnection};

use super::dialect::Dialect;
use super::{Error, Result, quote, server};
use crate::domain::binding::Account;
use crate::domain::credentials::Endpoint;
use crate::domain::privileges;

/// What to make.
#[derive(Debug)]
pub struct OperatorAccounts<'a> {
    /// Name and password of the broker's account.
    pub broker: (&'a str, &'a SecretString),
    /// Name and password of the enforcer's account.
    pub enforcer: (&'a str, &'a SecretString),
    /// The broker's own database.
    pub database: &'a str,
}

/// Makes both accounts, or gives existing ones these passwords and rights. `root` connects with all rights.
///
/// # Errors
/// Whatever the server says; no password is part of it.
pub async fn create(endpoint: &Endpoint, root_password: &SecretString, accounts: &OperatorAccounts<'_>) -> Result<()> {
    let mut connection = MySqlConnectOptions::new()
        .host(&endpoint.host)
        .port(endpoint.port)
        .username("root")
        .password(root_password.expose_secret())
        .disable_statement_logging()
        .connect()
        .await
        .map_err(Error::doing("a connection of root"))?;
    let info = server::info(&mut connection).await?;
    for statement in statements(info.dialect, info.partial_revokes, accounts) {
        run(&mut connection, statement).await?;
    }
    Ok(())
}

async fn run(connection: &mut MySqlConnection, statement: String) -> Result<()> {
    super::raw(connection, statement).await.map_err(Error::doing_secretly("the accounts of broker and enforcer"))?;
    Ok(())
}

fn statements(dialect: Dialect, partial_revokes: bool, accounts: &OperatorAccounts<'_>) -> Vec<String> {
    let mut rights = privileges::of_binding(false, true, true, dialect == Dialect::MariaDb);
    rights.sort_unstable();
    let rights = rights.join(", ");
    let connection_admin = match dialect {
        Dialect::MariaDb => "CONNECTION ADMIN",
        Dialect::MySql => "CONNECTION_ADMIN",
    };
    // with partial_revokes patterns are literal names, so there is no way to say "every database that begins with cf_"
    let sold = if partial_revokes { "*".to_owned() } else { quote::identifier(r"cf\_%") };
    // rights that were granted with a plain name (cf-mysql did, operators do) are patterns to the server, `_` standing for any
    // character: to take them the enforcer needs a pattern that covers them
    let plain = if partial_revokes { "*".to_owned() } else { quote::identifier("cf_%") };
    let own = quote::identifier(&quote::grant_pattern(accounts.database, partial_revokes));
    let account = |name: &str| quote::account(&Account::from_anywhere(name.to_owned()));
    let (broker, enforcer) = (account(accounts.broker.0), account(accounts.enforcer.0));
    let password = |secret: &SecretString| quote::string(secret.expose_secret());
    vec![
        format!("CREATE USER IF NOT EXISTS {broker}"),
        format!("ALTER USER {broker} IDENTIFIED BY {}", password(accounts.broker.1)),
        format!("GRANT {rights} ON {sold}.* TO {broker} WITH GRANT OPTION"),
        format!("GRANT ALL PRIVILEGES ON {own}.* TO {broker}"),
        format!("GRANT CREATE USER, PROCESS, {connection_admin} ON *.* TO {broker}"),
        format!("GRANT SELECT (User, Host) ON mysql.user TO {broker}"),
        format!("GRANT SELECT (User, Host, Db) ON mysql.db TO {broker}"),
        format!("CREATE USER IF NOT EXISTS {enforcer}"),
        format!("ALTER USER {enforcer} IDENTIFIED BY {}", password(accounts.enforcer.1)),
        format!("GRANT {rights} ON {plain}.* TO {enforcer} WITH GRANT OPTION"),
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {own}.* TO {enforcer}"),
        format!("GRANT SELECT, PROCESS, {connection_admin} ON *.* TO {enforcer}"),
    ]
}
