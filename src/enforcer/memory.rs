//! What earlier passes found: so that nothing is done twice while nothing changes.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use super::outside::Audit;
use crate::domain::gate::Counters;
use crate::domain::quota::{Sold, Usage, is_suspect};
use crate::domain::usage::{FileSizes, Looked, TableSize};

/// How long after a change statistics go on being made: deleted rows leave their pages later.
const SETTLING: Duration = Duration::from_secs(10);
/// How long what is known of an unchanged database is good for at least, and at most: its statistics may be frozen.
const FRESH: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(60));
/// In between, another look at it takes this part of the time: one in a hundred.
const SETTLED_SHARE: u32 = 100;
/// How long a database may be taken for calm: a page that was freed can be filled again without being created.
const CALM: Duration = Duration::from_secs(5);
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
    pub(super) files: HashMap<String, FileSizes>,
    /// Suspects as of the last scan.
    pub(super) suspects: HashSet<String>,
    pub(super) opened: HashSet<String>,
    /// The server's counters when this pass began.
    pub(super) counters: Counters,
    /// Suspects with all their tables in files of their own: when they were looked at, and the pages that had been created by then.
    calm: HashMap<String, (Instant, u64, Used)>,
    looks: HashMap<String, Look>,
    /// Databases that could not be measured: when, and how long that took to find out.
    failed: HashMap<String, (Instant, Duration)>,
    /// Databases that keep the size of a table from everybody, and since when.
    hidden: HashMap<String, Instant>,
    nearly_full: HashMap<String, (Instant, u64)>,
    details: HashMap<String, (Instant, bool)>,
    /// Nodes that told no watermark in this pass.
    pub(super) silent_nodes: BTreeSet<String>,
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

impl Used {
    /// The same, for the second time: the table that was hidden then is so still.
    fn hidden(self, hidden_for: Duration) -> Self {
        Self { usage: Usage { hidden_for, ..self.usage }, is_unfinished: false, ..self }
    }
}

/// A look at a database.
pub(super) struct Look {
    pub(super) at: Instant,
    pub(super) took: Duration,
    /// What the tables looked like by then.
    pub(super) signature: u64,
    /// Since when they do.
    pub(super) changed_at: Instant,
    pub(super) used: Used,
    /// Whether writes to a table of this database cannot be seen from outside, or one is hidden, or there was no time for all.
    pub(super) is_doubtful: bool,
    /// Where there was no time for all: what was looked at, and [`writes`] before.
    pub(super) rest: Option<(Looked, u64)>,
}

impl Look {
    /// Whether nothing has changed for so long that what it found is still right.
    fn is_settled(&self) -> bool {
        let fresh = (self.took * SETTLED_SHARE).clamp(FRESH.0, FRESH.1);
        !self.is_doubtful && self.changed_at.elapsed() >= SETTLING && self.at.elapsed() < fresh
    }

    /// Whether another one would cost too much.
    fn is_too_soon(&self, is_over: bool) -> bool {
        (is_over || self.is_doubtful) && self.at.elapsed() < (self.took * SHARE).min(LEFT_ALONE)
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
        self.looks.remove(database);
        self.calm.remove(database);
    }

    /// The file size of a database, with what InnoDB's view does not list, as far as it is known. Bytes.
    pub(super) fn size(&self, database: &str) -> u64 {
        self.file_bytes(database).saturating_add(self.audit.bytes(database))
    }

    /// The file size of a database as of the last scan, with the copies that were being made. Bytes.
    pub(super) fn file_bytes(&self, database: &str) -> u64 {
        self.files(database).all
    }

    /// Its files as of the last scan.
    pub(super) fn files(&self, database: &str) -> FileSizes {
        self.files.get(database).copied().unwrap_or_default()
    }

    /// Whether a database is to be looked at exactly, as far as is known.
    pub(super) fn is_suspect(&self, sold: &Sold) -> bool {
        is_suspect(self.size(&sold.database), sold) || self.is_hidden(&sold.database)
    }

    /// Whether a database keeps the size of a table from everybody.
    fn is_hidden(&self, database: &str) -> bool {
        self.hidden.contains_key(database)
    }

