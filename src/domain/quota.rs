//! Who is over quota: pure decisions over facts.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::binding::Account;
use super::tablespace;

/// A database whose quota is enforced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sold {
    /// The database's name.
    pub database: String,
    /// Its quota in bytes.
    pub quota_bytes: u64,
    /// Whether its write privileges are taken at present.
    pub is_over: bool,
    /// For how long; zero where they are not.
    pub over_for: Duration,
    /// The highest threshold that was reported and not left since, in per cent; 0 for none.
    pub warned_at: u8,
}

/// What an operator may change about giving back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// How long a database that crossed its quota stays without writes at least.
    pub minimum_dwell: Duration,
    /// Writes come back under this part of the quota, in per cent: 100 for "as soon as it is under".
    pub restore_below: u8,
}

impl Default for Rules {
    fn default() -> Self {
        Self { minimum_dwell: Duration::ZERO, restore_below: 100 }
    }
}

/// What to do with a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Ok,
    /// Crossed its quota: take the write privileges.
    Violator,
    /// Still over, or not yet to be given back: see that nobody writes.
    StillOver,
    /// Back under its quota: give back what was taken.
    Reformer,
}

/// Judges a database by its exact size. A database is over as soon as its quota is used up; there is no rounding.
pub fn judge(used_bytes: u64, sold: &Sold, rules: Rules) -> Verdict {
    let is_under = used_bytes < sold.quota_bytes;
    let may_have_back = is_under
        && sold.over_for >= rules.minimum_dwell
        && u128::from(used_bytes) * 100 < u128::from(sold.quota_bytes) * u128::from(rules.restore_below);
    match (sold.is_over, is_under) {
        (false, true) => Verdict::Ok,
        (false, false) => Verdict::Violator,
        (true, _) if may_have_back => Verdict::Reformer,
        (true, _) => Verdict::StillOver,
    }
}

/// Whether a database has to be looked at exactly. The size of its files is never less than what it uses, so a database
/// whose files are under the quota needs no look, unless its privileges are taken and could be given back.
pub fn is_suspect(file_bytes: u64, sold: &Sold) -> bool {
    sold.is_over || file_bytes >= sold.quota_bytes
}

/// Whether a database may have to be warned about, or not any more.
pub fn is_nearly_full(file_bytes: u64, sold: &Sold, warn_at: &[u8]) -> bool {
    sold.warned_at > 0 || warn_at.iter().any(|per_cent| reaches(file_bytes, sold.quota_bytes, *per_cent))
}

fn reaches(used_bytes: u64, quota_bytes: u64, per_cent: u8) -> bool {
    u128::from(used_bytes) * 100 >= u128::from(quota_bytes) * u128::from(per_cent)
}

/// What became of the warnings about a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warning {
    /// Nothing new.
    Same,
    /// Crossed this threshold: tell people, once.
    Crossed(u8),
    /// Fell under its threshold; this one (or none, 0) is still reached. Nobody is told.
    Left(u8),
}

/// How far usage must fall under a threshold before crossing it again is news, in per cent of the quota.
const SETTLED: u8 = 2;

/// Decides whether to warn. `warn_at` in per cent of the quota, in any order.
pub fn warning(used_bytes: u64, sold: &Sold, warn_at: &[u8]) -> Warning {
    let level = warn_at.iter().copied().filter(|per_cent| reaches(used_bytes, sold.quota_bytes, *per_cent)).max().unwrap_or(0);
    if level > sold.warned_at {
        Warning::Crossed(level)
    } else if level < sold.warned_at && !reaches(used_bytes, sold.quota_bytes, sold.warned_at.saturating_sub(SETTLED)) {
        Warning::Left(level)
    } else {
        Warning::Same
    }
}

/// Adds up tablespace files by database, spelled as the server spells it: `(tablespace name, bytes)` as InnoDB's view shows
/// them. The copies a running ALTER makes count too: whoever looks like too much is only looked at more closely.
pub fn file_sizes<'a>(tablespaces: impl IntoIterator<Item = (&'a str, u64)>) -> HashMap<&'a str, u64> {
    let mut sizes = HashMap::new();
    for (name, bytes) in tablespaces {
        if let Some((database, _)) = tablespace::parts(name) {
            *sizes.entry(database).or_insert(0_u64) += bytes;
        }
    }
    sizes
}

