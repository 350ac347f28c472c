//! `PATCH /v2/service_instances/:id` (OSB rows UP-1 to UP-15).

use std::time::Instant;

use serde_json::{Map, Value};

use super::fetch::failed;
use super::{Broker, OsbError, Progress, Result, check_maintenance, wait_for_others};
use crate::domain::catalog::Plan;
use crate::domain::ids::InstanceId;
use crate::domain::instance::{Instance, InstanceState, OpId};
use crate::domain::last_operation::Kind;
use crate::domain::parameters::{Parameters, ParametersOf};
use crate::domain::{MB, to_mb};
use crate::failpoint::failpoint;
use crate::mysql::bindings::adopted;
use crate::mysql::instances::updates::{self, Change, Ended, UpdateStart};
use crate::mysql::operations::{Subject, while_renewing};
use crate::mysql::{accounts, bindings, instances, usage};

/// What a platform asks for with a PATCH, after parsing.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateRequest {
    /// The platform's id.
    pub id: InstanceId,
    /// The offering; it cannot change.
    pub service_id: String,
    /// The plan afterwards; none leaves it.
    pub plan_id: Option<String>,
    /// Empty where absent or null; `{}` changes nothing.
    pub parameters: Parameters,
    /// Names and annotations; none leaves them.
    pub context: Option<Map<String, Value>>,
    /// `maintenance_info.version`, where it is given and not empty.
    pub maintenance_version: Option<String>,
}

/// How an update ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Updated {
    /// Everything is as asked for.
    Done,
    /// The same request as before, which is not done yet; the platform may poll.
    InProgress,
}

impl UpdateRequest {
    /// The parameter `reclaim`.
    fn reclaims(&self) -> bool {
        self.parameters.get("reclaim").and_then(Value::as_bool).unwrap_or(false)
    }
}

impl Broker {
    /// Updates an instance.
    ///
    /// # Errors
    /// 400 for what cannot be right, 404 without an instance, 422 while somebody works on it and for what the plan forbids, 507
    /// when a larger plan does not fit; after each of them everything is as before.
    pub async fn update(&self, request: &UpdateRequest, progress: &Progress) -> Result<Updated> {
        let settings = self.settings();
        if settings.catalog.service(&request.service_id).is_none() {
            return Err(OsbError::BadRequest("The field 'service_id' names no service of this broker.".to_owned()));
        }
        ParametersOf::Update.check(&request.parameters)?;
        let since = Instant::now();
        loop {
            let found = instances::find(&self.mysql, &request.id).await?;
            progress.sees(found.as_ref());
            let found = found.ok_or_else(|| OsbError::NotFound("There is no such service instance.".to_owned()))?;
            let target = self.target(&found, request)?;
            let is_repeated = found.state == InstanceState::Updating && request.plan_id.is_some() && found.next_plan_id == request.plan_id;
            if found.lease_live && is_repeated && progress.accepts_incomplete() {
                progress.begin(found.row);
                return Ok(Updated::InProgress);
            }
            if found.lease_live || (found.op.is_some() && !self.recover_instance(&found).await?) {
                wait_for_others(since).await?;
                continue;
            }
            if found.op.is_some() {
                continue;
            }
            let effective =
                target.as_ref().map(|plan| plan.id.as_str()).or(found.plan_id.as_deref()).and_then(|id| settings.catalog.plan(id));
            check_maintenance(effective, request.maintenance_version.as_deref())?;
            // first: it changes nothing that a refusal must leave alone, and makes room for a smaller plan
            if request.reclaims() {
                self.reclaim(&request.id, |_| ()).await?;
            }
            let Some(plan) = &target else {
                let version = request.maintenance_version.as_deref();
                updates::record(&self.mysql, found.row, &request.service_id, None, request.context.as_ref(), version).await?;
                return Ok(Updated::Done);
            };
            match self.change_plan(&found, plan, request, progress).await? {
                UpdateStart::Begun => return Ok(Updated::Done),
                UpdateStart::Full => return Err(OsbError::InsufficientCapacity),
                UpdateStart::Lost => wait_for_others(since).await?,
            }
        }
    }

    /// The plan to change to, if it is another one than the instance has.
    fn target(&self, instance: &Instance, request: &UpdateRequest) -> Result<Option<Plan>> {
        let settings = self.settings();
        if instance.service_id.as_ref().is_some_and(|service| *service != request.service_id) {
            return Err(OsbError::BadRequest("The field 'service_id' is not the service of this instance.".to_owned()));
        }
        let Some(plan_id) = request.plan_id.as_ref().filter(|id| instance.plan_id.as_ref() != Some(*id)) else { return Ok(None) };
        let (service, plan) = super::find_plan(&settings.catalog, &request.service_id, plan_id)?;
        if let Some(current) = instance.plan_id.as_deref().and_then(|id| service.plan(id))
            && !service.is_updateable(current)
        {
            return Err(OsbError::UpdateNotSupported(format!("Instances of the plan '{}' cannot change to another plan.", current.name)));
        }
        Ok(Some(plan.clone()))
    }