    /// For how long it has been doing so; zero where it does not.
    pub(super) fn hidden_for(&self, database: &str) -> Duration {
        self.hidden.get(database).map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Notes whether it does. A look that `is_unfinished` has not reached them all, and proves of no database that it does not.
    pub(super) fn set_hidden(&mut self, database: &str, is_hidden: bool, is_unfinished: bool) {
        if is_hidden {
            self.hidden.entry(database.to_owned()).or_insert_with(Instant::now);
        } else if !is_unfinished {
            self.hidden.remove(database);
        }
    }

    /// Forgets what is right of one server, and since it was started, only.
    pub(super) fn forget_server(&mut self) {
        self.opened.clear();
        self.calm.clear();
        self.scan = None;
    }

    /// Nobody was looked at by this leader for a while: what was hidden then may have been seen since.
    pub(super) fn forget_hidden(&mut self) {
        self.hidden.clear();
    }

    /// What a suspect was found to use, if it is certainly under its quota still, were every page that is new on the server its own.
    pub(super) fn calm(&self, sold: &Sold) -> Option<Used> {
        let (at, pages_created, mut used) = self.calm.get(&sold.database).copied()?;
        used.usage.at_most = used.usage.at_most.saturating_add(self.counters.new_bytes(pages_created));
        (!sold.is_over && at.elapsed() < CALM && used.usage.is_under(sold.quota_bytes)).then_some(used)
    }

    /// Notes it.
    pub(super) fn set_calm(&mut self, database: &str, used: Used) {
        self.calm.insert(database.to_owned(), (Instant::now(), self.counters.pages_created, used));
    }

    /// What the last look found, if its tables (`tables` as of now) and its files (as of the last scan) have not changed since and it is good
    /// still; and since when they are as they are. `enough_under`: an upper bound below it, in bytes, is as good as the exact figure.
    pub(super) fn last_look(&mut self, sold: &Sold, tables: &[TableSize], enough_under: u64) -> (Option<Used>, Instant) {
        let now = self.signature(&sold.database, tables);
        let hidden_for = self.hidden_for(&sold.database);
        let Some(last) = self.looks.get_mut(&sold.database) else { return (None, Instant::now()) };
        let is_same = last.signature == now;
        if !is_same {
            (last.signature, last.changed_at) = (now, Instant::now());
        }
        let Usage { at_least, at_most, .. } = last.used.usage;
        let is_settled = last.is_settled() && (at_least == at_most || at_most < enough_under);
        let is_good = is_same && (is_settled || last.is_too_soon(sold.is_over));
        (is_good.then(|| last.used.hidden(hidden_for)), last.changed_at)
    }

    /// What the last look found, if another one would cost too much, whatever has changed but its files.
    pub(super) fn recent_look(&self, sold: &Sold) -> Option<Used> {
        let last = self.looks.get(&sold.database).filter(|last| last.is_too_soon(sold.is_over))?;
        Some(last.used.hidden(self.hidden_for(&sold.database)))
    }

    /// What the last look had no time for the rest of.
    pub(super) fn looked_at(&mut self, database: &str) -> Option<(Looked, u64)> {
        self.looks.get_mut(database).and_then(|last| last.rest.take())
    }

    /// Notes a look.
    pub(super) fn set_look(&mut self, database: &str, look: Look) {
        self.looks.insert(database.to_owned(), look);
    }

    /// Changes whenever the figures of a database's tables do, or one of them is written to, or its files were found to have grown.
    pub(super) fn signature(&self, database: &str, tables: &[TableSize]) -> u64 {
        let mut tables: Vec<_> = tables.iter().collect();
        tables.sort_unstable_by_key(|table| &table.name);
        let mut hasher = DefaultHasher::new();
        (self.file_bytes(database), tables).hash(&mut hasher);
        hasher.finish()
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

    /// Forgets databases that are gone.
    pub(super) fn forget_others(&mut self, sold: &[Sold]) {
        let known: HashSet<&str> = sold.iter().map(|sold| sold.database.as_str()).collect();
        self.databases = sold.iter().map(|sold| sold.database.clone()).collect();
        self.calm.retain(|database, _| known.contains(database.as_str()));
        self.opened.retain(|database| known.contains(database.as_str()));
        self.looks.retain(|database, _| known.contains(database.as_str()));
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

/// Changes whenever a table is written to, made or dropped.
pub(super) fn writes(tables: &[TableSize]) -> u64 {
    let mut tables: Vec<_> = tables.iter().map(|table| (&table.name, &table.updated)).collect();
    tables.sort_unstable();
    let mut hasher = DefaultHasher::new();
    tables.hash(&mut hasher);
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
    fn a_look_that_is_not_finished_proves_nothing() {
        let mut memory = Memory::default();
        memory.set_hidden("d", true, false);
        memory.set_hidden("d", false, true);
        assert!(memory.is_hidden("d"));
        memory.set_hidden("d", false, false);
        assert!(!memory.is_hidden("d"));
    }

    fn table(updated: &str) -> TableSize {
        TableSize { name: "t".into(), updated: Some(updated.into()), ..TableSize::default() }
    }

    #[test]
    fn a_write_or_a_larger_file_changes_the_signature() {
        let mut memory = Memory::default();
        let before = memory.signature("d", &[table("1")]);
        assert_eq!(before, memory.signature("d", &[table("1")]));
        assert_ne!(before, memory.signature("d", &[table("2")]));
        memory.files.insert("d".into(), FileSizes { all: 1, full_text: 0 });
        assert_ne!(before, memory.signature("d", &[table("1")]));
    }

    #[test]
    fn what_is_known_of_tables_that_have_not_changed_is_good_until_it_is_old() {
        let mut memory = Memory::default();
        let sold = Sold { database: "d".into(), quota_bytes: 10, is_over: true, ..Sold::default() };
        let usage = Usage { at_least: 12, at_most: 12, ..Usage::unknown(20) };
        let used = Used { usage, for_people: None, is_unfinished: false };
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        let mut found = |at, changed_at, took, is_doubtful, tables: &[TableSize]| {
            let signature = memory.signature("d", &[table("1")]);
            memory.set_look("d", Look { at, took, signature, changed_at, used, is_doubtful, rest: None });
            memory.last_look(&sold, tables, 10).0
        };
        let brief = Duration::from_millis(100);
        assert_eq!(found(ago(20), ago(20), brief, false, &[table("1")]), Some(used), "settled");
        assert_eq!(found(ago(20), ago(20), brief, false, &[table("2")]), None, "written to");
        assert_eq!(found(ago(5), ago(5), brief, false, &[table("1")]), None, "rows may still leave their pages");
        assert_eq!(found(ago(31), ago(60), brief, false, &[table("1")]), None, "old");
        assert_eq!(found(ago(31), ago(60), Duration::from_millis(500), false, &[table("1")]), Some(used), "looking costs more");
        assert_eq!(found(ago(20), ago(20), brief, true, &[table("1")]), None, "a write would not be seen");
        assert_eq!(found(ago(20), ago(20), Duration::from_secs(3), true, &[table("1")]), Some(used), "looking costs too much");
    }
}