/// What the server says of one table. Bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct TableSize {
    /// The table's name.
    pub name: String,
    /// `InnoDB`, or another engine, whose files InnoDB's view does not show; none where a lock hides it.
    pub engine: Option<String>,
    /// `DATA_LENGTH + INDEX_LENGTH`, as the statistics have it.
    pub data_bytes: u64,
    /// Free space inside its tablespace.
    pub free_bytes: u64,
    /// When it was last written to, as the server spells it; none where it does not know.
    pub updated: Option<String>,
}

impl TableSize {
    fn is_innodb(&self) -> bool {
        self.engine.as_deref() == Some("InnoDB")
    }
}

/// What the server says of one database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DatabaseSizes {
    /// Its tables.
    pub tables: Vec<TableSize>,
    /// Bytes of its files by table, partitions added up.
    pub files: HashMap<String, u64>,
}

impl DatabaseSizes {
    /// An upper bound of what a database uses: the files of its tables without their free space, and, for a table without
    /// a file of its own, what the statistics say. The free space of a shared tablespace is nobody's.
    pub fn live_bytes(&self) -> u64 {
        let tables = self.tables.iter().map(|table| self.live_of(table));
        // files without a table of that name (full-text indexes, tables that are being made, copies of an ALTER) count in full
        tables.chain(self.of_no_table().map(|(_, bytes)| bytes)).fold(0, u64::saturating_add)
    }

    /// Whether [`DatabaseSizes::live_bytes`] cannot be too small: every table is in a file of its own, or in an engine whose
    /// figures are always right. A table in a shared tablespace is only known by its statistics, which its owner can freeze.
    pub fn is_bounded(&self) -> bool {
        self.tables.iter().all(|table| self.files.contains_key(&table.name) || (table.engine.is_some() && !table.is_innodb()))
    }

    /// What the database uses exactly: the statistics of tables whose statistics were made anew, the upper bound of the
    /// others, and the files of full-text indexes and of tables that are being made.
    pub fn exact_bytes(&self, not_analysed: &HashSet<String>) -> u64 {
        let tables = self
            .tables
            .iter()
            .map(|table| if table.engine.is_none() || not_analysed.contains(&table.name) { self.live_of(table) } else { table.data_bytes });
        // `?`: MySQL's view shows letters outside the basic plane so; that table is counted by its statistics
        let others = self.of_no_table().filter(|(name, _)| !tablespace::is_copy(name) && !name.contains('?'));
        tables.chain(others.map(|(_, bytes)| bytes)).fold(0, u64::saturating_add)
    }

    /// What the statistics say, without making them anew: good enough to warn by.
    pub fn by_statistics(&self) -> u64 {
        self.exact_bytes(&HashSet::new())
    }

    /// Bytes of tables that InnoDB's view does not list under this database: other engines, shared tablespaces.
    pub fn outside_bytes(&self) -> u64 {
        self.tables.iter().filter(|table| !self.files.contains_key(&table.name)).map(|table| table.data_bytes).fold(0, u64::saturating_add)
    }

    fn live_of(&self, table: &TableSize) -> u64 {
        self.files.get(&table.name).map_or(table.data_bytes, |file| file.saturating_sub(table.free_bytes))
    }

    fn of_no_table(&self) -> impl Iterator<Item = (&str, u64)> {
        let known: HashSet<&str> = self.tables.iter().map(|table| table.name.as_str()).collect();
        self.files.iter().filter(move |(name, _)| !known.contains(name.as_str())).map(|(name, bytes)| (name.as_str(), *bytes))
    }
}

/// The smallest file whose table is worth rebuilding. Bytes.
const WORTH: u64 = 1 << 20;

/// Tables that a rebuild can make smaller, with the bytes of their files: the one with the most free space first, then the
/// largest. How full the pages of a table are no figure of the server says, so every file that is not small is worth it.
pub fn worth_rebuilding(sizes: &DatabaseSizes) -> Vec<(String, u64)> {
    let mut found: Vec<(u64, u64, &str)> = sizes
        .tables
        .iter()
        .filter_map(|table| Some((table.free_bytes, *sizes.files.get(&table.name)?, table.name.as_str())))
        .filter(|(_, file, _)| *file >= WORTH)
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, file, name)| (name.to_owned(), file)).collect()
}

/// The accounts whose rights on a database are the quota's business.
pub fn concerned(accounts: impl IntoIterator<Item = Account>, ignored_users: &[String]) -> Vec<Account> {
    accounts.into_iter().filter(|account| !ignored_users.contains(&account.user)).collect()
}

