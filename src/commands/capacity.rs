//! `capacity`: who fills the disk, and what is left to sell.

use std::sync::Arc;

use super::{Report, Result, output};
use crate::broker::Broker;
use crate::mysql::Mysql;
use crate::settings::Settings;
use crate::telemetry;

/// A broker that serves nobody, for the operator verbs.
pub(super) fn broker(settings: Settings) -> Broker {
    let mysql = Mysql::new(&settings.mysql);
    Broker::new(mysql, Arc::new(arc_swap::ArcSwap::from_pointee(settings)))
}

pub(super) async fn run(report: &Report) -> Result<()> {
    let settings = report.config.load()?;
    telemetry::init_logs(settings.logging);
    let capacity = broker(settings).capacity_report().await?;
    if report.json {
        return output::json(&capacity);
    }
    let mut rows = vec![["persistent disk".to_owned(), capacity.persistent_disk_mb.to_string()]];
    rows.extend(capacity.overhead.iter().map(|(name, mb)| [format!("overhead: {name}"), mb.to_string()]));
    rows.push([format!("reserved by {} instances", capacity.instances), capacity.reserved_mb.to_string()]);
    rows.push(["free to sell".to_owned(), capacity.free_mb.to_string()]);
    if let Some(disk) = capacity.real_disk {
        rows.push(["file system: size".to_owned(), crate::domain::to_mb(disk.total).to_string()]);
        rows.push(["file system: free".to_owned(), crate::domain::to_mb(disk.free).to_string()]);
    }
    output::table(&["", "MB"], rows);
    println!();
    let plans = capacity
        .plans
        .into_iter()
        .map(|plan| [plan.plan, plan.instances.to_string(), plan.reserved_mb.to_string(), plan.still_fit.to_string()]);
    output::table(&["plan", "instances", "reserved MB", "still fit"], plans);
    Ok(())
}
