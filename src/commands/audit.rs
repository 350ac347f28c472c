//! `audit`: who changed what, newest first.

use super::{Report, Result, capacity, output};
use crate::telemetry;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    report: Report,
    /// Only what concerns this instance.
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// At most so many entries.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
}

pub(super) async fn run(arguments: &Arguments) -> Result<()> {
    let settings = arguments.report.config.load()?;
    telemetry::init_logs(settings.logging);
    let entries = capacity::broker(settings).audit_trail(arguments.instance.as_deref(), arguments.limit).await?;
    if arguments.report.json {
        return output::json(&entries);
    }
    let rows = entries.into_iter().map(|entry| {
        [entry.at, entry.verb, entry.instance, entry.binding, entry.status.to_string(), entry.outcome, entry.platform, entry.identity]
    });
    output::table(&["at", "verb", "instance", "binding", "status", "outcome", "platform", "who"], rows);
    Ok(())
}
