//! What earlier passes found: so that nothing is done twice while nothing changes.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use super::outside::Audit;
use crate::domain::gate::Counters;
use crate::domain::quota::{Sold, Usage};
use crate::domain::usage::{DatabaseSizes, Exact, Looked};

/// How long after a change statistics go on being made: deleted rows leave their pages later.
const SETTLING: Duration = Duration::from_secs(10);
/// How long statistics of an unchanged database are good for.
const FRESH: Duration = Duration::from_secs(30);
/// What costs more than a moment takes at most this part of the time: one in ten.
pub(super) const SHARE: u32 = 10;
/// How long a database that could not be measured is left alone at most.
const LEFT_ALONE: Duration = Duration::from_secs(30);
/// How often rights on single objects of a database over its quota are looked at.
const DETAILS: Duration = Duration::from_secs(10);
/// How often a database that is nearly full is measured, while it grows and while it does not.
const NEARLY_FULL: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// What earlier passes found.
#[derive(Default)]
pub(super) struct Memory {
    server: Option<Server>,
    pub(super) scan: Option<Scan>,
    /// Every database with a quota, as of the last scan.
    pub(super) databases: Vec<String>,
    /// File sizes as of the last scan.
    pub(super) files: HashMap<String, u64>,
    /// Suspects as of the last scan.
    pub(super) suspects: HashSet<String>,
    pub(super) opened: HashSet<String>,
    /// The server's counters when this pass began.
    pub(super) counters: Counters,
    /// Suspects that turned out to be under their quota, with all their tables in files of their own, and the pages that had been created.
    calm: HashMap<String, (u64, Used)>,
    analysed: HashMap<String, Analysed>,
    /// Databases that could not be measured: when, and how long that took to find out.
    failed: HashMap<String, (Instant, Duration)>,
    /// Databases that keep the size of a table from everybody, and since when.
    hidden: HashMap<String, Instant>,
    nearly_full: HashMap<String, (Instant, u64)>,
    details: HashMap<String, (Instant, bool)>,
    pub(super) audit: Audit,
}

/// The last look at everybody.
pub(super) struct Scan {
    pub(super) at: Instant,
    pub(super) took: Duration,
    /// What the counters said before it.
    pub(super) counters: Counters,
}

/// Which server, and when it started, by our clock.
struct Server {
    address: String,
    started: Option<Instant>,
}

/// What a suspect uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Used {
    /// To judge by.
    pub(super) usage: Usage,
    /// To tell people, in bytes: no upper bound, which is several MB too high after a table has grown. None where it is not known.
    pub(super) for_people: Option<u64>,
    /// Whether there was no time to look at every table.
    pub(super) is_unfinished: bool,
}

/// An exact look at a database.
pub(super) struct Analysed {
    pub(super) at: Instant,
    pub(super) took: Duration,
    pub(super) changed_at: Instant,
    pub(super) signature: u64,
    pub(super) exact: Exact,
    /// What was looked at, where there was no time for all.
    pub(super) rest: Option<Looked>,
}

impl Analysed {
    /// Whether what it found is still good enough: nothing has changed for a while, or another look would cost too much. `must_be_read`:
    /// writes to a table of this database cannot be seen from outside.
    fn is_good(&self, is_over: bool, must_be_read: bool) -> bool {
        let is_doubtful = self.rest.is_some() || self.exact.is_hidden || must_be_read;
        let is_settled = !is_doubtful && self.changed_at.elapsed() >= SETTLING && self.at.elapsed() < FRESH;
        let is_too_soon = (is_over || is_doubtful) && self.at.elapsed() < self.took * SHARE;
        is_settled || is_too_soon
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
        self.calm.remove(database);
    }

    /// The file size of a database, with what InnoDB's view does not list, as far as it is known. Bytes.
    pub(super) fn size(&self, database: &str) -> u64 {
        self.file_bytes(database).saturating_add(self.audit.bytes(database))
    }

    /// The file size of a database as of the last scan, with the copies that were being made. Bytes.
    pub(super) fn file_bytes(&self, database: &str) -> u64 {
        self.files.get(database).copied().unwrap_or(0)
    }

    /// Whether a database keeps the size of a table from everybody.
    pub(super) fn is_hidden(&self, database: &str) -> bool {
        self.hidden.contains_key(database)
    }

