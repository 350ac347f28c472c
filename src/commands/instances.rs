//! `instances`: all of them, or one.

use clap::Subcommand;

use super::{Failure, Report, Result, capacity, output};
use crate::telemetry;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    report: Report,
}

#[derive(Subcommand)]
enum What {
    /// Every instance, oldest first.
    List(Report),
    /// One instance.
    Show {
        /// The platform's id of the instance.
        id: String,
        #[command(flatten)]
        report: Report,
    },
}

pub(super) async fn run(arguments: &Arguments) -> Result<()> {
    let (report, only) = match &arguments.what {
        None => (&arguments.report, None),
        Some(What::List(report)) => (report, None),
        Some(What::Show { id, report }) => (report, Some(id)),
    };
    let config = if report.config.config.is_some() { &report.config } else { &arguments.report.config };
    let settings = config.load()?;
    telemetry::init_logs(settings.logging);
    let mut instances = capacity::broker(settings).instance_reports().await?;
    if let Some(id) = only {
        instances.retain(|instance| instance.id == *id);
        if instances.is_empty() {
            return Err(Failure::Failed(anyhow::anyhow!("there is no instance with this id")));
        }
    }
    if report.json || arguments.report.json {
        return match only {
            Some(_) => output::json(&instances[0]),
            None => output::json(&instances),
        };
    }
    let rows = instances.into_iter().map(|instance| {
        [
            instance.id,
            instance.database,
            instance.plan.unwrap_or_default(),
            instance.state.to_owned(),
            format!("{} of {}", instance.usage_mb, instance.max_storage_mb),
            format!("{:?}", instance.quota_state).to_lowercase(),
            instance.bindings.to_string(),
            instance.created_at.unwrap_or_default(),
        ]
    });
    output::table(&["id", "database", "plan", "state", "MB", "quota", "bindings", "created"], rows);
    Ok(())
}
