//! The GET requests (OSB rows GI, GB, LO).

use super::{Bound, Broker, OsbError, Result};
use crate::domain::binding::BindingState;
use crate::domain::ids::{BindingId, InstanceId};
use crate::domain::instance::{Instance, InstanceState};
use crate::domain::last_operation::{Kind, Operation, Outcome, Poll, on_poll};
use crate::mysql::{bindings, instances, last_operations, quota};

/// What is remembered of an operation that failed.
pub(super) fn failed(kind: Kind, error: &OsbError) -> Outcome {
    Outcome { kind, succeeded: false, description: error.to_string(), update_repeatable: error.is_update_repeatable() }
}

impl Broker {
    /// An instance as it is.
    ///
    /// # Errors
    /// 404 when there is none, or when it is not finished.
    pub async fn instance(&self, id: &InstanceId) -> Result<Instance> {
        let not_found = || OsbError::NotFound("There is no such service instance, or it is still being created.".to_owned());
        let mut found = instances::find(&self.mysql, id).await?.ok_or_else(not_found)?;
        if found.service_id.is_none() {
            // adopted: the catalog knows whose plan it has
            let settings = self.settings();
            let mut services = settings.catalog.services.iter();
            let service = found.plan_id.as_deref().and_then(|plan| services.find(|service| service.plan(plan).is_some()));
            found.service_id = service.map(|service| service.id.clone());
        }
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

    /// How an operation on an instance went, the last one where none is named; read from the database, so any broker can answer.
    ///
    /// # Errors
    /// Whatever keeps the database from answering.
    pub async fn last_operation(&self, id: &InstanceId, asked: Option<Operation>) -> Result<Poll> {
        let found = instances::find(&self.mysql, id).await?;
        let remembered = last_operations::find(&self.mysql, id, None).await?;
        Ok(on_poll(asked, found.map(|instance| (instance.row, instance.state)), remembered.as_ref()))
    }

    /// How the last operation on a binding went.
    ///
    /// # Errors
    /// Whatever keeps the database from answering.
    pub async fn last_binding_operation(&self, instance_id: &InstanceId, id: &BindingId) -> Result<Poll> {
        Ok(match bindings::find(&self.mysql, instance_id, id).await?.map(|binding| binding.state) {
            Some(BindingState::Ready) => Poll::Succeeded("The service binding is ready."),
            Some(BindingState::Creating) => Poll::InProgress("The account is being created."),
            Some(BindingState::Deleting) => Poll::InProgress("The account is being deleted."),
            None => match last_operations::find(&self.mysql, instance_id, Some(id)).await? {
                Some(_) => Poll::Gone,
                None => Poll::Unknown,
            },
        })
    }

    /// Whether the write privileges of an instance are taken at present.
    ///
    /// # Errors
    /// Whatever keeps the database from answering.
    pub async fn is_over_quota(&self, instance: &Instance) -> Result<bool> {
        Ok(quota::is_over(&self.mysql, &instance.database).await?)
    }
}
