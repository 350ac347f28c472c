//! `reclaim`: give the space of deleted rows back to an instance.

use indicatif::{ProgressBar, ProgressStyle};

use super::{Report, Result, capacity, output};
use crate::domain::ids::InstanceId;
use crate::telemetry;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The platform's id of the instance.
    id: String,
    #[command(flatten)]
    report: Report,
}

pub(super) async fn run(arguments: &Arguments) -> Result<()> {
    let settings = arguments.report.config.load()?;
    telemetry::init_logs(settings.logging);
    // drawn on stderr, and only where that is a terminal
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{wide_msg} {bytes}/{total_bytes} {bar:30} {elapsed_precise}") {
        bar.set_style(style);
    }
    let id = InstanceId::from_stored(arguments.id.clone());
    let broker = capacity::broker(settings);
    let done = broker.reclaim(&id, |step| {
        bar.set_length(step.all_bytes);
        bar.set_position(step.done_bytes);
        bar.set_message(step.table.to_owned());
    });
    let report = done.await;
    bar.finish_and_clear();
    let report = report?;
    if arguments.report.json {
        return output::json(&report);
    }
    let rows = report.tables.into_iter().map(|table| {
        let after = table.after_mb.map(|mb| mb.to_string()).unwrap_or_default();
        [table.table, table.before_mb.to_string(), after, table.left.unwrap_or_default()]
    });
    output::table(&["table", "MB before", "MB after", "left as it was"], rows);
    println!("The database used {} MB and uses {} MB.", report.before_mb, report.after_mb);
    Ok(())
}
