//! The GET requests (OSB rows GI, GB, LO).

use super::{Bound, Broker, OsbError, Result};
use crate::domain::binding::BindingState;
use crate::domain::ids::{BindingId, InstanceId};
use crate::domain::instance::{Instance, InstanceState};
use crate::mysql::{bindings, instances};

/// Where an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationState {
    /// Somebody works on it.
    InProgress,
    /// Done.
    Succeeded,
}

/// What `last_operation` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastOperation {
    /// Where it is.
    pub state: OperationState,
    /// For people.
    pub description: &'static str,
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
    /// 404 when there is no such instance.
    pub async fn last_operation(&self, id: &InstanceId) -> Result<LastOperation> {
        let found =
            instances::find(&self.mysql, id).await?.ok_or_else(|| OsbError::NotFound("There is no such service instance.".to_owned()))?;
        Ok(match found.state {
            InstanceState::Ready => LastOperation { state: OperationState::Succeeded, description: "The service instance is ready." },
            InstanceState::Creating => in_progress("The database is being created."),
            InstanceState::Updating => in_progress("The plan is being changed."),
            InstanceState::Deleting => in_progress("The database is being deleted."),
        })
    }

    /// How the last operation on a binding went.
    ///
    /// # Errors
    /// 404 when there is no such binding.
    pub async fn last_binding_operation(&self, instance_id: &InstanceId, id: &BindingId) -> Result<LastOperation> {
        let found = bindings::find(&self.mysql, instance_id, id)
            .await?
            .ok_or_else(|| OsbError::NotFound("There is no such service binding.".to_owned()))?;
        Ok(match found.state {
            BindingState::Ready => LastOperation { state: OperationState::Succeeded, description: "The service binding is ready." },
            BindingState::Creating => in_progress("The account is being created."),
            BindingState::Deleting => in_progress("The account is being deleted."),
        })
    }
}

fn in_progress(description: &'static str) -> LastOperation {
    LastOperation { state: OperationState::InProgress, description }
}
