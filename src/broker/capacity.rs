//! How much there is to sell.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Mutex;

use super::disk::{RealDisk, real_disk};
use super::{Broker, Result};
use crate::domain::capacity::Capacity;
use crate::domain::to_mb;
use crate::mysql::{self, server};

/// How long figures of the server and of the disk are good for: they change by an operator's hand, or slowly.
const FRESH: Duration = Duration::from_secs(2);

/// The last figures read, and when. Held by whoever reads them, so that many requests at once are one look.
#[derive(Default)]
pub(super) struct Cache(Mutex<Looks>);

#[derive(Default)]
struct Looks {
    last: Option<(Instant, Figures)>,
    /// When the last look in vain ended, and why it was one.
    in_vain: Option<(Instant, mysql::Error)>,
}

#[derive(Debug, Clone)]
pub(super) struct Figures {
    pub(super) capacity: Capacity,
    pub(super) real_disk: Option<RealDisk>,
}

impl Figures {
    /// Whether the file system has room for so much more, and for what is kept free. The counter says what was promised,
    /// this says what somebody else has put on the disk.
    pub(super) fn has_really_room(&self, bytes: u64) -> bool {
        self.real_disk.is_none_or(|disk| disk.free >= bytes.saturating_add(KEPT_FREE))
    }
}

/// What must stay free on the real disk.
const KEPT_FREE: u64 = 50 * crate::domain::MB;

impl Broker {
    pub(super) async fn figures(&self) -> Result<Figures> {
        let asked = Instant::now();
        let mut looks = self.figures.0.lock().await;
        if let Some((at, figures)) = looks.last.as_ref()
            && at.elapsed() < FRESH
        {
            return Ok(figures.clone());
        }
        // somebody has just looked: a queue of looks at a server that hangs would hold up every request
        if let Some((ended, error)) = looks.in_vain.as_ref()
            && *ended >= asked
        {
            return Err(error.clone().into());
        }
        let looked = async { Ok((self.mysql.info().await?, server::figures(&self.mysql).await?)) };
        let (server, figures_of_server) = match looked.await {
            Ok(found) => found,
            Err(error) => {
                let error: mysql::Error = error;
                looks.in_vain = Some((Instant::now(), error.clone()));
                return Err(error.into());
            }
        };
        let real_disk = real_disk(&server);
        let rules = self.settings().capacity.rules();
        let capacity = Capacity::new(&rules, &figures_of_server, real_disk.map(|disk| disk.total));
        if capacity.disk < rules.persistent_disk && looks.last.as_ref().is_none_or(|(_, before)| before.capacity.disk != capacity.disk) {
            tracing::warn!(
                configured_mb = to_mb(rules.persistent_disk),
                real_mb = to_mb(capacity.disk),
                "the real disk is smaller than capacity.persistent_disk: the real one counts"
            );
        }
        let figures = Figures { capacity, real_disk };
        looks.last = Some((Instant::now(), figures.clone()));
        Ok(figures)
    }

