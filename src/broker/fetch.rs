//! The GET requests (OSB rows GI, GB, LO).

use super::{Aftermath, Bound, Broker, OsbError, Result};
use crate::domain::binding::BindingState;
use crate::domain::ids::{BindingId, InstanceId};
use crate::domain::instance::{Instance, InstanceState};
use crate::mysql::last_operations::{self, Kind, Outcome};
use crate::mysql::{bindings, instances, quota};

/// Where an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationState {
    /// Somebody works on it.
    InProgress,
    /// Done.
    Succeeded,
    /// Not done, and undone.
    Failed,
}

/// What `last_operation` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastOperation {
    /// Where it is.
    pub state: OperationState,
    /// For people.
    pub description: String,
    /// Of a failed update: what it left behind (OSB row LO-8).
    pub aftermath: Option<Aftermath>,
}

/// What is remembered of an operation that failed.
pub(super) fn failed(kind: Kind, error: &OsbError) -> Outcome {
    Outcome { kind, succeeded: false, description: error.to_string(), update_repeatable: error.aftermath().update_repeatable }
}

impl Broker {
    /// An instance as it is.
    ///
    /// # Errors
    /// 404 when there is none, or when it is not finished.
    pub async fn instance(&self, id: &InstanceId) -> Result<Instance> {
        let not_found = || OsbError::NotFound("There is no such service instance, or it is still being created.".to_owned());
        let found = instances::find(&self.mysql, id).await?.ok_or_else(not_found)?;
        match found.state {
            InstanceState::Creating => Err(not_found()),
            // the old plan is in force until the last step of an update
            InstanceState::Ready | InstanceState::Updating => Ok(found),
            InstanceState::Deleting => Err(OsbError::Concurrency),
        }
    }

    /// A binding with its credentials.
    ///
    /// # Errors
    /// 404 when there is none, or when it is not finished.
    pub async fn binding(&self, instance_id: &InstanceId, id: &BindingId) -> Result<Bound> {
        let not_found = || OsbError::NotFound("There is no such service binding, or it is still being created.".to_owned());
        let found = bindings::find(&self.mysql, instance_id, id).await?.ok_or_else(not_found)?;
        if found.state != BindingState::Ready {
            return Err(not_found());
        }
        let instance = instances::find(&self.mysql, instance_id).await?.ok_or_else(not_found)?;
        self.bound(&instance, &found, true)
    }

    /// How the last operation on an instance went; read from the database, so any broker can answer.
    ///
    /// # Errors
    /// 404 when there never was such an instance, 410 when it was deleted.
    pub async fn last_operation(&self, id: &InstanceId) -> Result<LastOperation> {
        let found = instances::find(&self.mysql, id).await?;
        let remembered = match found.as_ref().map(|instance| instance.state) {
            Some(InstanceState::Creating) => return Ok(in_progress("The database is being created.")),
            Some(InstanceState::Updating) => return Ok(in_progress("The plan is being changed.")),
            Some(InstanceState::Deleting) => return Ok(in_progress("The database is being deleted.")),
            Some(InstanceState::Ready) | None => last_operations::find(&self.mysql, id, None).await?,
        };
        match (found, remembered) {
            (_, Some(outcome)) if !outcome.succeeded => Ok(LastOperation {
                state: OperationState::Failed,
                aftermath: (outcome.kind == Kind::Update)
                    .then_some(Aftermath { instance_usable: true, update_repeatable: outcome.update_repeatable }),
                description: outcome.description,
            }),
            (Some(_), _) => Ok(succeeded("The service instance is ready.")),
            (None, Some(_)) => Err(OsbError::Gone),
            (None, None) => Err(OsbError::NotFound("There is no such service instance.".to_owned())),
        }
    }

    /// How the last operation on a binding went.
    ///
    /// # Errors
    /// 404 when there never was such a binding, 410 when it was deleted.
    pub async fn last_binding_operation(&self, instance_id: &InstanceId, id: &BindingId) -> Result<LastOperation> {
        match bindings::find(&self.mysql, instance_id, id).await?.map(|binding| binding.state) {
            Some(BindingState::Ready) => Ok(succeeded("The service binding is ready.")),
            Some(BindingState::Creating) => Ok(in_progress("The account is being created.")),
            Some(BindingState::Deleting) => Ok(in_progress("The account is being deleted.")),
            None => match last_operations::find(&self.mysql, instance_id, Some(id)).await? {
                Some(_) => Err(OsbError::Gone),
                None => Err(OsbError::NotFound("There is no such service binding.".to_owned())),
            },
        }
    }

    /// Whether the write privileges of an instance are taken at present.
    ///
    /// # Errors
    /// Whatever keeps the database from answering.
    pub async fn is_over_quota(&self, instance: &Instance) -> Result<bool> {
        Ok(quota::is_over(&self.mysql, &instance.database).await?)
    }
}

fn in_progress(description: &str) -> LastOperation {
    LastOperation { state: OperationState::InProgress, description: description.to_owned(), aftermath: None }
}

fn succeeded(description: &str) -> LastOperation {
    LastOperation { state: OperationState::Succeeded, description: description.to_owned(), aftermath: None }
}
