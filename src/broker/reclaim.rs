//! Giving back the space of deleted rows: a tenant over its quota may delete, but only a rebuild makes small pages out of many
//! half-empty ones, and it has no right to rebuild.

use serde::Serialize;

use super::{Broker, OsbError, Result};
use crate::domain::ids::InstanceId;
use crate::domain::to_mb;
use crate::domain::usage::worth_rebuilding;
use crate::mysql::{instances, rebuild, usage};

/// What a reclaim did.
#[derive(Debug, Clone, Serialize)]
pub struct ReclaimReport {
    /// The platform's id.
    pub id: String,
    /// The database's name.
    pub database: String,
    /// What it used before, with statistics made anew.
    pub before_mb: f64,
    /// And after.
    pub after_mb: f64,
    /// Each table that was worth it, in the order of the work.
    pub tables: Vec<RebuiltTable>,
}

/// One table of a [`ReclaimReport`].
#[derive(Debug, Clone, Serialize)]
pub struct RebuiltTable {
    /// Its name.
    pub table: String,
    /// The size of its file before.
    pub before_mb: f64,
    /// And after; none where it was not rebuilt.
    pub after_mb: Option<f64>,
    /// Why it was not.
    pub left: Option<String>,
}

/// What a reclaim is about to do.
#[derive(Debug, Clone, Copy)]
pub struct ReclaimStep<'a> {
    /// The table that is rebuilt next.
    pub table: &'a str,
    /// Bytes of files that have been rebuilt.
    pub done_bytes: u64,
    /// Bytes of files in all.
    pub all_bytes: u64,
}

impl Broker {
    /// Rebuilds the tables of an instance that are worth it, one at a time, the largest gain first. `tell` hears of each before
    /// it begins. Can be repeated. A table that is locked, or does not fit on the disk a second time, is left as it is.
    ///
    /// # Errors
    /// 404 without an instance; whatever keeps the server from answering.
    pub async fn reclaim(&self, id: &InstanceId, mut tell: impl FnMut(ReclaimStep<'_>)) -> Result<ReclaimReport> {
        let instance =
            instances::find(&self.mysql, id).await?.ok_or_else(|| OsbError::NotFound("There is no such service instance.".to_owned()))?;
        let database = instance.database;
        let before = usage::exactly(&self.mysql, &database).await?;
        let candidates = worth_rebuilding(&before.sizes);
        let before = before.exact().at_least;
        let all_bytes = candidates.iter().map(|(_, file)| file).sum();
        let mut done_bytes = 0;
        let mut tables = Vec::with_capacity(candidates.len());
        for (table, file) in candidates {
            tell(ReclaimStep { table: &table, done_bytes, all_bytes });
            let left = if !self.figures().await?.has_really_room(file) {
                Some("the disk has no room for a second copy".to_owned())
            } else {
                match rebuild::table(&self.mysql, &database, &table).await {
                    Ok(true) => None,
                    Ok(false) => Some("it is gone".to_owned()),
                    Err(error) if error.code().is_some() => {
                        tracing::warn!(database, table, %error, "a table was not rebuilt");
                        Some(error.to_string())
                    }
                    Err(error) => return Err(error.into()),
                }
            };
            done_bytes += file;
            tables.push(RebuiltTable { table, before_mb: to_mb(file), after_mb: None, left });
        }
        let after = usage::exactly(&self.mysql, &database).await?;
        for table in tables.iter_mut().filter(|table| table.left.is_none()) {
            table.after_mb = after.sizes.files.get(&table.table).copied().map(to_mb);
        }
        let after = after.exact().at_least;
        tracing::info!(database, before_mb = to_mb(before), after_mb = to_mb(after), tables = tables.len(), "space was reclaimed");
        Ok(ReclaimReport { id: id.to_string(), database, before_mb: to_mb(before), after_mb: to_mb(after), tables })
    }
}
