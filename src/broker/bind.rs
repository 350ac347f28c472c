//! `PUT .../service_bindings/:id` (OSB rows BI-1 to BI-20).

use std::time::Instant;

use serde_json::{Value, json};

use super::{Broker, Cause, OsbError, Progress, Result, wait_for_others};
use crate::domain::binding::{Account, AskedBinding, BindRequest, Binding, BindingState};
use crate::domain::catalog::Plan;
use crate::domain::credentials::{credentials, derive_password};
use crate::domain::ids::InstanceId;
use crate::domain::instance::{Instance, InstanceState, OpId, Repeat};
use crate::domain::last_operation::Removal;
use crate::domain::parameters::{Parameters, ParametersOf};
use crate::domain::{names, privileges};
use crate::failpoint::failpoint;
use crate::mysql::accounts::Scope;
use crate::mysql::bindings::{self, BindStart, NewAccount};
use crate::mysql::last_operations::deletions::{self, Began};
use crate::mysql::operations::{Subject, while_renewing};
use crate::mysql::quota;
use crate::mysql::revocations::{self, Revocation};
use crate::mysql::{Dialect, accounts, instances};

/// What a platform gets of a binding.
#[derive(Debug, Clone)]
pub struct Bound {
    /// The same request as before.
    pub existing: bool,
    /// The credentials object.
    pub credentials: Value,
    /// Where the app may connect (OSB row BI-15).
    pub endpoints: Value,
    /// The parameters it was made with.
    pub parameters: Parameters,
    /// When its time is over.
    pub expires_at: Option<String>,
    /// When it should be renewed.
    pub renew_before: Option<String>,
}

impl Broker {
    /// Makes an account for an app.
    ///
    /// # Errors
    /// 400 for what cannot be right, 404 without an instance that is ready, 409 for another binding under this id, 422 while
    /// somebody works on it or when it was deleted while the request waited; after each of them nothing is kept.
    pub async fn bind(&self, instance_id: &InstanceId, asked: &AskedBinding, progress: &Progress) -> Result<Bound> {
        let settings = self.settings();
        let since = Instant::now();
        if asked.predecessor.as_ref() == Some(&asked.id) {
            return Err(OsbError::BadRequest("The field 'predecessor_binding_id' must name another binding.".to_owned()));
        }
        let began = deletions::began(&self.mysql, since).await?;
        loop {
            let instance = instances::find(&self.mysql, instance_id).await?;
            self.check_plan_of_binding(instance.as_ref(), asked)?;
            ParametersOf::Bind.check(asked.parameters.as_ref().unwrap_or(&Parameters::new()))?;
            let instance = match instance {
                None => return Err(no_instance()),
                Some(instance) => match instance.state {
                    InstanceState::Ready => instance,
                    InstanceState::Creating => return Err(no_instance()),
                    InstanceState::Updating | InstanceState::Deleting => {
                        wait_for_others(since).await?;
                        continue;
                    }
                },
            };
            let Some(found) = bindings::find(&self.mysql, instance_id, &asked.id).await? else {
                let plan = instance.plan_id.as_deref().and_then(|id| settings.catalog.plan(id));
                let request = self.complete(&instance, plan, asked).await?;
                match self.create_account(&instance, &request, plan, &began, progress).await? {
                    Some(binding) => return self.bound(&instance, &binding, false),
                    None => {
                        wait_for_others(since).await?;
                        continue;
                    }
                }
            };
            match found.on_bind(asked, instance.plan_id.as_deref()) {
                Repeat::Same => return self.bound(&instance, &found, true),
                Repeat::Conflict => {
                    return Err(OsbError::Conflict("A service binding with this id and other attributes exists.".to_owned()));
                }
                Repeat::Busy => wait_for_others(since).await?,
                Repeat::TakeOver => {
                    if !self.recover_binding(&found, &instance).await? {
                        wait_for_others(since).await?;
                    }
                }
            }
        }
    }

