//! The table `read_only_users`, cf-mysql's own: its enforcer gives back write privileges to whoever is not in it.

use sqlx::MySqlConnection;

use crate::domain::binding::Account;
use crate::mysql::{Error, Result, quote};

/// Notes an account that must never get write privileges.
pub(super) async fn remember(connection: &mut MySqlConnection, account: &Account) -> Result<()> {
    sqlx::query("INSERT INTO read_only_users (username, grantee, created_at, updated_at) VALUES (?, ?, UTC_TIMESTAMP(), UTC_TIMESTAMP())")
        .bind(&account.user)
        .bind(quote::account(account))
        .execute(connection)
        .await
        .map_err(Error::doing("a note on a read-only account"))?;
    Ok(())
}

/// Forgets an account that goes.
pub(super) async fn forget(connection: &mut MySqlConnection, account: &Account) -> Result<()> {
    sqlx::query("DELETE FROM read_only_users WHERE username = ?")
        .bind(&account.user)
        .execute(connection)
        .await
        .map_err(Error::doing("a note on a read-only account"))?;
    Ok(())
}
