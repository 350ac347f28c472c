//! What a dead broker began: finished or undone by any other, after the lease.

use std::time::Duration;

use super::deprovision::deleted;
use super::{Broker, OsbError, Result};
use crate::domain::binding::Binding;
use crate::domain::ids::InstanceId;
use crate::domain::instance::{Instance, InstanceState, OpId};
use crate::mysql::last_operations::{self, Kind, Outcome};
use crate::mysql::{bindings, instances};

/// How often a broker looks for abandoned work, at least; with a short lease, twice in each.
const SWEEP: Duration = Duration::from_secs(5);

impl Broker {
    /// Finishes or undoes the abandoned operation of an instance: a creation and a deletion end with nothing, an update with
    /// what was before it. When somebody else is faster there is nothing left to do.
    pub(super) async fn recover_instance(&self, instance: &Instance) -> Result<()> {
        let (op, lease) = (OpId::new(), self.settings().server.lease());
        let to = match instance.state {
            InstanceState::Creating | InstanceState::Deleting => InstanceState::Deleting,
            InstanceState::Updating => InstanceState::Updating,
            InstanceState::Ready => return Ok(()),
        };
        if !instances::claim(&self.mysql, instance, to, &op, lease).await? {
            return Ok(());
        }
        tracing::info!(instance = %instance.id, state = instance.state.as_str(), "finishing or undoing what another broker began");
        match to {
            InstanceState::Updating => {
                self.undo_update(instance, &op).await?;
                last_operations::record(&self.mysql, &instance.id, &interrupted(Kind::Update)).await?;
            }
            _ if instance.state == InstanceState::Creating => self.remove(instance, &op, &interrupted(Kind::Provision)).await?,
            _ => self.remove(instance, &op, &deleted()).await?,
        }
        metrics::counter!("cf_mysql_operations_recovered_total", "kind" => instance.state.as_str()).increment(1);
        Ok(())
    }

    /// What an update that has lost its lease leaves behind may be limits of a plan that is not in force: whoever undid it did so before they
    /// were applied. Puts the accounts back to what the row says by now, unless somebody works on it, who does so in his turn.
    pub(super) async fn after_a_lost_update(&self, id: &InstanceId) -> OsbError {
        let mended = async {
            let Some(now) = instances::find(&self.mysql, id).await?.filter(|now| now.state == InstanceState::Ready) else { return Ok(()) };
            let (op, lease) = (OpId::new(), self.settings().server.lease());
            match instances::claim(&self.mysql, &now, InstanceState::Updating, &op, lease).await? {
                true => self.undo_update(&now, &op).await,
                false => Ok(()),
            }
        };
        match mended.await {
            Ok(()) => OsbError::Concurrency,
            Err(error) => error,
        }
    }

    /// Takes an abandoned binding away, whether it was being made or being ended.
    pub(super) async fn recover_binding(&self, binding: &Binding, instance: &Instance) -> Result<()> {
        let (op, lease) = (OpId::new(), self.settings().server.lease());
        if !bindings::claim_for_deletion(&self.mysql, binding, &op, lease).await? {
            return Ok(());
        }
        tracing::info!(binding = %binding.id, state = binding.state.as_str(), "finishing or undoing what another broker began");
        self.remove_binding(binding, instance, &op).await?;
        metrics::counter!("cf_mysql_operations_recovered_total", "kind" => "binding").increment(1);
        Ok(())
    }

    /// One look for abandoned work.
    ///
    /// # Errors
    /// Whatever keeps the database from answering; an error about one row does not keep the others waiting.
    pub async fn sweep(&self) -> Result<()> {
        for binding in bindings::abandoned(&self.mysql).await? {
            // an instance that is going takes its bindings along
            if let Some(instance) = instances::find_row(&self.mysql, binding.instance_row).await?
                && instance.state != InstanceState::Deleting
            {
                let result = self.recover_binding(&binding, &instance).await;
                report(result, binding.id.as_str());
            }
        }
        for instance in instances::abandoned(&self.mysql).await? {
            let result = self.recover_instance(&instance).await;
            report(result, instance.id.as_str());
        }
        Ok(())
    }

    /// Sweeps for ever.
    pub async fn keep_sweeping(&self) {
        loop {
            tokio::time::sleep(SWEEP.min(self.settings().server.lease() / 2)).await;
            if let Err(error) = self.sweep().await {
                tracing::debug!(%error, "no sweep");
            }
        }
    }
}

fn interrupted(kind: Kind) -> Outcome {
    let description = "The operation was interrupted and has been undone. Please try again.".to_owned();
    Outcome { kind, succeeded: false, description, update_repeatable: true }
}

fn report(result: Result<()>, id: &str) {
    match result {
        Ok(()) | Err(OsbError::Concurrency) => {}
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(id, %error, cause, "abandoned work could not be finished yet");
        }
    }
}
