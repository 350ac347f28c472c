//! `migrate`: the broker's own schema.

use super::{Config, Result, output};
use crate::domain::to_mb;
use crate::mysql::{Mysql, schema};
use crate::telemetry;

pub(super) async fn run(config: &Config) -> Result<()> {
    let settings = config.load()?;
    telemetry::init_logs(settings.logging);
    let waiting = output::waiting("migrating ...");
    let migrated = schema::migrate(&Mysql::new(&settings.mysql), settings.capacity.rules().per_instance).await?;
    drop(waiting);
    match migrated.applied.as_slice() {
        [] => println!("The schema is up to date."),
        applied => println!("Migrations applied: {}.", applied.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
    if migrated.adopted > 0 {
        println!("Instances of an existing installation taken over: {}.", migrated.adopted);
    }
    if let Some((before, after)) = migrated.counter {
        println!("Reserved according to the instances: {} MB (the counter said {} MB).", to_mb(after), to_mb(before));
    }
    Ok(())
}

/// What `serve` says of its migration.
pub(super) fn log(migrated: &schema::Migrated) {
    tracing::info!(applied = ?migrated.applied, adopted = migrated.adopted, "the schema is up to date");
    if let Some((before, after)) = migrated.counter {
        tracing::warn!(before_mb = to_mb(before), after_mb = to_mb(after), "the counter of reserved megabytes was put right");
    }
}
