//! Who is over quota: pure decisions over facts.

use std::time::Duration;

use super::binding::Account;

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

/// Disk a database may hold beyond its quota, in free space inside its files, before that counts. Bytes.
const SLACK: u64 = 64 << 20;
/// How long a table may keep its size from everybody before it counts as too large: whoever makes one, or holds a lock on it, can
/// write to it all the while.
pub const HIDDEN: Duration = Duration::from_secs(60);

/// What is known of a database when it is judged. Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// What it uses at least; the same as `at_most` where it is known exactly.
    pub at_least: u64,
    /// What it uses at most; `u64::MAX` where a table could not be looked at.
    pub at_most: u64,
    /// What its files take on the disk, with the free space in them.
    pub disk: u64,
    /// For how long it has been keeping the size of a table from everybody; zero where it does not.
    pub hidden_for: Duration,
}

impl Usage {
    /// Of a database that could not be measured this time.
    pub fn unknown(disk: u64) -> Self {
        Self { at_least: 0, at_most: u64::MAX, disk, hidden_for: Duration::ZERO }
    }

    /// Whether it is certain that the quota is used up. There is no rounding.
    pub fn is_over(&self, quota_bytes: u64) -> bool {
        self.at_least >= quota_bytes || is_swollen(self.disk, quota_bytes) || self.hidden_for >= HIDDEN
    }

    /// Whether it is certain that it is not.
    pub fn is_under(&self, quota_bytes: u64) -> bool {
        self.at_most < quota_bytes && !self.is_over(quota_bytes)
    }
}

/// Whether files take more disk than was sold, whatever is free inside them: over twice the quota, and more than 64 MB over it.
/// Deleted rows leave their file as it is, so what once was up to twice the quota must be able to come back by deleting alone.
pub fn is_swollen(disk_bytes: u64, quota_bytes: u64) -> bool {
    disk_bytes > quota_bytes.saturating_mul(2) && disk_bytes - quota_bytes > SLACK
}