    /// What the operator verb `capacity` shows.
    ///
    /// # Errors
    /// Whatever keeps the database from answering.
    pub async fn capacity_report(&self) -> Result<CapacityReport> {
        let figures = self.figures().await?;
        let reserved = mysql::capacity::reserved(&self.mysql).await?;
        let shares = mysql::capacity::shares(&self.mysql).await?;
        let settings = self.settings();
        let rules = settings.capacity.rules();
        let free = figures.capacity.sellable_bytes().saturating_sub(reserved);
        let mut plans: Vec<PlanShare> = settings
            .catalog
            .services
            .iter()
            .flat_map(|service| &service.plans)
            .map(|plan| {
                let bytes = rules.reservation(plan.max_storage_mb).max(1);
                PlanShare {
                    plan: plan.name.clone(),
                    plan_id: Some(plan.id.clone()),
                    instances: 0,
                    reserved_mb: 0.0,
                    // as a provision decides
                    still_fit: if figures.has_really_room(bytes) { free / bytes } else { 0 },
                }
            })
            .collect();
        for share in &shares {
            let index = match plans.iter().position(|plan| plan.plan_id == share.plan_id) {
                Some(index) => index,
                None => {
                    plans.push(PlanShare {
                        plan: "(not in the catalog)".to_owned(),
                        plan_id: share.plan_id.clone(),
                        instances: 0,
                        reserved_mb: 0.0,
                        still_fit: 0,
                    });
                    plans.len() - 1
                }
            };
            plans[index].instances += share.instances;
            plans[index].reserved_mb = to_mb(mb_sum(plans[index].reserved_mb, share.reserved_bytes));
        }
        Ok(CapacityReport {
            persistent_disk_mb: to_mb(figures.capacity.disk),
            overhead_mb: to_mb(figures.capacity.overhead_bytes()),
            overhead: figures.capacity.overhead.iter().map(|(name, bytes)| (*name, to_mb(*bytes))).collect(),
            reserved_mb: to_mb(reserved),
            free_mb: to_mb(free),
            instances: shares.iter().map(|share| share.instances).sum(),
            plans,
            real_disk: figures.real_disk,
        })
    }
}

fn mb_sum(mb: f64, bytes: u64) -> u64 {
    crate::domain::mb_to_bytes(mb).saturating_add(bytes)
}

/// Where the disk went and what is left to sell.
#[derive(Debug, Clone, Serialize)]
pub struct CapacityReport {
    /// The disk that counts.
    pub persistent_disk_mb: f64,
    /// What nobody can buy.
    pub overhead_mb: f64,
    /// By its parts.
    pub overhead: BTreeMap<&'static str, f64>,
    /// What is sold.
    pub reserved_mb: f64,
    /// What is left.
    pub free_mb: f64,
    /// How many instances.
    pub instances: u64,
    /// By plan.
    pub plans: Vec<PlanShare>,
    /// The file system, where it is this machine's.
    pub real_disk: Option<RealDisk>,
}

/// One plan's part.
#[derive(Debug, Clone, Serialize)]
pub struct PlanShare {
    /// Its name.
    pub plan: String,
    /// Its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<String>,
    /// How many instances.
    pub instances: u64,
    /// What they reserve.
    pub reserved_mb: f64,
    /// How many more would fit if only this plan were sold.
    pub still_fit: u64,
}

impl Broker {
    /// Puts the figures of the database into the metrics.
    ///
    /// # Errors
    /// Whatever keeps the database from answering.
    pub async fn publish_figures(&self) -> Result<()> {
        let report = self.capacity_report().await?;
        for (kind, mb) in [
            ("disk", report.persistent_disk_mb),
            ("overhead", report.overhead_mb),
            ("reserved", report.reserved_mb),
            ("free", report.free_mb),
        ] {
            metrics::gauge!("cf_mysql_capacity_megabytes", "kind" => kind).set(mb);
        }
        let settings = self.settings();
        let mut instances = BTreeMap::<(&str, String), u64>::new();
        let mut bindings = BTreeMap::<&str, u64>::new();
        for share in mysql::capacity::shares(&self.mysql).await? {
            let plan = share.plan_id.as_deref().and_then(|id| settings.catalog.plan(id)).map_or("unknown", |plan| plan.name.as_str());
            *instances.entry((plan, share.state)).or_default() += share.instances;
            *bindings.entry(plan).or_default() += share.bindings;
        }
        #[expect(clippy::cast_precision_loss, reason = "gauges")]
        {
            for ((plan, state), count) in instances {
                metrics::gauge!("cf_mysql_instances", "plan" => plan.to_owned(), "state" => state).set(count as f64);
            }
            for (plan, count) in bindings {
                metrics::gauge!("cf_mysql_bindings", "plan" => plan.to_owned()).set(count as f64);
            }
        }
        Ok(())
    }
}
