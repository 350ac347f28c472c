//! How much databases use: as cheaply as the answer allows. Whatever costs more than a moment is done only when something has
//! changed, and in pieces.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use super::Enforcer;
use crate::domain::gate::{self, Counters};
use crate::domain::quota::{DatabaseSizes, Rules, Sold};
use crate::mysql::{Dialect, Result, usage};

/// How long a pass may spend on opening tables after a restart of the server.
pub(super) const TIME_BOX: Duration = Duration::from_millis(100);
/// How long a pass may spend on looking for tables in other engines.
const AUDIT_BOX: Duration = Duration::from_millis(20);
/// How often other engines and shared tablespaces are looked for while tables are being made.
const AUDIT: Duration = Duration::from_secs(60);
/// How often, while none are.
const AUDIT_IDLE: Duration = Duration::from_secs(600);
/// How often the tables that InnoDB's view does not list are measured.
const OUTSIDE: Duration = Duration::from_secs(5);
/// How long after a change statistics go on being made: deleted rows leave their pages later.
const SETTLING: Duration = Duration::from_secs(10);
/// How long statistics of an unchanged database are good for.
const FRESH: Duration = Duration::from_secs(30);
/// Making statistics of a database that is over its quota takes at most this part of the time: one in ten.
const SHARE: u32 = 10;
/// How often rights on single objects of a database over its quota are looked at.
const DETAILS: Duration = Duration::from_secs(10);
/// How often a database that is nearly full is measured, while it grows and while it does not.
const NEARLY_FULL: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// What earlier passes found.
#[derive(Default)]
pub(super) struct Memory {
    server: Option<Server>,
    scan: Option<(Instant, Counters)>,
    /// Every database with a quota, as of the last scan.
    databases: Vec<String>,
    /// File sizes as of the last scan.
    files: HashMap<String, u64>,
    /// Suspects as of the last scan.
    suspects: HashSet<String>,
    opened: HashSet<String>,
    analysed: HashMap<String, Analysed>,
    nearly_full: HashMap<String, (Instant, u64)>,
    details: HashMap<String, (Instant, bool)>,
    audit: Audit,
}

/// Which server, and when it started, by our clock.
struct Server {
    address: String,
    started: Option<Instant>,
}

/// What a suspect uses. Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Used {
    /// To judge by: exact, or an upper bound that is under the quota.
    pub(super) bytes: u64,
    /// To tell people: no upper bound, which is several MB too high after a table has grown.
    pub(super) for_people: u64,
}

struct Analysed {
    at: Instant,
    took: Duration,
    changed_at: Instant,
    signature: u64,
    used: u64,
}

#[derive(Default)]
struct Audit {
    at: Option<(Instant, u64)>,
    queue: Vec<String>,
    outside: HashMap<String, Option<(Instant, u64)>>,
}

impl Audit {
    /// Databases with tables outside InnoDB's view that are to be measured again.
    fn due(&self) -> Vec<String> {
        let is_due = |measured: &Option<(Instant, u64)>| measured.is_none_or(|(at, _)| at.elapsed() >= OUTSIDE);
        self.outside.iter().filter(|(_, measured)| is_due(measured)).map(|(database, _)| database.clone()).collect()
    }
}

impl Memory {
    /// Whether rights on single objects are to be looked at again.
    pub(super) fn details_due(&self, database: &str) -> bool {
        self.details.get(database).is_none_or(|(at, _)| at.elapsed() >= DETAILS)
    }

    /// Notes whether routines of a database run with the rights of somebody who may still write.
    pub(super) fn set_details(&mut self, database: &str, lends: bool) {
        self.details.insert(database.to_owned(), (Instant::now(), lends));
    }

    /// What [`Memory::set_details`] noted.
    pub(super) fn lends_rights(&self, database: &str) -> bool {
        self.details.get(database).is_some_and(|(_, lends)| *lends)
    }

    /// Forgets what was found out about a database.
    pub(super) fn forget(&mut self, database: &str) {
        self.details.remove(database);
        self.analysed.remove(database);
    }

    /// The file size of a database, with what InnoDB's view does not list, as far as it is known. Bytes.
    pub(super) fn size(&self, database: &str) -> u64 {
        let outside = self.audit.outside.get(database).copied().flatten().map_or(0, |(_, bytes)| bytes);
        self.files.get(database).copied().unwrap_or(0).saturating_add(outside)
    }

    /// How many databases had a quota at the last scan.
    pub(super) fn databases(&self) -> usize {
        self.databases.len()
    }

    /// Databases to look at between two scans.
    pub(super) fn suspects(&self) -> Vec<String> {
        self.suspects.iter().cloned().collect()
    }

