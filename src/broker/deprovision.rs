//! `DELETE /v2/service_instances/:id` (OSB rows DE-1 to DE-8).

use std::time::Instant;

use super::unbind::Hints;
use super::{Broker, OsbError, Result, wait_for_others};
use crate::domain::ids::InstanceId;
use crate::domain::instance::{Instance, InstanceState, OpId};
use crate::mysql::operations::{Subject, while_renewing};
use crate::mysql::{bindings, databases, instances};

impl Broker {
    /// Deletes an instance with everything that belongs to it.
    ///
    /// # Errors
    /// 410 when there is none, 422 while somebody works on it or on one of its bindings. After any other error the same
    /// request finishes the job.
    pub async fn deprovision(&self, id: &InstanceId, hints: &Hints) -> Result<()> {
        let since = Instant::now();
        loop {
            let found = instances::find(&self.mysql, id).await?.ok_or(OsbError::Gone)?;
            hints.compare(found.service_id.as_deref(), found.plan_id.as_deref());
            if found.lease_live {
                wait_for_others(since).await?;
                continue;
            }
            let (op, lease) = (OpId::new(), self.settings().server.lease());
            if instances::claim(&self.mysql, &found, InstanceState::Deleting, &op, lease).await? {
                return self.remove(&found, &op).await;
            }
            wait_for_others(since).await?;
        }
    }

    /// Accounts, then the database, then the row: what a row stands for is gone before the row goes. The caller holds `op`.
    pub(super) async fn remove(&self, instance: &Instance, op: &OpId) -> Result<()> {
        let lease = self.settings().server.lease();
        let work = async {
            for binding in bindings::of_instance(&self.mysql, instance.row).await? {
                if bindings::claim_for_deletion(&self.mysql, &binding, op, lease).await? {
                    self.remove_binding(&binding, &instance.database, op).await?;
                }
            }
            if !bindings::of_instance(&self.mysql, instance.row).await?.is_empty() {
                return Err(OsbError::Concurrency);
            }
            Ok(databases::drop(&self.mysql, &instance.database).await?)
        };
        while_renewing(&self.mysql, Subject::Instance(instance.row), op, lease, work).await?;
        if instances::release(&self.mysql, instance, op).await? { Ok(()) } else { Err(OsbError::Concurrency) }
    }
}
