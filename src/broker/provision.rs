//! `PUT /v2/service_instances/:id` (OSB rows PR-1 to PR-15).

use std::time::Instant;

use super::fetch::failed;
use super::{Broker, OsbError, Progress, Result, check_maintenance, find_plan, wait_for_others};
use crate::domain::catalog::Plan;
use crate::domain::instance::{InstanceState, OpId, ProvisionRequest, Repeat};
use crate::domain::last_operation::{Kind, Removal};
use crate::domain::names;
use crate::domain::parameters::{Parameters, ParametersOf};
use crate::failpoint::failpoint;
use crate::mysql::databases;
use crate::mysql::instances::{self, Reservation};
use crate::mysql::last_operations::deletions::{self, Began};
use crate::mysql::operations::{Subject, while_renewing};

/// How a provision ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provisioned {
    /// A new database.
    Created,
    /// The same request as before.
    Existing,
    /// The same request as before, which is not done yet; the platform may poll.
    InProgress,
}

/// Whether a reserved instance was made.
enum Attempt {
    Created,
    /// The id was taken in the meantime: decide again.
    Taken,
}

impl Broker {
    /// Provisions an instance.
    ///
    /// # Errors
    /// 400 for what cannot be right, 409 for another instance under this id, 422 while somebody works on it or when it was deleted while
    /// the request waited, 507 when it does not fit; after each of them nothing is kept.
    pub async fn provision(&self, request: &ProvisionRequest, progress: &Progress) -> Result<Provisioned> {
        let settings = self.settings();
        let (_, plan) = find_plan(&settings.catalog, &request.service_id, &request.plan_id)?;
        ParametersOf::Provision.check(&request.parameters)?;
        let since = Instant::now();
        let began = deletions::began(&self.mysql, since).await?;
        loop {
            let Some(found) = instances::find(&self.mysql, &request.id).await? else {
                match self.create(request, plan, &began, progress).await? {
                    Attempt::Created => return Ok(Provisioned::Created),
                    Attempt::Taken => continue,
                }
            };
            match found.on_provision(request) {
                Repeat::Same => {
                    if found.lacks_owner() {
                        let owner = Some((request.organization_guid.as_str(), request.space_guid.as_str()));
                        instances::updates::record(&self.mysql, found.row, &request.service_id, owner, Some(&request.context), None)
                            .await?;
                    }
                    return Ok(Provisioned::Existing);
                }
                Repeat::Conflict => {
                    return Err(OsbError::Conflict("A service instance with this id and other attributes exists.".to_owned()));
                }
                Repeat::Busy if progress.accepts_incomplete() && found.state == InstanceState::Creating && found.is_same_as(request) => {
                    progress.begin(found.row);
                    return Ok(Provisioned::InProgress);
                }
                Repeat::Busy => wait_for_others(since).await?,
                Repeat::TakeOver => {
                    if !self.recover_instance(&found).await? {
                        wait_for_others(since).await?;
                    }
                }
            }
        }
    }

    /// The character set of a new database, and its collation where one is asked for: utf8mb4 where nobody asks for anything, because a
    /// server's own default may be latin1.
    pub(super) async fn charset(&self, parameters: &Parameters) -> Result<(String, Option<String>)> {
        let text = |key: &str| parameters.get(key).and_then(serde_json::Value::as_str);
        let (charset, collation) = (text("charset"), text("collation"));
        let known = match (charset, collation) {
            (None, None) => Some("utf8mb4".to_owned()),
            _ => databases::charset_of(&self.mysql, charset, collation).await?,
        };
        let unknown = "The database server does not know the parameters '/charset' and '/collation', or not both together.";
        Ok((known.ok_or_else(|| OsbError::BadRequest(unknown.to_owned()))?, collation.map(str::to_owned)))
    }

    async fn create(&self, request: &ProvisionRequest, plan: &Plan, began: &Began, progress: &Progress) -> Result<Attempt> {
        check_maintenance(Some(plan), request.maintenance_version.as_deref())?;
        let (charset, collation) = self.charset(&request.parameters).await?;
        let settings = self.settings();
        let reserved_bytes = settings.capacity.rules().reservation(plan.max_storage_mb);
        let figures = self.figures().await?;
        if !figures.has_really_room(reserved_bytes) {
            tracing::warn!("a provision was refused: the real disk is too full for the plan, whatever is sold");
            return Err(OsbError::InsufficientCapacity);
        }
        let (op, lease, database) = (OpId::new(), settings.server.lease(), names::new_database_name(&request.id));
        let sellable_bytes = figures.capacity.sellable_bytes();
        failpoint!("P0");
        if progress.is_given_up() {
            return Err(OsbError::GivenUp);
        }
        let reservation = instances::reserve(
            &self.mysql,
            &instances::NewInstance { request, database: &database, max_storage_mb: plan.max_storage_mb, reserved_bytes, began },
            sellable_bytes,
            &op,
            lease,
        )
        .await?;
        let row = match reservation {
            Reservation::Reserved(row) => row,
            Reservation::Exists => return Ok(Attempt::Taken),
            Reservation::Full => return Err(OsbError::InsufficientCapacity),
            // the platform has given this one up, and has been told that there is nothing
            Reservation::Deleted => return Err(OsbError::Concurrency),
        };
        progress.begin(row);
        failpoint!("P1");
        let work = databases::create(&self.mysql, &database, &charset, collation.as_deref());
        let outcome = match while_renewing(&self.mysql, Subject::Instance(row), &op, lease, work).await {
            // the request was answered with an error meanwhile: the platform will not have it
            Ok(()) if progress.is_given_up() => Err(OsbError::GivenUp),
            Ok(()) => {
                failpoint!("P2");
                instances::mark_ready(&self.mysql, row, &op).await.map_err(OsbError::from)
            }
            Err(error) => Err(error.into()),
        };
        failpoint!("P3");
        match outcome {
            Ok(true) => Ok(Attempt::Created),
            Ok(false) => {
                // somebody took the row over: the name was this attempt's alone, so what stands under it is nobody else's
                databases::drop(&self.mysql, &database).await?;
                Err(OsbError::Concurrency)
            }
            Err(error) => {
                self.undo_creation(request, &database, &op, &error).await;
                Err(error)
            }
        }
    }

    /// Takes back what this attempt did. When that fails too, the row stays `creating` and whoever comes after the lease
    /// finishes it: the platform's DELETE, a repeated PUT, or the sweep.
    async fn undo_creation(&self, request: &ProvisionRequest, database: &str, op: &OpId, why: &OsbError) {
        let undone = async {
            match instances::find(&self.mysql, &request.id).await? {
                Some(mine) if mine.op.as_ref() == Some(op) => self.remove(&mine, op, &Removal::Undone(failed(Kind::Provision, why))).await,
                // the answer to the last step was lost, or somebody finishes this row: the database is theirs
                Some(found) if found.database == database => Ok(()),
                // the row was taken away before the database was made
                _ => Ok(databases::drop(&self.mysql, database).await?),
            }
        };
        if let Err(error) = undone.await {
            tracing::warn!(instance = %request.id, %error, "a failed provision was not undone yet");
        }
    }
}