    /// The plan must be one of the catalog's, or the one the instance has: a plan that was taken out of the catalog keeps
    /// working for the instances it has (OSB row CA-15). A rotation need not name it.
    fn check_plan_of_binding(&self, instance: Option<&Instance>, asked: &AskedBinding) -> Result<()> {
        let missing = |name: &str| OsbError::BadRequest(format!("The field '{name}' is required."));
        if asked.predecessor.is_some() {
            return Ok(());
        }
        let service_id = asked.service_id.as_ref().ok_or_else(|| missing("service_id"))?;
        let plan_id = asked.plan_id.as_ref().ok_or_else(|| missing("plan_id"))?;
        let settings = self.settings();
        let current = instance.and_then(|instance| instance.plan_id.as_ref());
        if current == Some(plan_id) && settings.catalog.plan(plan_id).is_none() {
            return Ok(());
        }
        let (service, plan) = super::find_plan(&settings.catalog, service_id, plan_id)?;
        if !service.is_bindable(plan) {
            return Err(OsbError::BadRequest("Instances of this plan cannot be bound.".to_owned()));
        }
        if current.is_some_and(|current| current != plan_id) {
            tracing::warn!("a binding was requested with a plan that is not the instance's current one");
        }
        Ok(())
    }

    /// Fills in what a rotation inherits from its predecessor (OSB rows BR-1 to BR-6).
    async fn complete(&self, instance: &Instance, plan: Option<&Plan>, asked: &AskedBinding) -> Result<BindRequest> {
        let Some(predecessor_id) = &asked.predecessor else {
            return Ok(BindRequest {
                id: asked.id.clone(),
                service_id: asked.service_id.clone().unwrap_or_default(),
                plan_id: asked.plan_id.clone().unwrap_or_default(),
                app_guid: asked.app_guid.clone(),
                parameters: asked.parameters.clone().unwrap_or_default(),
                predecessor: None,
            });
        };
        let bad = |text: &str| OsbError::BadRequest(text.to_owned());
        if plan.is_some_and(|plan| !plan.binding_rotatable) {
            return Err(bad("Bindings of this plan cannot be rotated."));
        }
        let predecessor = bindings::find(&self.mysql, &instance.id, predecessor_id)
            .await?
            .filter(|binding| binding.state == BindingState::Ready && !binding.is_expired && binding.id != asked.id)
            .ok_or_else(|| bad("The field 'predecessor_binding_id' names no other binding of this instance that is in force."))?;
        if !predecessor.agrees_with(asked, instance.plan_id.as_deref(), false) {
            return Err(bad("The request differs from the binding that 'predecessor_binding_id' names."));
        }
        Ok(BindRequest {
            id: asked.id.clone(),
            service_id: predecessor.service_id,
            plan_id: predecessor.plan_id,
            app_guid: predecessor.app_guid,
            parameters: predecessor.parameters,
            predecessor: Some(predecessor_id.clone()),
        })
    }

