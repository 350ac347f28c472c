//! What operators ask of instances.

use std::collections::HashMap;

use serde::Serialize;

use super::{Broker, Result};
use crate::domain::quota::{QuotaState, Sold};
use crate::domain::{MB, to_mb};
use crate::mysql::{bindings, instances, quota, tablespaces};

/// One instance, for people and scripts.
#[derive(Debug, Clone, Serialize)]
pub struct InstanceReport {
    /// The platform's id.
    pub id: String,
    /// The database's name.
    pub database: String,
    /// The plan's name, or its id where the catalog has it no more.
    pub plan: Option<String>,
    /// Where it is.
    pub state: &'static str,
    /// The quota.
    pub max_storage_mb: u64,
    /// The size of its files in InnoDB's view, free space included: what can be read of all databases at once. After a restart MariaDB lists
    /// those that were opened since; tables of other engines are not in it.
    pub usage_mb: f64,
    /// Whether it may write.
    pub quota_state: QuotaState,
    /// How many.
    pub bindings: u64,
    /// When it was provisioned; none on adopted instances.
    pub created_at: Option<String>,
}

impl Broker {
    /// Every instance, oldest first.
    ///
    /// # Errors
    /// Whatever keeps the database from answering.
    pub async fn instance_reports(&self) -> Result<Vec<InstanceReport>> {
        let settings = self.settings();
        let over: HashMap<String, bool> = quota::sold(&self.mysql).await?.into_iter().map(|sold| (sold.database, sold.is_over)).collect();
        let sizes = tablespaces::screen(&self.mysql, &over.keys().cloned().collect::<Vec<_>>()).await?.files;
        let counts = bindings::counts(&self.mysql).await?;
        let reports = instances::list(&self.mysql).await?.into_iter().map(|instance| {
            let used = sizes.get(&instance.database).map_or(0, |files| files.all);
            let sold = Sold {
                is_over: over.get(&instance.database).copied().unwrap_or(false),
                quota_bytes: instance.max_storage_mb.saturating_mul(MB),
                database: instance.database,
                ..Sold::default()
            };
            let plan = instance.plan_id.as_deref().and_then(|id| settings.catalog.plan(id)).map(|plan| plan.name.clone());
            InstanceReport {
                id: instance.id.to_string(),
                plan: plan.or(instance.plan_id),
                state: instance.state.as_str(),
                max_storage_mb: instance.max_storage_mb,
                usage_mb: to_mb(used),
                quota_state: QuotaState::of(used, &sold, &settings.quota_enforcer.warn_at),
                bindings: counts.get(&instance.row).copied().unwrap_or(0),
                created_at: instance.created_at,
                database: sold.database,
            }
        });
        Ok(reports.collect())
    }
}
