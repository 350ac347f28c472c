//! How much a suspect uses: as cheaply as the answer allows.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::Enforcer;
use crate::domain::quota::{Sold, file_sizes};
use crate::mysql::{Dialect, Result, usage};

/// How long a pass may spend on opening tables after a restart of the server.
pub(super) const TIME_BOX: Duration = Duration::from_millis(100);
/// How long statistics of an unchanged database are good for.
const FRESH: Duration = Duration::from_secs(5);

/// What earlier passes found.
#[derive(Default)]
pub(super) struct Memory {
    uptime: u64,
    complete: HashSet<String>,
    analysed: HashMap<String, Analysed>,
}

struct Analysed {
    at: Instant,
    live: u64,
    used: u64,
}

impl Enforcer {
    /// The file sizes of all databases, in bytes. MariaDB lists only tablespaces it has opened since it started: after a restart every
    /// database is opened once, a few in each pass. `time_box`: none opens them all.
    pub(super) async fn screen(&mut self, sold: &[Sold], time_box: Option<Duration>) -> Result<HashMap<String, u64>> {
        if self.mysql.info().await?.dialect == Dialect::MariaDb {
            self.open_databases(sold, time_box).await?;
        }
        let tablespaces = usage::tablespaces(&self.mysql).await?;
        Ok(file_sizes(tablespaces.iter().map(|(name, bytes)| (name.as_str(), *bytes))))
    }

    async fn open_databases(&mut self, sold: &[Sold], time_box: Option<Duration>) -> Result<()> {
        let uptime = usage::uptime(&self.mysql).await?;
        if uptime < self.measurements.uptime {
            self.measurements.complete.clear();
        }
        self.measurements.uptime = uptime;
        let started = Instant::now();
        for sold in sold {
            if time_box.is_some_and(|time_box| started.elapsed() > time_box) {
                break;
            }
            if self.measurements.complete.contains(&sold.database) {
                continue;
            }
            match usage::open_tables(&self.mysql, &sold.database).await {
                Ok(()) => {
                    self.measurements.complete.insert(sold.database.clone());
                }
                Err(error) => tracing::warn!(database = sold.database, %error, "the tables of a database could not be opened yet"),
            }
        }
        Ok(())
    }

    /// What a suspect uses, in bytes: the upper bound where that is under the quota, else exactly. Statistics are made
    /// again only when something has changed or they are old. When a tenant's lock blocks them, the upper bound counts.
    pub(super) async fn used(&mut self, sold: &Sold) -> Result<u64> {
        let live = usage::live(&self.mysql, &sold.database).await?;
        if live < sold.quota_bytes {
            return Ok(live);
        }
        if let Some(last) = self.measurements.analysed.get(&sold.database)
            && last.live == live
            && last.at.elapsed() < FRESH
        {
            return Ok(last.used);
        }
        let used = match usage::exact(&self.mysql, &sold.database).await {
            Ok(used) => used,
            Err(error) if error.code().is_some() => {
                tracing::debug!(database = sold.database, %error, "no exact size; the upper bound counts");
                return Ok(live);
            }
            Err(error) => return Err(error),
        };
        self.measurements.analysed.insert(sold.database.clone(), Analysed { at: Instant::now(), live, used });
        Ok(used)
    }

    /// Forgets databases that are gone.
    pub(super) fn forget_others(&mut self, sold: &[Sold]) {
        let known: HashSet<&str> = sold.iter().map(|sold| sold.database.as_str()).collect();
        self.measurements.complete.retain(|database| known.contains(database.as_str()));
        self.measurements.analysed.retain(|database, _| known.contains(database.as_str()));
    }
}