    /// For how long it has been doing so; zero where it does not.
    pub(super) fn hidden_for(&self, database: &str) -> Duration {
        self.hidden.get(database).map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Notes whether it does.
    pub(super) fn set_hidden(&mut self, database: &str, is_hidden: bool) {
        if is_hidden {
            self.hidden.entry(database.to_owned()).or_insert_with(Instant::now);
        } else {
            self.hidden.remove(database);
        }
    }

    /// What a suspect was found to use, if it is certainly under its quota still, were every page that is new on the server its own.
    pub(super) fn calm(&self, sold: &Sold) -> Option<Used> {
        let (pages_created, mut used) = self.calm.get(&sold.database).copied()?;
        used.usage.at_most = used.usage.at_most.saturating_add(self.counters.new_bytes(pages_created));
        (!sold.is_over && used.usage.is_under(sold.quota_bytes)).then_some(used)
    }

    /// Notes it.
    pub(super) fn set_calm(&mut self, database: &str, used: Used) {
        self.calm.insert(database.to_owned(), (self.counters.pages_created, used));
    }

    /// What the last exact look found, if that is still good, and since when nothing has changed.
    pub(super) fn last_look(&mut self, sold: &Sold, sizes: &DatabaseSizes) -> (Option<Exact>, Instant) {
        let signature = signature(sizes);
        let must_be_read = sizes.tables.iter().any(crate::domain::usage::TableSize::must_be_read);
        let Some(last) = self.analysed.get_mut(&sold.database) else { return (None, Instant::now()) };
        if last.signature != signature {
            (last.signature, last.changed_at) = (signature, Instant::now());
        }
        (last.is_good(sold.is_over, must_be_read).then_some(last.exact), last.changed_at)
    }

    /// What the last exact look had no time for the rest of.
    pub(super) fn looked_at(&mut self, database: &str) -> Looked {
        self.analysed.get_mut(database).and_then(|last| last.rest.take()).unwrap_or_default()
    }

    /// Notes an exact look.
    pub(super) fn set_analysed(&mut self, database: &str, analysed: Analysed) {
        self.analysed.insert(database.to_owned(), analysed);
    }

    /// Notes that a database could not be measured, and how long that took to find out; or that it could.
    pub(super) fn set_failed(&mut self, database: &str, took: Option<Duration>) {
        match took {
            Some(took) => self.failed.insert(database.to_owned(), (Instant::now(), took)),
            None => self.failed.remove(database),
        };
    }

    /// Whether a database that could not be measured is left alone for a while: others wait behind it.
    pub(super) fn is_left_alone(&self, database: &str) -> bool {
        self.failed.get(database).is_some_and(|(at, took)| at.elapsed() < (*took * SHARE).min(LEFT_ALONE))
    }

    /// Forgets databases that are gone, and who was calm.
    pub(super) fn forget_others(&mut self, sold: &[Sold]) {
        let known: HashSet<&str> = sold.iter().map(|sold| sold.database.as_str()).collect();
        self.databases = sold.iter().map(|sold| sold.database.clone()).collect();
        self.calm.clear();
        self.opened.retain(|database| known.contains(database.as_str()));
        self.analysed.retain(|database, _| known.contains(database.as_str()));
        self.failed.retain(|database, _| known.contains(database.as_str()));
        self.hidden.retain(|database, _| known.contains(database.as_str()));
        self.nearly_full.retain(|database, _| known.contains(database.as_str()));
        self.details.retain(|database, _| known.contains(database.as_str()));
        self.audit.retain(|database| known.contains(database));
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
    pub(super) fn is_another(&mut self, address: String, uptime: u64) -> bool {
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

/// Changes whenever the figures of a database do, or one of its tables is written to.
pub(super) fn signature(sizes: &DatabaseSizes) -> u64 {
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
        let table = crate::domain::usage::TableSize { name: "t".into(), updated: Some("1".into()), ..Default::default() };
        let before = DatabaseSizes { tables: vec![table.clone()], ..DatabaseSizes::default() };
        let mut after = before.clone();
        after.tables[0].updated = Some("2".into());
        assert_ne!(signature(&before), signature(&after));
        assert_eq!(signature(&before), signature(&before.clone()));
    }
}
