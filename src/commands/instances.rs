//! `instances`: all of them, or one.

use clap::Subcommand;

use super::{Failure, Report, Result, capacity, output};
use crate::broker::InstanceReport;
use crate::domain::quota::QuotaState;
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
        /// The platform's id of the instance, or the name of its database.
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
        instances.retain(|instance| instance.id == *id || instance.database == *id);
        if instances.is_empty() {
            return Err(Failure::Failed(anyhow::anyhow!("there is no instance with this id, and none with a database of this name")));
        }
    }
    if report.json || arguments.report.json {
        return match only {
            Some(_) => output::json(&instances[0]),
            None => output::json(&instances),
        };
    }
    if only.is_some() {
        output::table(&["", ""], instances.into_iter().flat_map(details));
        return Ok(());
    }
    let rows = instances.into_iter().map(|instance| {
        [
            instance.id,
            instance.plan.unwrap_or_default(),
            instance.state.to_owned(),
            instance.usage_mb.to_string(),
            instance.max_storage_mb.to_string(),
            word(instance.quota_state),
            instance.bindings.to_string(),
            // the day: `show` and --json have the time
            instance.created_at.unwrap_or_default().split('T').next().unwrap_or_default().to_owned(),
        ]
    });
    output::table(&["id", "plan", "state", "used MB", "of", "quota", "bindings", "created"], rows);
    Ok(())
}

/// Everything there is to say of one instance.
fn details(instance: InstanceReport) -> [[String; 2]; 9] {
    [
        ("id", instance.id),
        ("database", instance.database),
        ("plan", instance.plan.unwrap_or_default()),
        ("state", instance.state.to_owned()),
        ("size of its files in MB", instance.usage_mb.to_string()),
        ("quota in MB", instance.max_storage_mb.to_string()),
        ("state of its quota", word(instance.quota_state)),
        ("bindings", instance.bindings.to_string()),
        ("created", instance.created_at.unwrap_or_else(|| "by cf-mysql, before it was taken over".to_owned())),
    ]
    .map(|(name, value)| [name.to_owned(), value])
}

fn word(state: QuotaState) -> String {
    format!("{state:?}").to_lowercase()
}
