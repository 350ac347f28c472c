//! Accounts that cf-mysql-broker made for bindings of an instance that was adopted since. It kept no row of them: what the server says of
//! their rights is all there is.

use super::read_only_users;
use crate::domain::binding::Account;
use crate::domain::ids::BindingId;
use crate::domain::instance::Instance;
use crate::domain::names;
use crate::mysql::last_operations::deletions;
use crate::mysql::transact::End;
use crate::mysql::{Error, Mysql, Result, quote};

/// The accounts of an adopted instance: named as cf-mysql-broker named them, with rights on this database and on no other.
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn accounts(mysql: &Mysql, instance: &Instance) -> Result<Vec<Account>> {
    if !instance.is_adopted() {
        return Ok(Vec::new());
    }
    let database = instance.database.as_str();
    let pattern = &quote::grant_pattern(database, false);
    mysql
        .repeat("list the accounts of an adopted instance", |mut connection| async move {
            // the old broker granted with the plain name; an operator may have escaped it since
            let rows: Vec<(String, String)> = sqlx::query_as(
                "SELECT DISTINCT CAST(here.User AS CHAR), CAST(here.Host AS CHAR) FROM mysql.db here WHERE here.Db IN (?, ?) \
                 AND NOT EXISTS (SELECT 1 FROM mysql.db there WHERE there.User = here.User AND there.Host = here.Host AND there.Db NOT IN (?, ?))",
            )
            .bind(database)
            .bind(pattern)
            .bind(database)
            .bind(pattern)
            .fetch_all(&mut *connection)
            .await
            .map_err(Error::doing("a look at the accounts of an adopted instance"))?;
            let accounts = rows.into_iter().map(|(user, host)| Account { user, host });
            Ok(accounts.filter(|account| names::is_adopted_account_name(&account.user)).collect())
        })
        .await
}

/// The account of a binding that cf-mysql-broker made, if it has rights on the database of this instance and lives on for nothing else.
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn account(mysql: &Mysql, instance: &Instance, id: &BindingId) -> Result<Option<Account>> {
    if !instance.is_adopted() {
        return Ok(None);
    }
    let (database, pattern) = (instance.database.as_str(), &quote::grant_pattern(&instance.database, false));
    mysql
        .repeat("look for an adopted account", |mut connection| async move {
            let row: Option<(String, String)> = sqlx::query_as(
                "SELECT CAST(User AS CHAR), CAST(Host AS CHAR) FROM mysql.db WHERE User = ? AND Db IN (?, ?) \
                 AND User NOT IN (SELECT username FROM retired_accounts) LIMIT 1",
            )
            .bind(names::adopted_account_name(id))
            .bind(database)
            .bind(pattern)
            .fetch_optional(&mut *connection)
            .await
            .map_err(Error::doing("a look for an adopted account"))?;
            Ok(row.map(|(user, host)| Account { user, host }))
        })
        .await
}

/// Forgets what was noted of an adopted account that is about to go, and that its DELETE is about to be answered.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn forget(mysql: &Mysql, instance: &Instance, id: &BindingId, account: &Account) -> Result<()> {
    mysql
        .transact("forget an adopted account", |mut transaction| async move {
            read_only_users::forget(&mut transaction, account).await?;
            super::forget(&mut transaction, instance, id, account).await?;
            deletions::note(&mut transaction, &instance.id, Some(id)).await?;
            Ok(End::Commit(transaction, ()))
        })
        .await
}