    /// The binding, or none when the id or the instance was taken in the meantime: decide again.
    async fn create_account(
        &self,
        instance: &Instance,
        request: &BindRequest,
        plan: Option<&Plan>,
        began: &Began,
        progress: &Progress,
    ) -> Result<Option<Binding>> {
        let settings = self.settings();
        let limit = plan.and_then(|plan| plan.max_user_connections).unwrap_or(settings.bindings.max_user_connections_default);
        let lifetime = plan.and_then(Plan::binding_lifetime);
        let (op, lease) = (OpId::new(), settings.server.lease());
        let secret =
            settings.bindings.current_secret().ok_or_else(|| OsbError::Internal(Cause::MissingSecret("bindings.secrets".to_owned())))?;
        let new = NewAccount {
            account: Account::from_anywhere(names::new_account_name()),
            secret_id: secret.id.clone(),
            salt: names::random_hex(16),
            began: began.clone(),
        };
        failpoint!("B0");
        if progress.is_given_up() {
            return Err(OsbError::GivenUp);
        }
        let row = match bindings::begin(&self.mysql, instance, request, &new, lifetime, &op, lease).await? {
            BindStart::Begun(row) => row,
            BindStart::Exists | BindStart::NoInstance => return Ok(None),
            // the platform has given this one up, and has been told that there is nothing
            BindStart::Deleted => return Err(OsbError::Concurrency),
        };
        failpoint!("B1");
        let password = derive_password(&secret, &new.salt, &new.account.user);
        let work = async {
            let may_write = request.read_only() || !self.withhold_writes(instance, &new.account).await?;
            let mariadb = self.mysql.info().await?.dialect == Dialect::MariaDb;
            let rights = privileges::of_binding(request.read_only(), may_write, settings.bindings.allow_table_locks, mariadb);
            match accounts::create(&self.mysql, &new.account, &password, limit, &instance.database, &rights).await {
                Err(error) if error.is_missing_account() => return Err(OsbError::Concurrency),
                made => made?,
            }
            failpoint!("B3");
            if progress.is_given_up() {
                return Err(OsbError::GivenUp);
            }
            Ok(bindings::mark_ready(&self.mysql, row, &op).await?)
        };
        match while_renewing(&self.mysql, Subject::Binding(row), &op, lease, work).await {
            Ok(true) => {
                failpoint!("B4");
            }
            Ok(false) => {
                // somebody took the row over: the name was this attempt's alone, so the account is nobody else's
                accounts::drop(&self.mysql, &new.account).await?;
                return Err(OsbError::Concurrency);
            }
            Err(error) => {
                self.undo_bind(instance, request, &new.account, &op).await;
                return Err(error);
            }
        }
        bindings::find(&self.mysql, &instance.id, &request.id).await.map_err(OsbError::from)
    }

    /// An account of a database over its quota is made without the right to write, and the enforcer is told what to give it
    /// when usage falls.
    async fn withhold_writes(&self, instance: &Instance, account: &Account) -> crate::mysql::Result<bool> {
        if !quota::is_over(&self.mysql, &instance.database).await? {
            return Ok(false);
        }
        let scope = Scope::Pattern(accounts::grant_pattern(&self.mysql, &instance.database).await?);
        let privileges = privileges::write_names().into_iter().map(str::to_owned).collect();
        revocations::withhold(&self.mysql, &instance.database, &Revocation { account: account.clone(), scope, privileges }).await
    }

    async fn undo_bind(&self, instance: &Instance, request: &BindRequest, account: &Account, op: &OpId) {
        let undone = async {
            match bindings::find(&self.mysql, &instance.id, &request.id).await? {
                Some(mine) if mine.op.as_ref() == Some(op) => self.remove_binding(&mine, instance, op, &Removal::Resumed).await,
                // the answer to the last step was lost, or somebody finishes this row: the account is theirs
                Some(found) if found.account == *account => Ok(()),
                // the row was taken away before the account was made
                _ => Ok(accounts::drop(&self.mysql, account).await?),
            }
        };
        if let Err(error) = undone.await {
            tracing::warn!(binding = %request.id, %error, "a failed bind was not undone yet");
        }
    }

    pub(super) fn bound(&self, instance: &Instance, binding: &Binding, existing: bool) -> Result<Bound> {
        let settings = self.settings();
        let password = self.password(binding)?;
        let advertised = settings.mysql.advertised();
        let endpoint = advertised.first().ok_or_else(|| OsbError::Internal(Cause::NoAnswer("mysql.hosts is empty".to_owned())))?;

        Ok(Bound {
            existing,
            credentials: credentials(endpoint, &instance.database, &binding.account.user, &password, settings.mysql.ca_certificate()),
            endpoints: advertised.iter().map(|e| json!({"host": e.host, "ports": [e.port.to_string()], "protocol": "tcp"})).collect(),
            parameters: binding.parameters.clone(),
            expires_at: binding.expires_at.clone(),
            renew_before: binding.renew_before.clone(),
        })
    }
}

fn no_instance() -> OsbError {
    OsbError::NotFound("There is no such service instance, or it is still being created.".to_owned())
}
