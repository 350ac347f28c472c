//! The accounts an operator makes for the broker and for the enforcer, with the least rights each needs: found by taking
//! away one at a time. `dev` and the tests run with them, the verb `operator-accounts` prints them as statements.

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions as _, MySqlConnection};

use super::dialect::Dialect;
use super::{Error, Result, quote, server};
use crate::domain::binding::Account;
use crate::domain::credentials::Endpoint;
use crate::domain::privileges;

/// What to make. Both may be one account, which then gets the rights of both.
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
    for statement in statements(info.dialect, info.partial_revokes, accounts).concat() {
        run(&mut connection, statement).await?;
    }
    Ok(())
}

/// The statements for a server of this `version` (`SELECT VERSION()`), for an administrator to run as they are. They carry the
/// passwords. Without an enforcer's account the broker gets no right it needs for enforcing either.
pub fn sql(version: &str, partial_revokes: bool, accounts: &OperatorAccounts<'_>, with_enforcer: bool) -> Vec<String> {
    let [broker, enforcer] = statements(Dialect::of_version(version), partial_revokes, accounts);
    // what quoting relies on, see `quote`
    let mut all = vec!["SET SESSION sql_mode = ''".to_owned()];
    all.extend(broker);
    if with_enforcer {
        all.extend(enforcer);
    }
    all
}

async fn run(connection: &mut MySqlConnection, statement: String) -> Result<()> {
    super::raw(connection, statement).await.map_err(Error::doing_secretly("the accounts of broker and enforcer"))?;
    Ok(())
}

/// Those of the broker's account, and those of the enforcer's.
fn statements(dialect: Dialect, partial_revokes: bool, accounts: &OperatorAccounts<'_>) -> [Vec<String>; 2] {
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
    let of_broker = vec![
        format!("CREATE USER IF NOT EXISTS {broker}"),
        format!("ALTER USER {broker} IDENTIFIED BY {}", password(accounts.broker.1)),
        format!("GRANT {rights} ON {sold}.* TO {broker} WITH GRANT OPTION"),
        format!("GRANT ALL PRIVILEGES ON {own}.* TO {broker}"),
        format!("GRANT CREATE USER, PROCESS, {connection_admin} ON *.* TO {broker}"),
        format!("GRANT SELECT (User, Host) ON mysql.user TO {broker}"),
        format!("GRANT SELECT (User, Host, Db) ON mysql.db TO {broker}"),
    ];
    let mut of_enforcer = Vec::new();
    if enforcer != broker {
        of_enforcer.extend([
            format!("CREATE USER IF NOT EXISTS {enforcer}"),
            format!("ALTER USER {enforcer} IDENTIFIED BY {}", password(accounts.enforcer.1)),
            format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {own}.* TO {enforcer}"),
        ]);
    }
    of_enforcer.extend([
        format!("GRANT {rights} ON {plain}.* TO {enforcer} WITH GRANT OPTION"),
        format!("GRANT SELECT, PROCESS, {connection_admin} ON *.* TO {enforcer}"),
    ]);
    [of_broker, of_enforcer]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_for_an_administrator() {
        let (broker, enforcer) = (SecretString::from("it's"), SecretString::from("e"));
        let accounts = OperatorAccounts { broker: ("broker", &broker), enforcer: ("enforcer", &enforcer), database: "mysql_broker" };
        let mariadb = sql("10.11.14-MariaDB", false, &accounts, true);
        assert!(
            mariadb.iter().any(|s| s.contains("CONNECTION ADMIN"))
                && mariadb.iter().any(|s| s == "CREATE USER IF NOT EXISTS 'enforcer'@'%'")
        );
        assert!(mariadb.contains(&"ALTER USER 'broker'@'%' IDENTIFIED BY 'it''s'".to_owned()), "{mariadb:#?}");
        let mysql = sql("8.0.36-28.1", true, &accounts, false);
        assert!(
            mysql.iter().any(|s| s.contains("CONNECTION_ADMIN"))
                && mysql.iter().any(|s| s.contains(" ON *.* TO 'broker'@'%' WITH GRANT OPTION"))
        );
        assert!(mysql.iter().all(|s| !s.contains("enforcer")) && mysql.iter().any(|s| s.contains("ON mysql.db TO 'broker'")), "{mysql:#?}");
    }

    #[test]
    fn one_account_for_both_is_made_once_and_has_the_rights_of_both() {
        let password = SecretString::from("p");
        let accounts = OperatorAccounts { broker: ("both", &password), enforcer: ("both", &password), database: "mysql_broker" };
        let statements = sql("10.11.14-MariaDB", false, &accounts, true);
        assert_eq!(statements.iter().filter(|s| !s.starts_with("GRANT") && s.contains("both")).count(), 2, "{statements:#?}");
        for scope in [r"`cf\_%`.*", "`cf_%`.*", r"`mysql\_broker`.*", "mysql.db", "*.*"] {
            assert!(statements.iter().any(|s| s.contains(&format!(" ON {scope} TO 'both'@'%'"))), "{scope}: {statements:#?}");
        }
    }
}