/// Judges a database by what is known of it. What is not known changes nothing: neither takes it anything, nor gives it back.
pub fn judge(usage: &Usage, sold: &Sold, rules: Rules) -> Verdict {
    let may_have_back = usage.is_under(sold.quota_bytes)
        && sold.over_for >= rules.minimum_dwell
        && u128::from(usage.at_most) * 100 < u128::from(sold.quota_bytes) * u128::from(rules.restore_below);
    match (sold.is_over, usage.is_over(sold.quota_bytes)) {
        (false, true) => Verdict::Violator,
        (false, false) => Verdict::Ok,
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

/// Whose rights and sessions the quota leaves alone, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spared {
    /// The operator's list.
    pub ignored: Vec<String>,
    /// The accounts this program itself works with: it must neither take its own rights nor end its own sessions, whatever is granted to them.
    pub own: Vec<String>,
}

impl Spared {
    /// Whether a user is left alone.
    pub fn has(&self, user: &str) -> bool {
        self.is_own(user) || self.ignored.iter().any(|ignored| ignored == user)
    }

    /// Whether it is one of the program's own accounts.
    pub fn is_own(&self, user: &str) -> bool {
        self.own.iter().any(|own| own == user)
    }
}

/// The accounts whose rights on a database are the quota's business.
pub fn concerned(accounts: impl IntoIterator<Item = Account>, spared: &Spared) -> Vec<Account> {
    accounts.into_iter().filter(|account| !spared.has(&account.user)).collect()
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

    fn exactly(used: u64) -> Usage {
        Usage { at_least: used, at_most: used, disk: used, hidden_for: Duration::ZERO }
    }

    fn judged(used: u64, sold: &Sold) -> Verdict {
        judge(&exactly(used), sold, Rules::default())
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
        assert_eq!(judge(&exactly(89), &over(60), rules), Verdict::Reformer);
        assert_eq!(judge(&exactly(90), &over(60), rules), Verdict::StillOver);
        assert_eq!(judge(&exactly(1), &over(59), rules), Verdict::StillOver);
        assert_eq!(judge(&exactly(95), &sold(100, false), rules), Verdict::Ok, "neither takes anything from anybody under the quota");
    }

    proptest::proptest! {
        #[test]
        fn nobody_under_quota_is_revoked_and_who_is_over_never_writes(used: u64, quota in 1_u64.., is_over: bool) {
            let verdict = judged(used, &sold(quota, is_over));
            let may_write_after = matches!(verdict, Verdict::Ok | Verdict::Reformer);
            proptest::prop_assert_eq!(may_write_after, used < quota);
        }

        #[test]
        fn partial_facts_take_nothing_from_who_may_be_under_and_give_nothing_to_who_may_be_over(
            at_least: u64, more: u64, disk: u64, hidden: u16, quota in 1_u64.., is_over: bool
        ) {
            let at_most = at_least.saturating_add(more);
            let usage = Usage { at_least, at_most, disk, hidden_for: Duration::from_secs(hidden.into()) };
            match judge(&usage, &sold(quota, is_over), Rules::default()) {
                Verdict::Violator => proptest::prop_assert!(!is_over && (at_least >= quota || is_swollen(disk, quota) || usage.hidden_for >= HIDDEN)),
                Verdict::Reformer => proptest::prop_assert!(is_over && at_most < quota && !is_swollen(disk, quota) && usage.hidden_for < HIDDEN),
                Verdict::Ok => proptest::prop_assert!(!is_over && at_least < quota && !is_swollen(disk, quota)),
                Verdict::StillOver => proptest::prop_assert!(is_over),
            }
        }

        #[test]
        fn disk_is_bounded_and_twice_the_quota_is_never_swollen(disk: u64, quota in 1_u64..u64::MAX / 4) {
            if disk <= quota * 2 {
                proptest::prop_assert!(!is_swollen(disk, quota));
            }
            if disk > quota * 2 + SLACK {
                proptest::prop_assert!(is_swollen(disk, quota));
            }
        }

        #[test]
        fn no_rule_takes_from_who_is_under_or_gives_to_who_is_over(
            used: u64, quota in 1_u64.., is_over: bool, over_for: u32, dwell: u32, restore_below in 1_u8..=100
        ) {
            let sold = Sold { over_for: Duration::from_secs(over_for.into()), ..sold(quota, is_over) };
            let rules = Rules { minimum_dwell: Duration::from_secs(dwell.into()), restore_below };
            match judge(&exactly(used), &sold, rules) {
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
            if judge(&Usage { disk: file, ..exactly(used) }, &sold, Rules::default()) != Verdict::Ok {
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
    fn files_of_twice_the_quota_can_be_emptied_by_deleting_and_no_more_than_that() {
        let emptied = |disk| judge(&Usage { disk, ..exactly(MB) }, &sold(100 * MB, true), Rules::default());
        assert_eq!(emptied(200 * MB), Verdict::Reformer);
        assert_eq!(emptied(200 * MB + 1), Verdict::StillOver, "the disk was sold to others");
        let small = |disk| judge(&Usage { disk, ..exactly(MB) }, &sold(5 * MB, true), Rules::default());
        assert_eq!((small(69 * MB), small(69 * MB + 1)), (Verdict::Reformer, Verdict::StillOver), "a fast writer is not held to a few MB");
        let reserved = Usage { disk: 4096 * MB, ..exactly(16384) };
        assert_eq!(judge(&reserved, &sold(5 * MB, false), Rules::default()), Verdict::Violator, "AUTOEXTEND_SIZE");
    }

    #[test]
    fn what_hides_for_long_counts_as_too_large() {
        let hidden = |seconds| Usage { hidden_for: Duration::from_secs(seconds), ..Usage::unknown(0) };
        assert_eq!(judge(&hidden(59), &sold(MB, false), Rules::default()), Verdict::Ok);
        assert_eq!(judge(&hidden(60), &sold(MB, false), Rules::default()), Verdict::Violator);
        assert_eq!(judge(&hidden(1), &sold(MB, true), Rules::default()), Verdict::StillOver);
    }

    #[test]
    fn nobody_touches_the_accounts_of_the_program() {
        let spared = Spared { ignored: vec!["backup".into()], own: vec!["broker".into()] };
        let accounts = ["app", "backup", "broker"].map(|user| Account::from_anywhere(user.into()));
        assert_eq!(concerned(accounts, &spared), [Account::from_anywhere("app".into())]);
        assert!(spared.is_own("broker") && !spared.is_own("backup"));
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
