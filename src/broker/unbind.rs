//! `DELETE .../service_bindings/:id` (OSB rows UB-1 to UB-7).

use std::time::Instant;

use super::{Broker, OsbError, Result, wait_for_others};
use crate::domain::binding::{Account, Binding};
use crate::domain::ids::{BindingId, InstanceId};
use crate::domain::instance::{Instance, OpId};
use crate::domain::last_operation::Removal;
use crate::failpoint::failpoint;
use crate::mysql::bindings::adopted;
use crate::mysql::last_operations::deletions;
use crate::mysql::operations::{Subject, while_renewing};
use crate::mysql::sessions;
use crate::mysql::{accounts, bindings, instances, retired_accounts};

/// `service_id` and `plan_id` of a DELETE's query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// Empty counts as missing.
    pub service_id: Option<String>,
    /// Empty counts as missing.
    pub plan_id: Option<String>,
}

impl Hints {
    /// Both must be there.
    ///
    /// # Errors
    /// 400 names the missing one.
    pub fn require(&self) -> Result<()> {
        for (name, value) in [("service_id", &self.service_id), ("plan_id", &self.plan_id)] {
            if value.is_none() {
                return Err(OsbError::BadRequest(format!("The query parameter '{name}' is required.")));
            }
        }
        Ok(())
    }

    /// What differs is only worth a warning: a platform must always be able to clean up.
    pub(super) fn compare(&self, service_id: Option<&str>, plan_ids: &[&str]) {
        let differs = |hint: &Option<String>, ours: &[&str]| !ours.is_empty() && ours.iter().all(|ours| hint.as_deref() != Some(*ours));
        if differs(&self.service_id, service_id.as_slice()) || differs(&self.plan_id, plan_ids) {
            tracing::warn!("a deletion was requested with another service or plan than recorded; it is done all the same");
        }
    }
}

impl Broker {
    /// Ends a binding: its account and its sessions.
    ///
    /// # Errors
    /// 410 when there is none (even without hints: the only order both public checkers accept), 400 without hints, 422 while
    /// somebody works on it.
    pub async fn unbind(&self, instance_id: &InstanceId, id: &BindingId, hints: &Hints) -> Result<()> {
        let since = Instant::now();
        loop {
            let found = bindings::find(&self.mysql, instance_id, id).await?;
            let instance = instances::find(&self.mysql, instance_id).await?;
            let adopted = match &instance {
                Some(instance) => adopted::account(&self.mysql, instance, id).await?,
                None => None,
            };
            if found.is_none() && adopted.is_none() {
                if deletions::of_no_binding(&self.mysql, instance_id, id).await? {
                    return Err(OsbError::Gone);
                }
                wait_for_others(since).await?;
                continue;
            }
            hints.require()?;
            if let (Some(instance), Some(account)) = (&instance, &adopted) {
                self.end_adopted(instance, id, account).await?;
            }
            let Some(found) = found else { return Ok(()) };
            // the plan may have changed since
            let current_plan = instance.as_ref().and_then(|instance| instance.plan_id.as_deref());
            hints.compare(Some(&found.service_id), &[found.plan_id.as_str(), current_plan.unwrap_or_default()]);
            let (op, lease) = (OpId::new(), self.settings().server.lease());
            if let Some(instance) = &instance
                && !found.lease_live
                && bindings::claim_for_deletion(&self.mysql, &found, &op, lease).await?
            {
                failpoint!("U1");
                let removed = self.remove_binding(&found, instance, &op, &Removal::Asked).await;
                failpoint!("U3");
                return removed;
            }
            wait_for_others(since).await?;
        }
    }

    /// Ends the account of a binding that cf-mysql-broker made. There is no row, so that its rights go last: as long as it has them, the
    /// same request finds it again.
    async fn end_adopted(&self, instance: &Instance, id: &BindingId, account: &Account) -> Result<()> {
        accounts::lock(&self.mysql, account).await?;
        sessions::end(&self.mysql, &account.user).await?;
        if retired_accounts::is_definer(&self.mysql, account, &instance.database).await? {
            accounts::forget_password(&self.mysql, account).await?;
            retired_accounts::record(&self.mysql, account, instance.row).await?;
            return Ok(adopted::forget(&self.mysql, instance, id, account).await?);
        }
        adopted::forget(&self.mysql, instance, id, account).await?;
        Ok(accounts::drop(&self.mysql, account).await?)
    }

    /// The account, its sessions on every node, then the row. An account that views, routines, triggers or events name as their
    /// DEFINER is retired instead of dropped: they go on working, and nobody can log in. The caller holds `op`.
    pub(super) async fn remove_binding(&self, binding: &Binding, instance: &Instance, op: &OpId, removal: &Removal) -> Result<()> {
        let account = &binding.account;
        let work = async {
            if retired_accounts::is_definer(&self.mysql, account, &instance.database).await? {
                retired_accounts::record(&self.mysql, account, instance.row).await?;
                accounts::lock(&self.mysql, account).await?;
                accounts::forget_password(&self.mysql, account).await?;
            } else {
                accounts::drop(&self.mysql, account).await?;
            }
            failpoint!("U2.account");
            // neither ends a session; a new one cannot begin any more
            sessions::end(&self.mysql, &account.user).await
        };
        while_renewing(&self.mysql, Subject::Binding(binding.row), op, self.settings().server.lease(), work).await?;
        failpoint!("U2");
        if bindings::delete(&self.mysql, binding, instance, op, removal).await? { Ok(()) } else { Err(OsbError::Concurrency) }
    }
}
