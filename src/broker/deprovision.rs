//! `DELETE /v2/service_instances/:id` (OSB rows DE-1 to DE-8).

use std::time::Instant;

use super::unbind::Hints;
use super::{BUSY_POLL, Broker, OsbError, Progress, Result, wait_for_others};
use crate::domain::binding::Binding;
use crate::domain::ids::InstanceId;
use crate::domain::instance::{Instance, InstanceState, OpId};
use crate::domain::last_operation::Removal;
use crate::failpoint::failpoint;
use crate::mysql::bindings::adopted;
use crate::mysql::last_operations::deletions;
use crate::mysql::operations::{Subject, while_renewing};
use crate::mysql::sessions::{self, Targets};
use crate::mysql::{accounts, bindings, databases, instances, retired_accounts};

/// How a deprovision ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deprovisioned {
    /// Everything is gone.
    Done,
    /// Another request is at it; the platform may poll.
    InProgress,
}

impl Broker {
    /// Deletes an instance with everything that belongs to it.
    ///
    /// # Errors
    /// 410 when there is none, 422 while somebody works on it or on one of its bindings. After any other error the same
    /// request, or any broker after the lease, finishes the job.
    pub async fn deprovision(&self, id: &InstanceId, hints: &Hints, progress: &Progress) -> Result<Deprovisioned> {
        let since = Instant::now();
        loop {
            let found = instances::find(&self.mysql, id).await?;
            progress.sees(found.as_ref());
            let Some(found) = found else {
                if deletions::of_nothing(&self.mysql, id).await? {
                    return Err(OsbError::Gone);
                }
                wait_for_others(since).await?;
                continue;
            };
            hints.compare(found.service_id.as_deref(), found.plan_id.as_deref().as_slice());
            if found.lease_live {
                if progress.accepts_incomplete() && found.state == InstanceState::Deleting {
                    deletions::of_what_is_going(&self.mysql, id).await?;
                    progress.begin(found.row);
                    return Ok(Deprovisioned::InProgress);
                }
                wait_for_others(since).await?;
                continue;
            }
            let (op, lease) = (OpId::new(), self.settings().server.lease());
            if instances::claim(&self.mysql, &found, InstanceState::Deleting, &op, lease).await? {
                progress.destroys(&found);
                failpoint!("D1");
                if progress.accepts_incomplete() {
                    // it may be answered before it is done
                    deletions::of_what_is_going(&self.mysql, id).await?;
                }
                progress.begin(found.row);
                self.remove(&found, &op, &Removal::Asked).await?;
                failpoint!("D3");
                return Ok(Deprovisioned::Done);
            }
            wait_for_others(since).await?;
        }
    }

    /// Takes every binding of an instance that is going. One that somebody else is ending is waited for: it goes by itself, or can
    /// be taken when its lease is over. No new one can begin.
    async fn claim_bindings(&self, instance: &Instance, op: &OpId) -> Result<Vec<Binding>> {
        let lease = self.settings().server.lease();
        let (since, mut mine) = (Instant::now(), Vec::<Binding>::new());
        loop {
            let mut left = bindings::of_instance(&self.mysql, instance.row).await?;
            left.retain(|binding| mine.iter().all(|claimed| claimed.row != binding.row));
            let mut others = false;
            for binding in left {
                if bindings::claim_for_deletion(&self.mysql, &binding, op, lease).await? {
                    mine.push(binding);
                } else {
                    others = true;
                }
            }
            if !others {
                return Ok(mine);
            }
            if since.elapsed() > lease * 2 {
                return Err(OsbError::Concurrency);
            }
            tokio::time::sleep(BUSY_POLL).await;
        }
    }

    /// Shuts the accounts, drops the database, then the accounts, then the rows: what a row stands for is gone before the row
    /// goes. The accounts outlive the database, because MySQL refuses to drop one that an object names as its DEFINER. The
    /// caller holds `op`.
    pub(super) async fn remove(&self, instance: &Instance, op: &OpId, removal: &Removal) -> Result<()> {
        let lease = self.settings().server.lease();
        let work = async {
            let bindings = self.claim_bindings(instance, op).await?;
            let mut accounts = retired_accounts::of_instance(&self.mysql, instance.row).await?;
            accounts.extend(bindings.iter().map(|binding| binding.account.clone()));
            accounts.extend(adopted::accounts(&self.mysql, instance).await?);
            for account in &accounts {
                accounts::lock(&self.mysql, account).await?;
            }
            sessions::kill(&self.mysql, &accounts.iter().map(|account| (account.user.clone(), None)).collect::<Targets>()).await?;
            failpoint!("D2.locked");
            databases::drop(&self.mysql, &instance.database).await?;
            failpoint!("D2.database");
            for account in &accounts {
                accounts::drop(&self.mysql, account).await?;
                retired_accounts::forget(&self.mysql, account).await?;
            }
            for binding in &bindings {
                // a row that is gone was taken by a sweep, which has done the same
                bindings::delete(&self.mysql, binding, instance, op, &Removal::Resumed).await?;
            }
            Ok::<_, OsbError>(())
        };
        while_renewing(&self.mysql, Subject::Instance(instance.row), op, lease, work).await?;
        failpoint!("D2");
        if instances::release(&self.mysql, instance, op, removal).await? { Ok(()) } else { Err(OsbError::Concurrency) }
    }
}
