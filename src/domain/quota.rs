//! Who is over quota: pure decisions over facts.

use super::binding::Account;
use super::tablespace;
use std::collections::HashMap;

/// A database whose quota is enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sold {
    /// The database's name.
    pub database: String,
    /// Its quota in bytes.
    pub quota_bytes: u64,
    /// Whether its write privileges are taken at present.
    pub is_over: bool,
}

/// What to do with a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Ok,
    /// Crossed its quota: take the write privileges.
    Violator,
    /// Still over: see that nobody writes.
    StillOver,
    /// Back under its quota: give back what was taken.
    Reformer,
}

/// Judges a database by its exact size. A database is over as soon as its quota is used up; there is no rounding.
pub fn judge(used_bytes: u64, sold: &Sold) -> Verdict {
    match (used_bytes >= sold.quota_bytes, sold.is_over) {
        (false, false) => Verdict::Ok,
        (true, false) => Verdict::Violator,
        (true, true) => Verdict::StillOver,
        (false, true) => Verdict::Reformer,
    }
}

/// Whether a database has to be looked at exactly. The size of its files is never less than what it uses, so a database
/// whose files are under the quota needs no look, unless its privileges are taken and could be given back.
pub fn is_suspect(file_bytes: u64, sold: &Sold) -> bool {
    sold.is_over || file_bytes >= sold.quota_bytes
}

/// Adds up tablespace files by database: `(tablespace name, bytes)` as InnoDB's view shows them. Copies that a running
/// ALTER makes do not count.
pub fn file_sizes<'a>(tablespaces: impl IntoIterator<Item = (&'a str, u64)>) -> HashMap<String, u64> {
    let mut sizes = HashMap::new();
    for (name, bytes) in tablespaces {
        if !tablespace::is_temporary(name)
            && let Some(database) = tablespace::database_of(name)
        {
            *sizes.entry(database).or_insert(0_u64) += bytes;
        }
    }
    sizes
}

/// What the server says of one table. Bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSize {
    /// The table's name.
    pub name: String,
    /// `DATA_LENGTH + INDEX_LENGTH`, as the statistics have it.
    pub data_bytes: u64,
    /// Free space inside its tablespace.
    pub free_bytes: u64,
}

/// An upper bound of what a database uses: the files of its tables without their free space, and, for a table without
/// a file of its own, what the statistics say. The free space of a shared tablespace is nobody's.
pub fn live_bytes(tables: &[TableSize], files: &HashMap<String, u64>) -> u64 {
    let mut of_no_table: u64 = files.values().sum();
    let mut live = 0_u64;
    for table in tables {
        match files.get(&table.name) {
            Some(file) => {
                of_no_table = of_no_table.saturating_sub(*file);
                live = live.saturating_add(file.saturating_sub(table.free_bytes));
            }
            None => live = live.saturating_add(table.data_bytes),
        }
    }
    // files without a table of that name (full-text indexes, names in an encoding of their own) count in full
    live.saturating_add(of_no_table)
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
        let warned = warn_at.iter().any(|per_cent| used_bytes.saturating_mul(100) >= sold.quota_bytes.saturating_mul((*per_cent).into()));
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
        Sold { database: "cf_x".into(), quota_bytes, is_over }
    }

    #[test]
    fn verdicts() {
        assert_eq!(judge(5 * MB - 1, &sold(5 * MB, false)), Verdict::Ok);
        assert_eq!(judge(5 * MB, &sold(5 * MB, false)), Verdict::Violator);
        assert_eq!(judge(5 * MB, &sold(5 * MB, true)), Verdict::StillOver);
        assert_eq!(judge(5 * MB - 1, &sold(5 * MB, true)), Verdict::Reformer);
    }

    proptest::proptest! {
        #[test]
        fn nobody_under_quota_is_revoked_and_who_is_over_never_writes(used: u64, quota in 1_u64.., is_over: bool) {
            let verdict = judge(used, &sold(quota, is_over));
            let may_write_after = matches!(verdict, Verdict::Ok | Verdict::Reformer);
            proptest::prop_assert_eq!(may_write_after, used < quota);
        }

        #[test]
        fn the_screen_misses_nobody(used: u64, slack: u64, quota in 1_u64.., is_over: bool) {
            let sold = sold(quota, is_over);
            let file = used.saturating_add(slack);
            if judge(used, &sold) != Verdict::Ok {
                proptest::prop_assert!(is_suspect(file, &sold));
            }
        }
    }

    #[test]
    fn files_are_added_up_by_database_without_the_copies_of_an_alter() {
        let sizes = file_sizes([("cf_x/a", 10), ("cf_x/b#P#p0", 5), ("cf_x/#sql-alter-1", 100), ("innodb_system", 7), ("a@002db/t", 1)]);
        assert_eq!(sizes, HashMap::from([("cf_x".to_owned(), 15), ("a-b".to_owned(), 1)]));
    }

    #[test]
    fn live_never_subtracts_the_free_space_of_a_shared_tablespace() {
        let table = |name: &str, data_bytes, free_bytes| TableSize { name: name.into(), data_bytes, free_bytes };
        let files = HashMap::from([("own".to_owned(), 100), ("FTS_1".to_owned(), 30)]);
        assert_eq!(live_bytes(&[table("own", 40, 60), table("shared", 25, 9000)], &files), 40 + 25 + 30);
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