/// How full a database is, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QuotaState {
    /// Under every threshold.
    Ok,
    /// Over the lowest warning threshold.
    Warned,
    /// Over the quota: writing is taken.
    Over,
}

impl QuotaState {
    /// The state of a database that uses `used_bytes`; `warn_at` in per cent of the quota.
    pub fn of(used_bytes: u64, sold: &Sold, warn_at: &[u8]) -> Self {
        let warned = warn_at.iter().any(|per_cent| reaches(used_bytes, sold.quota_bytes, *per_cent));
        match (sold.is_over, warned) {
            (true, _) => Self::Over,
            (false, true) => Self::Warned,
            (false, false) => Self::Ok,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::MB;

    fn sold(quota_bytes: u64, is_over: bool) -> Sold {
        Sold { database: "cf_x".into(), quota_bytes, is_over, ..Sold::default() }
    }

    fn judged(used: u64, sold: &Sold) -> Verdict {
        judge(used, sold, Rules::default())
    }

    #[test]
    fn verdicts() {
        assert_eq!(judged(5 * MB - 1, &sold(5 * MB, false)), Verdict::Ok);
        assert_eq!(judged(5 * MB, &sold(5 * MB, false)), Verdict::Violator);
        assert_eq!(judged(5 * MB, &sold(5 * MB, true)), Verdict::StillOver);
        assert_eq!(judged(5 * MB - 1, &sold(5 * MB, true)), Verdict::Reformer);
    }

    #[test]
    fn an_operator_may_want_a_distance_or_a_time() {
        let rules = Rules { minimum_dwell: Duration::from_secs(60), restore_below: 90 };
        let over = |seconds| Sold { over_for: Duration::from_secs(seconds), ..sold(100, true) };
        assert_eq!(judge(89, &over(60), rules), Verdict::Reformer);
        assert_eq!(judge(90, &over(60), rules), Verdict::StillOver);
        assert_eq!(judge(1, &over(59), rules), Verdict::StillOver);
        assert_eq!(judge(95, &sold(100, false), rules), Verdict::Ok, "neither takes anything from anybody under the quota");
    }

    proptest::proptest! {
        #[test]
        fn nobody_under_quota_is_revoked_and_who_is_over_never_writes(used: u64, quota in 1_u64.., is_over: bool) {
            let verdict = judged(used, &sold(quota, is_over));
            let may_write_after = matches!(verdict, Verdict::Ok | Verdict::Reformer);
            proptest::prop_assert_eq!(may_write_after, used < quota);
        }

        #[test]
        fn no_rule_takes_from_who_is_under_or_gives_to_who_is_over(
            used: u64, quota in 1_u64.., is_over: bool, over_for: u32, dwell: u32, restore_below in 1_u8..=100
        ) {
            let sold = Sold { over_for: Duration::from_secs(over_for.into()), ..sold(quota, is_over) };
            let rules = Rules { minimum_dwell: Duration::from_secs(dwell.into()), restore_below };
            match judge(used, &sold, rules) {
                Verdict::Violator => proptest::prop_assert!(used >= quota && !is_over),
                Verdict::Reformer => proptest::prop_assert!(used < quota && is_over),
                Verdict::Ok => proptest::prop_assert!(used < quota && !is_over),
                Verdict::StillOver => proptest::prop_assert!(is_over),
            }
        }

        #[test]
        fn the_screen_misses_nobody(used: u64, slack: u64, quota in 1_u64.., is_over: bool) {
            let sold = sold(quota, is_over);
            let file = used.saturating_add(slack);
            if judged(used, &sold) != Verdict::Ok {
                proptest::prop_assert!(is_suspect(file, &sold));
            }
            if warning(used, &sold, &[80, 90]) != Warning::Same {
                proptest::prop_assert!(is_nearly_full(file, &sold, &[80, 90]));
            }
        }

        #[test]
        fn a_threshold_is_news_once_however_usage_goes(used in proptest::collection::vec(0_u64..120, 1..40)) {
            let mut sold = sold(100, false);
            let mut told = 0;
            let mut highest = 0;
            for used in used {
                match warning(used, &sold, &[80, 90]) {
                    Warning::Crossed(level) => {
                        proptest::prop_assert!(level > sold.warned_at && used >= level.into());
                        sold.warned_at = level;
                        told += 1;
                    }
                    Warning::Left(level) => {
                        proptest::prop_assert!(level < sold.warned_at && used < sold.warned_at.into());
                        sold.warned_at = level;
                    }
                    Warning::Same => {}
                }
                proptest::prop_assert_eq!(warning(used, &sold, &[80, 90]), Warning::Same, "the same figure is no news");
                highest = highest.max(used);
            }
            proptest::prop_assert_eq!(told > 0, highest >= 80);
        }
    }

    #[test]
    fn a_flutter_at_a_threshold_is_no_news() {
        let mut sold = sold(100, false);
        assert_eq!(warning(80, &sold, &[90, 80]), Warning::Crossed(80));
        sold.warned_at = 80;
        assert_eq!(warning(79, &sold, &[90, 80]), Warning::Same);
        assert_eq!(warning(77, &sold, &[90, 80]), Warning::Left(0));
        assert_eq!(warning(95, &sold, &[90, 80]), Warning::Crossed(90));
    }

    #[test]
    fn files_are_added_up_by_database() {
        let sizes = file_sizes([("cf_x/a", 10), ("cf_x/b#P#p0", 5), ("cf_x/#sql-alter-1", 100), ("innodb_system", 7), ("a@002db/t", 1)]);
        assert_eq!(sizes, HashMap::from([("cf_x", 115), ("a@002db", 1)]));
    }

    fn table(name: &str, data_bytes: u64, free_bytes: u64) -> TableSize {
        TableSize { name: name.into(), engine: Some("InnoDB".into()), data_bytes, free_bytes, updated: None }
    }

    fn sizes(tables: &[TableSize], files: &[(&str, u64)]) -> DatabaseSizes {
        DatabaseSizes { tables: tables.to_vec(), files: files.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect() }
    }

    #[test]
    fn live_never_subtracts_the_free_space_of_a_shared_tablespace() {
        let sizes = sizes(&[table("own", 40, 60), table("shared", 25, 9000)], &[("own", 100), ("FTS_1", 30)]);
        assert_eq!(sizes.live_bytes(), 40 + 25 + 30);
        assert_eq!(sizes.outside_bytes(), 25);
        assert!(!sizes.is_bounded(), "whoever owns the shared one can freeze its statistics");
    }

    #[test]
    fn engines_that_are_always_right_are_a_bound() {
        let other = TableSize { engine: Some("MyISAM".into()), ..table("m", 7, 1) };
        let sizes = sizes(&[table("own", 40, 60), other], &[("own", 100)]);
        assert!(sizes.is_bounded());
        assert_eq!((sizes.live_bytes(), sizes.outside_bytes()), (47, 7));
    }

    #[test]
    fn what_is_small_or_shared_is_not_worth_a_rebuild() {
        let tables = [table("small", 1, 0), table("full", 9 * MB, 0), table("holes", MB, 3 * MB), table("shared", 9 * MB, 9 * MB)];
        let sizes = sizes(&tables, &[("small", 65536), ("full", 9 * MB), ("holes", 4 * MB), ("FTS_1", 9 * MB)]);
        assert_eq!(worth_rebuilding(&sizes), [("holes".to_owned(), 4 * MB), ("full".to_owned(), 9 * MB)]);
    }

    #[test]
    fn a_lock_makes_nothing_smaller() {
        let hidden = TableSize { engine: None, data_bytes: 0, ..table("made", 0, 0) };
        let sizes = sizes(&[table("frozen", 1, 10), hidden], &[("frozen", 100), ("made", 50), ("FTS_1", 30), ("#sql-copy", 99)]);
        assert_eq!(sizes.exact_bytes(&HashSet::new()), 1 + 50 + 30);
        assert_eq!(sizes.exact_bytes(&HashSet::from(["frozen".to_owned()])), 90 + 50 + 30);
    }

    #[test]
    fn a_tenants_table_with_the_name_of_a_copy_counts() {
        let sizes = sizes(&[table("#sql-mine", 70, 0)], &[("#sql-mine", 100)]);
        assert_eq!((sizes.exact_bytes(&HashSet::new()), sizes.live_bytes()), (70, 100));
    }

    #[test]
    fn people_read_three_states() {
        let warn = [80, 90];
        assert_eq!(QuotaState::of(79, &sold(100, false), &warn), QuotaState::Ok);
        assert_eq!(QuotaState::of(80, &sold(100, false), &warn), QuotaState::Warned);
        assert_eq!(QuotaState::of(10, &sold(100, true), &warn), QuotaState::Over);
        assert_eq!(QuotaState::of(100, &sold(100, false), &[]), QuotaState::Ok);
    }
}
