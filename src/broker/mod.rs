//! What each verb of the OSB API means: one file a verb. No HTTP, no SQL. Every operation is a row first, side effects
//! second, a mark third; side effects are gone before the row goes. So nothing can be orphaned, and any broker can finish or
//! undo what a dead one began (`recover.rs`).

mod audit;
mod bind;
mod capacity;
mod deprovision;
mod disk;
mod error;
mod fetch;
mod janitor;
mod progress;
mod provision;
mod reclaim;
mod reconcile;
mod recover;
mod report;
mod unbind;
mod update;

use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::SecretString;

pub use audit::Entry as AuditEntry;
pub use bind::Bound;
pub use capacity::CapacityReport;
pub use deprovision::Deprovisioned;
pub use error::{Cause, OsbError};
pub use progress::Progress;
pub use provision::Provisioned;
pub use reclaim::{RebuiltTable, ReclaimReport, ReclaimStep};
pub use reconcile::{Found, Reconciled};
pub use report::InstanceReport;
pub use unbind::Hints;
pub use update::{UpdateRequest, Updated};

use crate::domain::binding::Binding;
use crate::domain::catalog::{Catalog, Plan, ServiceOffering};
use crate::mysql::Mysql;
use crate::settings::{Settings, SharedSettings};

/// The result of every verb.
pub type Result<T> = std::result::Result<T, OsbError>;

/// How long a request waits for another one that works on the same id, before it is told to come back.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// How often it looks.
const BUSY_POLL: Duration = Duration::from_millis(50);

/// The broker: everything a verb needs.
pub struct Broker {
    mysql: Mysql,
    settings: SharedSettings,
    figures: capacity::Cache,
    audit: audit::Audit,
}

impl Broker {
    /// Puts one together; connects to nothing.
    pub fn new(mysql: Mysql, settings: SharedSettings) -> Self {
        Self { mysql, settings, figures: capacity::Cache::default(), audit: audit::Audit::default() }
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Why the broker is not ready to work, if it is not.
    ///
    /// # Errors
    /// Says what is missing, within two seconds.
    pub async fn check(&self) -> std::result::Result<(), crate::mysql::Error> {
        self.mysql.check().await
    }

    fn password(&self, binding: &Binding) -> Result<SecretString> {
        let secret = self
            .settings
            .load()
            .bindings
            .secret(&binding.secret_id)
            .ok_or_else(|| OsbError::Internal(Cause::MissingSecret(binding.secret_id.clone())))?;
        Ok(crate::domain::credentials::derive_password(&secret, &binding.salt, &binding.account.user))
    }
}

/// The offering and plan of a request.
fn find_plan<'a>(catalog: &'a Catalog, service_id: &str, plan_id: &str) -> Result<(&'a ServiceOffering, &'a Plan)> {
    let service = catalog
        .service(service_id)
        .ok_or_else(|| OsbError::BadRequest("The field 'service_id' names no service of this broker.".to_owned()))?;
    let plan =
        service.plan(plan_id).ok_or_else(|| OsbError::BadRequest("The field 'plan_id' names no plan of this service.".to_owned()))?;
    Ok((service, plan))
}

/// A maintenance version that is given must be the plan's (OSB rows PR-8 and UP-9).
fn check_maintenance(plan: Option<&Plan>, version: Option<&str>) -> Result<()> {
    let ours = plan.and_then(|plan| plan.maintenance_info.as_ref()).map(|info| info.version.as_str());
    match version {
        Some(asked) if ours != Some(asked) => Err(OsbError::MaintenanceInfoConflict),
        _ => Ok(()),
    }
}

/// Waits for somebody else's work, up to [`BUSY_WAIT`] from `since`.
async fn wait_for_others(since: Instant) -> Result<()> {
    if since.elapsed() >= BUSY_WAIT {
        return Err(OsbError::Concurrency);
    }
    tokio::time::sleep(BUSY_POLL).await;
    Ok(())
}
