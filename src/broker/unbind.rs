//! `DELETE .../service_bindings/:id` (OSB rows UB-1 to UB-7).

use std::time::Instant;

use super::{Broker, OsbError, Result, wait_for_others};
use crate::domain::binding::Binding;
use crate::domain::ids::{BindingId, InstanceId};
use crate::domain::instance::{Instance, OpId};
use crate::failpoint::failpoint;
use crate::mysql::operations::{Subject, while_renewing};
use crate::mysql::sessions::{self, Targets};
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
    pub(super) fn compare(&self, service_id: Option<&str>, plan_id: Option<&str>) {
        let differs = |hint: &Option<String>, ours: Option<&str>| ours.is_some() && hint.as_deref() != ours;
        if differs(&self.service_id, service_id) || differs(&self.plan_id, plan_id) {
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
            let found = bindings::find(&self.mysql, instance_id, id).await?.ok_or(OsbError::Gone)?;
            hints.require()?;
            hints.compare(Some(&found.service_id), None);
            if found.lease_live {
                wait_for_others(since).await?;
                continue;
            }
            let instance = instances::find(&self.mysql, instance_id).await?.ok_or(OsbError::Gone)?;
            let (op, lease) = (OpId::new(), self.settings().server.lease());
            if bindings::claim_for_deletion(&self.mysql, &found, &op, lease).await? {
                failpoint!("U1");
                let removed = self.remove_binding(&found, &instance, &op).await;
                failpoint!("U3");
                return removed;
            }
            wait_for_others(since).await?;
        }
    }

    /// The account, its sessions on every node, then the row. An account that views, routines, triggers or events name as their
    /// DEFINER is retired instead of dropped: they go on working, and nobody can log in. The caller holds `op`.
    pub(super) async fn remove_binding(&self, binding: &Binding, instance: &Instance, op: &OpId) -> Result<()> {
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
            sessions::kill(&self.mysql, &Targets::from([(account.user.clone(), None)])).await
        };
        while_renewing(&self.mysql, Subject::Binding(binding.row), op, self.settings().server.lease(), work).await?;
        failpoint!("U2");
        if bindings::delete(&self.mysql, binding, instance, op).await? { Ok(()) } else { Err(OsbError::Concurrency) }
    }
}
