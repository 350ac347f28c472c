//! `reconcile`: what is there against what the rows say.

use super::{Failure, Report, Result, capacity, output};
use crate::telemetry;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    report: Report,
    /// Put right what is found, but for what somebody works on.
    #[arg(long)]
    apply: bool,
    /// First wait until nobody works on anything.
    #[arg(long)]
    wait: bool,
}

/// Exit code 0: nothing was found, or all of it was put right. 1: something is not as it should be.
pub(super) async fn run(arguments: &Arguments) -> Result<()> {
    let settings = arguments.report.config.load()?;
    telemetry::init_logs(settings.logging);
    let waiting = output::waiting(if arguments.wait { "waiting until nobody works on anything ..." } else { "comparing ..." });
    let reconciled = capacity::broker(settings).reconcile(arguments.apply, arguments.wait).await?;
    drop(waiting);
    let is_well = reconciled.found.iter().all(|found| found.action.starts_with("done"));
    if arguments.report.json {
        output::json(&reconciled)?;
    } else if reconciled.found.is_empty() {
        println!("Everything is as the rows say.");
    } else {
        output::table(
            &["what", "which", if arguments.apply { "done" } else { "with --apply" }],
            reconciled.found.into_iter().map(|found| [found.kind.to_owned(), found.name, found.action]),
        );
    }
    if is_well { Ok(()) } else { Err(Failure::Said) }
}
