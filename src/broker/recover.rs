//! What a dead broker began: finished or undone by any other, after the lease.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{self, FuturesUnordered};

use super::{Broker, OsbError, Result};
use crate::domain::binding::Binding;
use crate::domain::ids::InstanceId;
use crate::domain::instance::{Instance, InstanceState, OpId};
use crate::domain::last_operation::{Kind, Outcome, Removal};
use crate::mysql::instances::updates::Ended;
use crate::mysql::{bindings, instances};

/// How often a broker looks for abandoned work, at least; with a short lease, twice in each.
const SWEEP: Duration = Duration::from_secs(5);
/// Instances whose abandoned work a broker finishes or undoes at the same time: few, because each may hold connections for long.
const AT_ONCE: usize = 4;

/// What was abandoned of one instance.
#[derive(Default)]
struct Abandoned {
    bindings: Vec<Binding>,
    instance: Option<Instance>,
}

impl Broker {
    /// Finishes or undoes the abandoned operation of an instance: a creation and a deletion end with nothing, an update with
    /// what was before it. False: somebody else is faster, or works on one of its bindings.
    pub(super) async fn recover_instance(&self, instance: &Instance) -> Result<bool> {
        let (op, lease) = (OpId::new(), self.settings().server.lease());
        let to = match instance.state {
            InstanceState::Creating | InstanceState::Deleting => InstanceState::Deleting,
            InstanceState::Updating => InstanceState::Updating,
            InstanceState::Ready => return Ok(true),
        };
        if !instances::claim(&self.mysql, instance, to, &op, lease).await? {
            return Ok(false);
        }
        tracing::info!(instance = %instance.id, state = instance.state.as_str(), "finishing or undoing what another broker began");
        match to {
            InstanceState::Updating => {
                self.undo_update(instance, &op, Ended::Undone(&interrupted(Kind::Update))).await?;
            }
            _ if instance.state == InstanceState::Creating => {
                self.remove(instance, &op, &Removal::Undone(interrupted(Kind::Provision))).await?;
            }
            _ => self.remove(instance, &op, &Removal::Resumed).await?,
        }
        metrics::counter!("cf_mysql_operations_recovered_total", "kind" => instance.state.as_str()).increment(1);
        Ok(true)
    }

    /// What an update that has lost its lease leaves behind may be limits of a plan that is not in force: whoever undid it did so before they
    /// were applied. Puts the accounts back to what the row says by now, unless somebody works on it, who does so in his turn.
    pub(super) async fn after_a_lost_update(&self, id: &InstanceId) -> OsbError {
        let mended = async {
            let Some(now) = instances::find(&self.mysql, id).await?.filter(|now| now.state == InstanceState::Ready) else { return Ok(()) };
            let (op, lease) = (OpId::new(), self.settings().server.lease());
            match instances::claim(&self.mysql, &now, InstanceState::Updating, &op, lease).await? {
                true => self.undo_update(&now, &op, Ended::Repaired).await,
                false => Ok(()),
            }
        };
        match mended.await {
            Ok(()) => OsbError::Concurrency,
            Err(error) => error,
        }
    }

    /// Takes an abandoned binding away, whether it was being made or being ended. False: somebody else is faster.
    pub(super) async fn recover_binding(&self, binding: &Binding, instance: &Instance) -> Result<bool> {
        let (op, lease) = (OpId::new(), self.settings().server.lease());
        if !bindings::claim_for_deletion(&self.mysql, binding, &op, lease).await? {
            return Ok(false);
        }
        tracing::info!(binding = %binding.id, state = binding.state.as_str(), "finishing or undoing what another broker began");
        self.remove_binding(binding, instance, &op, &Removal::Resumed).await?;
        metrics::counter!("cf_mysql_operations_recovered_total", "kind" => "binding").increment(1);
        Ok(true)
    }

    /// One look for abandoned work, and its end.
    ///
    /// # Errors
    /// Whatever keeps the database from answering; an error about one row does not keep the others waiting.
    pub async fn sweep(&self) -> Result<()> {
        let abandoned = self.abandoned().await?;
        stream::iter(abandoned).for_each_concurrent(AT_ONCE, async |abandoned| self.recover(abandoned).await).await;
        Ok(())
    }

    /// Sweeps for ever. What takes long, or hangs, has one of [`AT_ONCE`] places and holds up nothing else.
    pub async fn keep_sweeping(&self) {
        let (mut running, mut waiting) = (FuturesUnordered::new(), VecDeque::new());
        loop {
            let look = async {
                tokio::time::sleep(SWEEP.min(self.settings().server.lease() / 2)).await;
                self.abandoned().await
            };
            tokio::pin!(look);
            let looked = loop {
                while running.len() < AT_ONCE
                    && let Some(next) = waiting.pop_front()
                {
                    running.push(self.recover(next));
                }
                tokio::select! {
                    looked = &mut look => break looked,
                    Some(()) = running.next() => {}
                }
            };
            match looked {
                // what is running has a lease again, and is not found
                Ok(abandoned) => waiting = abandoned.into(),
                Err(error) => tracing::debug!(%error, "no sweep"),
            }
        }
    }

    /// What nobody leads any more, by the instance it belongs to, the oldest first.
    async fn abandoned(&self) -> Result<Vec<Abandoned>> {
        let mut found = BTreeMap::<i64, Abandoned>::new();
        for binding in bindings::abandoned(&self.mysql).await? {
            found.entry(binding.instance_row).or_default().bindings.push(binding);
        }
        for instance in instances::abandoned(&self.mysql).await? {
            let row = instance.row;
            found.entry(row).or_default().instance = Some(instance);
        }
        Ok(found.into_values().collect())
    }

    /// Finishes or undoes what was abandoned of one instance, its bindings first: one that is worked on holds up their instance.
    async fn recover(&self, abandoned: Abandoned) {
        for binding in &abandoned.bindings {
            let recovered = async {
                match instances::find_row(&self.mysql, binding.instance_row).await? {
                    // an instance that is going takes its bindings along
                    Some(instance) if instance.state != InstanceState::Deleting => self.recover_binding(binding, &instance).await,
                    _ => Ok(false),
                }
            };
            report(recovered.await, binding.id.as_str());
        }
        if let Some(instance) = &abandoned.instance {
            report(self.recover_instance(instance).await, instance.id.as_str());
        }
    }
}

fn interrupted(kind: Kind) -> Outcome {
    let description = "The operation was interrupted and has been undone. Please try again.".to_owned();
    Outcome { kind, succeeded: false, description, update_repeatable: true }
}

fn report(result: Result<bool>, id: &str) {
    match result {
        Ok(_) | Err(OsbError::Concurrency) => {}
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(id, %error, cause, "abandoned work could not be finished yet");
        }
    }
}
