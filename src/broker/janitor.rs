//! What is due by the clock: expired bindings lose their accounts, retired accounts go with the last object they made, old records go.
//! Every broker does it; at once is harmless.

use std::time::Duration;

use super::{Broker, Result};
use crate::domain::binding::{Account, Binding};
use crate::mysql::sessions;
use crate::mysql::{self, accounts, audit_trail, bindings, last_operations, retired_accounts};

/// How often expiry is looked at. An account works at most this much longer than it may.
const EXPIRY: Duration = Duration::from_secs(1);
/// How often retired accounts and old records are looked at, in rounds of [`EXPIRY`].
const SLOW_ROUNDS: u32 = 60;

impl Broker {
    /// Cleans up for ever.
    pub async fn keep_clean(&self) {
        let mut round = 0_u32;
        loop {
            if let Err(error) = self.expire_bindings().await {
                tracing::debug!(%error, "expired bindings were not looked at");
            }
            if round.is_multiple_of(SLOW_ROUNDS)
                && let Err(error) = self.clean_slowly().await
            {
                tracing::debug!(%error, "old records were not looked at");
            }
            round = round.wrapping_add(1);
            tokio::time::sleep(EXPIRY).await;
        }
    }

    async fn expire_bindings(&self) -> Result<()> {
        for binding in bindings::due(&self.mysql).await? {
            match self.expire(&binding).await {
                Ok(()) => tracing::info!(binding = %binding.id, "a binding has expired: its account is locked"),
                Err(error) => tracing::warn!(binding = %binding.id, %error, "a binding has expired, and its account is not locked yet"),
            }
        }
        Ok(())
    }

    async fn expire(&self, binding: &Binding) -> mysql::Result<()> {
        accounts::lock(&self.mysql, &binding.account).await?;
        sessions::end(&self.mysql, &binding.account.user).await?;
        bindings::mark_expired(&self.mysql, binding.row).await
    }

    async fn clean_slowly(&self) -> Result<()> {
        self.drop_retired_accounts().await?;
        last_operations::purge(&self.mysql).await?;
        Ok(audit_trail::purge(&self.mysql, self.settings().audit.retention_days).await?)
    }

    /// Drops retired accounts whose last object, or whose instance, is gone.
    ///
    /// # Errors
    /// Whatever keeps the database from answering; an error about one account does not keep the others waiting.
    pub async fn drop_retired_accounts(&self) -> Result<()> {
        for (account, _, database) in retired_accounts::all(&self.mysql).await? {
            if let Err(error) = self.drop_retired(&account, &database).await {
                tracing::warn!(account = account.user, %error, "a retired account was not dropped yet");
            }
        }
        Ok(())
    }

    async fn drop_retired(&self, account: &Account, database: &str) -> mysql::Result<()> {
        if !database.is_empty() && retired_accounts::is_definer(&self.mysql, account, database).await? {
            return Ok(());
        }
        accounts::drop(&self.mysql, account).await?;
        retired_accounts::forget(&self.mysql, account).await
    }
}