    /// Notes a suspect.
    pub(super) fn suspect(&mut self, database: &str) {
        self.suspects.insert(database.to_owned());
    }

    /// Whether a database that is nearly full is to be measured again.
    pub(super) fn nearly_full_due(&mut self, database: &str) -> bool {
        let size = self.size(database);
        let is_due = self
            .nearly_full
            .get(database)
            .is_none_or(|(at, known)| at.elapsed() >= if *known == size { NEARLY_FULL.1 } else { NEARLY_FULL.0 });
        if is_due {
            self.nearly_full.insert(database.to_owned(), (Instant::now(), size));
        }
        is_due
    }

    /// Whether the server, or the node in use, is another one than in the last pass, or was started anew.
    fn is_another(&mut self, address: String, uptime: u64) -> bool {
        let started = Instant::now().checked_sub(Duration::from_secs(uptime));
        let is_same = self.server.as_ref().is_some_and(|known| {
            known.address == address
                && match (known.started, started) {
                    // whole seconds, and the time the answer took
                    (Some(known), Some(now)) => now.saturating_duration_since(known) < Duration::from_secs(3),
                    (known, now) => known.is_none() == now.is_none(),
                }
        });
        if !is_same {
            self.server = Some(Server { address, started });
        }
        !is_same
    }
}

impl Enforcer {
    /// Whether to look at everybody in this pass: see [`gate::opens`]. Until every database of a MariaDB has been opened, always;
    /// without a `time_box`, too.
    pub(super) async fn gate(&mut self, time_box: Option<Duration>) -> Result<Option<Counters>> {
        let counters = usage::counters(&self.mysql).await?;
        let endpoint = &self.mysql.current().endpoint;
        let memory = &mut self.measurements;
        if memory.is_another(format!("{}:{}", endpoint.host, endpoint.port), counters.uptime) {
            memory.opened.clear();
            memory.scan = None;
        }
        let is_complete = memory.databases.iter().all(|database| memory.opened.contains(database));
        let opens = memory.scan.as_ref().is_none_or(|(at, last)| gate::opens(&counters, last, at.elapsed()));
        Ok((opens || !is_complete || time_box.is_none()).then_some(counters))
    }

    /// Looks at the files of all databases; returns the rows the server sent. MariaDB lists only tablespaces it has opened since
    /// it started: after a restart every database is opened once, a few in each pass. `time_box`: none opens them all.
    pub(super) async fn screen(&mut self, sold: &[Sold], counters: Counters, time_box: Option<Duration>) -> Result<usize> {
        self.forget_others(sold);
        let at = Instant::now();
        self.open_databases(sold, time_box).await?;
        let screen = usage::screen(&self.mysql, &self.measurements.databases).await?;
        let memory = &mut self.measurements;
        memory.files = screen.bytes;
        memory.suspects.clear();
        memory.scan = Some((at, counters));
        Ok(screen.rows)
    }

    async fn open_databases(&mut self, sold: &[Sold], time_box: Option<Duration>) -> Result<()> {
        let needs_opening = self.mysql.info().await?.dialect == Dialect::MariaDb;
        let started = Instant::now();
        for Sold { database, .. } in sold {
            if self.measurements.opened.contains(database) {
                continue;
            }
            if needs_opening {
                if time_box.is_some_and(|time_box| started.elapsed() > time_box) {
                    break;
                }
                if let Err(error) = usage::open_tables(&self.mysql, database).await {
                    tracing::warn!(database, %error, "the tables of a database could not be opened yet");
                    continue;
                }
            }
            self.measurements.opened.insert(database.clone());
        }
        Ok(())
    }

    /// Looks for tables that InnoDB's view does not list under their database (other engines, shared tablespaces) and measures
    /// those known. `time_box`: none looks everywhere.
    pub(super) async fn audit(&mut self, definitions: Option<u64>, time_box: Option<Duration>) -> Result<()> {
        let is_mariadb = self.mysql.info().await?.dialect == Dialect::MariaDb;
        if let Some(definitions) = definitions
            && self.measurements.audit.queue.is_empty()
            && self.measurements.audit.at.is_none_or(|(at, known)| at.elapsed() >= if known == definitions { AUDIT_IDLE } else { AUDIT })
        {
            let found = usage::outside(&self.mysql).await?;
            let Memory { audit, databases, .. } = &mut self.measurements;
            audit.at = Some((Instant::now(), definitions));
            if is_mariadb {
                audit.queue.clone_from(databases);
            } else {
                audit.outside.retain(|database, _| found.contains(database));
            }
            for database in databases.iter().filter(|database| found.contains(*database)) {
                audit.outside.entry(database.clone()).or_default();
            }
        }
        let started = Instant::now();
        while time_box.is_none() || started.elapsed() < AUDIT_BOX {
            let Some(database) = self.measurements.audit.queue.pop() else { break };
            if usage::has_other_engines(&self.mysql, &database).await? {
                self.measurements.audit.outside.entry(database).or_default();
            }
        }
        for database in self.measurements.audit.due() {
            let sizes = usage::sizes(&self.mysql, &database).await?;
            let bytes = if sizes.is_bounded() {
                sizes.outside_bytes()
            } else {
                // the owner of a table in a shared tablespace can freeze its statistics
                usage::exact_sizes(&self.mysql, &database).await?.1.outside_bytes()
            };
            let Memory { audit, suspects, .. } = &mut self.measurements;
            if bytes > 0 {
                suspects.insert(database.clone());
                audit.outside.insert(database, Some((Instant::now(), bytes)));
            } else {
                audit.outside.remove(&database);
            }
        }
        Ok(())
    }

