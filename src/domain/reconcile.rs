//! What should be there against what is there.

use std::collections::HashSet;

use super::binding::BindingState;
use super::instance::InstanceState;
use super::names;

/// A row of an instance, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceFact {
    /// The platform's id.
    pub id: String,
    /// Its database.
    pub database: String,
    /// Where it is.
    pub state: InstanceState,
    /// Somebody works on it and is in time.
    pub lease_live: bool,
}

/// A row of a binding, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingFact {
    /// The platform's ids: instance and binding.
    pub id: (String, String),
    /// Its account's name.
    pub username: String,
    /// Where it is.
    pub state: BindingState,
    /// Somebody works on it and is in time.
    pub lease_live: bool,
}

/// Everything that is looked at. Databases and accounts must have been listed before the rows were: a row precedes what it stands for, so
/// what was listed without a row that is there afterwards never gets one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Every database of the server that may be sold.
    pub databases: Vec<String>,
    /// Every account of the server, by name.
    pub accounts: Vec<String>,
    /// Every instance row.
    pub instances: Vec<InstanceFact>,
    /// Every binding row.
    pub bindings: Vec<BindingFact>,
    /// Accounts that live on as definers.
    pub retired: Vec<String>,
    /// Other accounts that may work on every database that is sold: perhaps another installation's broker.
    pub other_brokers: Vec<String>,
    /// The counter, in bytes.
    pub counter: u64,
    /// What the rows reserve, in bytes, at the same moment.
    pub sum: u64,
}

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The counter is not the sum of the rows.
    Counter,
    /// An operation that nobody leads any more.
    AbandonedOperation,
    /// A ready instance whose database is gone: a tenant can drop it.
    MissingDatabase,
    /// A ready binding whose account is gone.
    MissingAccount,
    /// A database of an earlier attempt of an id that has another one now.
    OldGeneration,
    /// A database with a name that only this program makes, and no row.
    OrphanDatabase,
    /// An account with a name that only this program makes, and no row.
    OrphanAccount,
    /// Another account has the rights of a broker: what has no row here may be another installation's.
    OtherInstallation,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Counter,
        Self::AbandonedOperation,
        Self::MissingDatabase,
        Self::MissingAccount,
        Self::OldGeneration,
        Self::OrphanDatabase,
        Self::OrphanAccount,
        Self::OtherInstallation,
    ];

    /// The word for scripts and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::AbandonedOperation => "abandoned_operation",
            Self::MissingDatabase => "missing_database",
            Self::MissingAccount => "missing_account",
            Self::OldGeneration => "old_generation",
            Self::OrphanDatabase => "orphan_database",
            Self::OrphanAccount => "orphan_account",
            Self::OtherInstallation => "other_installation",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// The id, database or account it is about.
    pub name: String,
}

/// Compares. Rows under a live lease are somebody's work, and what belongs to them is left out.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut find = |kind, name: &str| found.push(Finding { kind, name: name.to_owned() });
    if facts.counter != facts.sum {
        find(Kind::Counter, "reserved_bytes");
    }
    let databases: HashSet<&str> = facts.databases.iter().map(String::as_str).collect();
    let accounts: HashSet<&str> = facts.accounts.iter().map(String::as_str).collect();
    for instance in facts.instances.iter().filter(|instance| !instance.lease_live) {
        if instance.state != InstanceState::Ready {
            find(Kind::AbandonedOperation, &instance.id);
        } else if !databases.contains(instance.database.as_str()) {
            find(Kind::MissingDatabase, &instance.id);
        }
    }
    for binding in facts.bindings.iter().filter(|binding| !binding.lease_live) {
        let name = format!("{}/{}", binding.id.0, binding.id.1);
        if binding.state != BindingState::Ready {
            find(Kind::AbandonedOperation, &name);
        } else if !accounts.contains(binding.username.as_str()) {
            find(Kind::MissingAccount, &name);
        }
    }
    let known: HashSet<&str> = facts.instances.iter().map(|instance| instance.database.as_str()).collect();
    let ids: HashSet<&str> = known.iter().filter_map(|name| names::without_generation(name)).collect();
    for database in facts.databases.iter().filter(|name| !known.contains(name.as_str())) {
        match names::without_generation(database) {
            None => {}
            Some(id) if ids.contains(id) => find(Kind::OldGeneration, database),
            Some(_) => find(Kind::OrphanDatabase, database),
        }
    }
    let known: HashSet<&str> = facts.bindings.iter().map(|binding| &binding.username).chain(&facts.retired).map(String::as_str).collect();
    for account in facts.accounts.iter().filter(|name| names::is_account_name(name) && !known.contains(name.as_str())) {
        find(Kind::OrphanAccount, account);
    }
    for account in &facts.other_brokers {
        find(Kind::OtherInstallation, account);
    }
    found.sort();
    found.dedup();
    found
}

/// Whether what has no row may be dropped: not while it may belong to somebody else.
pub fn may_drop(facts: &Facts) -> bool {
    facts.other_brokers.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(id: &str, database: &str, state: InstanceState, lease_live: bool) -> InstanceFact {
        InstanceFact { id: id.into(), database: database.into(), state, lease_live }
    }

    fn name(id: char, generation: char) -> String {
        format!("cf_{}_{}", id.to_string().repeat(32), generation.to_string().repeat(8))
    }

    #[test]
    fn nothing_of_others_is_ever_found() {
        let facts = Facts {
            databases: ["mysql", "cf_old", "cf_shop", "cf_shop_12345678", "cf_3f6a0d52_9d3c_4b6e_8a51_0c2f6f9d7e10", "cf_X"]
                .map(str::to_owned)
                .into(),
            accounts: ["root", "cfb", "cfbank", "cfb0123456789012345678901", "broker"].map(str::to_owned).into(),
            ..Facts::default()
        };
        assert_eq!(findings(&facts), []);
    }

    #[test]
    fn finds_each_kind() {
        let facts = Facts {
            databases: vec![name('a', '1'), name('a', '2'), name('b', '1'), name('c', '1')],
            accounts: vec!["cfb01234567890123456789".into(), "cfb11111111111111111111".into(), "cfb22222222222222222222".into()],
            instances: vec![
                instance("a", &name('a', '1'), InstanceState::Ready, false),
                instance("gone", &name('d', '1'), InstanceState::Ready, false),
                instance("dead", &name('c', '1'), InstanceState::Deleting, false),
                instance("busy", &name('e', '1'), InstanceState::Creating, true),
            ],
            bindings: vec![BindingFact {
                id: ("a".into(), "b1".into()),
                username: "cfb33333333333333333333".into(),
                state: BindingState::Ready,
                lease_live: false,
            }],
            retired: vec!["cfb22222222222222222222".into()],
            other_brokers: vec!["other".into()],
            counter: 1,
            sum: 2,
        };
        let found: Vec<_> = findings(&facts).into_iter().map(|finding| (finding.kind.as_str(), finding.name)).collect();
        assert_eq!(
            found,
            [
                ("counter", "reserved_bytes".to_owned()),
                ("abandoned_operation", "dead".to_owned()),
                ("missing_database", "gone".to_owned()),
                ("missing_account", "a/b1".to_owned()),
                ("old_generation", name('a', '2')),
                ("orphan_database", name('b', '1')),
                ("orphan_account", "cfb01234567890123456789".to_owned()),
                ("orphan_account", "cfb11111111111111111111".to_owned()),
                ("other_installation", "other".to_owned()),
            ]
        );
        assert!(!may_drop(&facts));
    }
}