    async fn change_plan(&self, instance: &Instance, plan: &Plan, request: &UpdateRequest, progress: &Progress) -> Result<UpdateStart> {
        let settings = self.settings();
        if plan.max_storage_mb < instance.max_storage_mb {
            self.check_usage(instance, plan).await?;
        }
        let change = Change {
            service_id: Some(request.service_id.clone()),
            plan_id: Some(plan.id.clone()),
            max_storage_mb: plan.max_storage_mb,
            reserved_bytes: settings.capacity.rules().reservation(plan.max_storage_mb),
            maintenance_version: request
                .maintenance_version
                .clone()
                .or_else(|| plan.maintenance_info.as_ref().map(|info| info.version.clone())),
            context: request.context.clone(),
        };
        let figures = self.figures().await?;
        if !figures.has_really_room(change.reserved_bytes.saturating_sub(instance.reserved_bytes)) {
            return Ok(UpdateStart::Full);
        }
        if progress.is_given_up() {
            return Err(OsbError::GivenUp);
        }
        let (op, lease) = (OpId::new(), settings.server.lease());
        let start = updates::begin(&self.mysql, instance, &change, figures.capacity.sellable_bytes(), &op, lease).await?;
        if start != UpdateStart::Begun {
            return Ok(start);
        }
        progress.begin(instance.row);
        failpoint!("C1");
        let work = self.limit_accounts(instance, plan.max_user_connections);
        let outcome = match while_renewing(&self.mysql, Subject::Instance(instance.row), &op, lease, work).await {
            // the request was answered with an error meanwhile: everything must be as before
            Ok(()) if progress.is_given_up() => Err(OsbError::GivenUp),
            Ok(()) => {
                failpoint!("C2");
                updates::end(&self.mysql, instance, &op, &change, Ended::Done).await.map_err(OsbError::from)
            }
            Err(error) => Err(error),
        };
        failpoint!("C3");
        match outcome {
            Ok(true) => Ok(UpdateStart::Begun),
            Ok(false) => Err(self.after_a_lost_update(&instance.id).await),
            Err(error) => {
                let failed = failed(Kind::Update, &error);
                if let Err(error) = self.undo_update(instance, &op, Ended::Undone(&failed)).await {
                    tracing::warn!(instance = %instance.id, %error, "a failed update was not undone yet");
                }
                Err(error)
            }
        }
    }

    /// A plan smaller than the data would take the write privileges at once: refuse it instead, with the figures.
    async fn check_usage(&self, instance: &Instance, plan: &Plan) -> Result<()> {
        let quota = plan.max_storage_mb.saturating_mul(MB);
        let usage = usage::against(&self.mysql, &instance.database, quota).await?;
        if usage.is_over(quota) {
            let used = if usage.at_least >= quota { usage.at_least } else { usage.disk };
            return Err(OsbError::PlanQuotaExceeded { used_mb: to_mb(used), quota_mb: plan.max_storage_mb, plan: plan.name.clone() });
        }
        Ok(())
    }

    /// Applies a connection limit to every account of an instance.
    async fn limit_accounts(&self, instance: &Instance, limit: Option<u32>) -> Result<()> {
        let limit = limit.unwrap_or(self.settings().bindings.max_user_connections_default);
        let bound = bindings::of_instance(&self.mysql, instance.row).await?.into_iter().map(|binding| binding.account);
        for account in bound.chain(adopted::accounts(&self.mysql, instance).await?) {
            accounts::limit(&self.mysql, &account, limit).await?;
        }
        Ok(())
    }

    /// Puts everything back to what the row's plan says. `op` is held by the caller; `instance` is as it was, or is as an
    /// abandoned update left it: its plan is the old one either way, until the last step of an update.
    pub(super) async fn undo_update(&self, instance: &Instance, op: &OpId, ended: Ended<'_>) -> Result<()> {
        let settings = self.settings();
        let plan = instance.plan_id.as_deref().and_then(|id| settings.catalog.plan(id));
        self.limit_accounts(instance, plan.and_then(|plan| plan.max_user_connections)).await?;
        let before = Change {
            service_id: None,
            plan_id: instance.plan_id.clone(),
            max_storage_mb: instance.max_storage_mb,
            reserved_bytes: settings.capacity.rules().reservation(instance.max_storage_mb),
            maintenance_version: instance.maintenance_version.clone(),
            context: None,
        };
        if updates::end(&self.mysql, instance, op, &before, ended).await? { Ok(()) } else { Err(OsbError::Concurrency) }
    }
}