    /// What a suspect uses: the upper bound where that is under the quota, else exactly. Statistics are made
    /// again only when something has changed or they are old. Tables that a tenant locks count with their upper bound.
    pub(super) async fn used(&mut self, sold: &Sold, rules: Rules) -> Result<Used> {
        let sizes = usage::sizes(&self.mysql, &sold.database).await?;
        let live = sizes.live_bytes();
        let needed = if sold.is_over { sold.quota_bytes / 100 * u64::from(rules.restore_below) } else { sold.quota_bytes };
        if sizes.is_bounded() && live < needed {
            return Ok(Used { bytes: live, for_people: sizes.by_statistics().min(live) });
        }
        let signature = signature(&sizes);
        let now = Instant::now();
        let mut changed_at = now;
        if let Some(last) = self.measurements.analysed.get_mut(&sold.database) {
            if last.signature == signature {
                changed_at = last.changed_at;
            }
            let is_settled = changed_at.elapsed() >= SETTLING && last.at.elapsed() < FRESH;
            let is_too_soon = sold.is_over && last.at.elapsed() < last.took * SHARE;
            if is_settled || is_too_soon {
                last.changed_at = changed_at;
                last.signature = signature;
                return Ok(Used { bytes: last.used, for_people: last.used });
            }
        }
        let (used, after) = usage::exact_sizes(&self.mysql, &sold.database).await?;
        let analysed = Analysed { at: Instant::now(), took: now.elapsed(), changed_at, signature: self::signature(&after), used };
        self.measurements.analysed.insert(sold.database.clone(), analysed);
        Ok(Used { bytes: used, for_people: used })
    }

    /// What a database that is nearly full uses, in bytes, good enough to warn by.
    pub(super) async fn used_by_statistics(&self, sold: &Sold) -> Result<u64> {
        let sizes = usage::sizes(&self.mysql, &sold.database).await?;
        Ok(sizes.by_statistics().min(sizes.live_bytes()))
    }

    /// Forgets databases that are gone.
    fn forget_others(&mut self, sold: &[Sold]) {
        let known: HashSet<&str> = sold.iter().map(|sold| sold.database.as_str()).collect();
        let memory = &mut self.measurements;
        memory.databases = sold.iter().map(|sold| sold.database.clone()).collect();
        memory.opened.retain(|database| known.contains(database.as_str()));
        memory.analysed.retain(|database, _| known.contains(database.as_str()));
        memory.nearly_full.retain(|database, _| known.contains(database.as_str()));
        memory.details.retain(|database, _| known.contains(database.as_str()));
        memory.audit.outside.retain(|database, _| known.contains(database.as_str()));
    }
}

/// Changes whenever the figures of a database do, or one of its tables is written to.
fn signature(sizes: &DatabaseSizes) -> u64 {
    let mut files: Vec<_> = sizes.files.iter().collect();
    files.sort_unstable();
    let mut tables: Vec<_> = sizes.tables.iter().collect();
    tables.sort_unstable_by_key(|table| &table.name);
    let mut hasher = DefaultHasher::new();
    (files, tables).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_was_started_anew_or_another_node_is_noticed() {
        let mut memory = Memory::default();
        assert!(memory.is_another("a".into(), 100), "the first");
        assert!(!memory.is_another("a".into(), 100));
        assert!(memory.is_another("a".into(), 50), "started anew");
        assert!(memory.is_another("b".into(), 50), "another node");
    }

    #[test]
    fn a_write_changes_the_signature() {
        let table = crate::domain::quota::TableSize { name: "t".into(), updated: Some("1".into()), ..Default::default() };
        let before = DatabaseSizes { tables: vec![table.clone()], ..DatabaseSizes::default() };
        let mut after = before.clone();
        after.tables[0].updated = Some("2".into());
        assert_ne!(signature(&before), signature(&after));
        assert_eq!(signature(&before), signature(&before.clone()));
    }
}
