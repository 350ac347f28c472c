//! What a platform polls for: operations by name, how they ended, and what a poll hears.

use std::fmt;

use super::instance::InstanceState;

/// The verbs a platform polls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// PUT of an instance.
    Provision,
    /// PATCH of an instance.
    Update,
    /// DELETE of an instance.
    Deprovision,
    /// DELETE of a binding.
    Unbind,
}

impl Kind {
    /// The word in the table, and the beginning of what a platform hands back.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provision => "provision",
            Self::Update => "update",
            Self::Deprovision => "deprovision",
            Self::Unbind => "unbind",
        }
    }

    /// Reads the word in the table.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Provision, Self::Update, Self::Deprovision, Self::Unbind].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// One operation as a platform names it: what was done, to the instance of which row. Under one id there may be several instances one
/// after the other; each has a row of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// What.
    pub kind: Kind,
    /// The instance's primary key.
    pub row: i64,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.kind.as_str(), self.row)
    }
}

impl Operation {
    /// Reads what [`fmt::Display`] writes; none for whatever else a platform sends.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, row) = text.split_once('-')?;
        Some(Self { kind: Kind::parse(kind)?, row: row.parse().ok()? })
    }
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Which one.
    pub kind: Kind,
    /// Done, or failed.
    pub succeeded: bool,
    /// A sentence for the end user.
    pub description: String,
    /// The same update may succeed later.
    pub update_repeatable: bool,
}

impl Outcome {
    /// A deletion that is done.
    pub fn deleted(kind: Kind, what: &str) -> Self {
        Self { kind, succeeded: true, description: format!("The service {what} is deleted."), update_repeatable: false }
    }
}

/// Why something is taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// A DELETE asks for it and is answered with it: what was asked for before it must not be made after it.
    Asked,
    /// A dead broker began it. Whoever asked for it was told nothing, or comes again.
    Resumed,
    /// It could not be made, for this reason; nobody asked for its end.
    Undone(Outcome),
}

/// What an error of an update or a deprovision says about the instance (OSB API 2.17, "Service Broker Errors").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aftermath {
    /// The instance works as before.
    pub instance_usable: bool,
    /// The same update may succeed later.
    pub update_repeatable: bool,
}

/// What a poll hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Poll {
    /// Somebody works on it.
    InProgress(&'static str),
    /// Done.
    Succeeded(&'static str),
    /// Not done, and undone.
    Failed {
        /// For people.
        description: String,
        /// Of a failed update: what it left behind (OSB row LO-8).
        aftermath: Option<Aftermath>,
    },
    /// What was deleted is gone, and remembered.
    Gone,
    /// Nothing is known under this id.
    Unknown,
}

impl Poll {
    fn failed(description: &str, aftermath: Option<Aftermath>) -> Self {
        Self::Failed { description: description.to_owned(), aftermath }
    }

    fn of_failure(outcome: &Outcome) -> Self {
        let update_repeatable = outcome.update_repeatable;
        let aftermath = (outcome.kind == Kind::Update).then_some(Aftermath { instance_usable: true, update_repeatable });
        Self::Failed { description: outcome.description.clone(), aftermath }
    }
}

const CREATING: &str = "The database is being created.";
const UPDATING: &str = "The plan is being changed.";
const DELETING: &str = "The database is being deleted.";
const READY: &str = "The service instance is ready.";
const DELETED: &str = "The service instance has been deleted.";

/// Answers a poll (OSB rows LO-1 to LO-8). `asked`: the operation the platform names, if it names one; `now`: row and state of the
/// instance under the id; `remembered`: what the last operation ended with, where the row of that instance cannot say so.
pub fn on_poll(asked: Option<Operation>, now: Option<(i64, InstanceState)>, remembered: Option<&Outcome>) -> Poll {
    use InstanceState::{Creating, Deleting, Ready, Updating};
    let failed_update = || remembered.filter(|outcome| outcome.kind == Kind::Update && !outcome.succeeded).map(Poll::of_failure);
    let Some(asked) = asked else {
        return match (now.map(|(_, state)| state), remembered) {
            (Some(Creating), _) => Poll::InProgress(CREATING),
            (Some(Updating), _) => Poll::InProgress(UPDATING),
            (Some(Deleting), _) => Poll::InProgress(DELETING),
            (Some(Ready), _) => failed_update().unwrap_or(Poll::Succeeded(READY)),
            (None, Some(outcome)) if !outcome.succeeded => Poll::of_failure(outcome),
            (None, Some(_)) => Poll::Gone,
            (None, None) => Poll::Unknown,
        };
    };
    // the instance the platform means; another one under the same id came after it was gone
    let state = now.filter(|(row, _)| *row == asked.row).map(|(_, state)| state);
    let is_forgotten = now.is_none() && remembered.is_none();
    match (asked.kind, state) {
        (_, None) if is_forgotten => Poll::Unknown,
        (Kind::Provision, Some(Creating)) => Poll::InProgress(CREATING),
        (Kind::Provision, Some(Ready | Updating)) => Poll::Succeeded(READY),
        (Kind::Provision, None) if now.is_none() && remembered.is_some_and(|outcome| !outcome.succeeded) => {
            remembered.map_or(Poll::Unknown, Poll::of_failure)
        }
        (Kind::Provision, Some(Deleting) | None) => Poll::failed(DELETED, None),
        (Kind::Update, Some(Creating | Updating)) => Poll::InProgress(UPDATING),
        (Kind::Update, Some(Ready)) => failed_update().unwrap_or(Poll::Succeeded(READY)),
        (Kind::Update, Some(Deleting) | None) => {
            Poll::failed(DELETED, Some(Aftermath { instance_usable: false, update_repeatable: false }))
        }
        (Kind::Deprovision | Kind::Unbind, Some(Deleting)) => Poll::InProgress(DELETING),
        // a deletion that has begun has no way back, so nobody was told of this one
        (Kind::Deprovision | Kind::Unbind, Some(_)) => Poll::failed("The service instance is not being deleted.", None),
        (Kind::Deprovision | Kind::Unbind, None) => Poll::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::InstanceState::*;
    use super::*;

    fn outcome(kind: Kind, succeeded: bool) -> Outcome {
        Outcome { kind, succeeded, description: "why".into(), update_repeatable: true }
    }

    fn asked(text: &str) -> Option<Operation> {
        Some(Operation::parse(text).unwrap())
    }

    fn failed(description: &str) -> Poll {
        Poll::failed(description, None)
    }

    #[test]
    fn names_survive_the_platform_and_others_are_none() {
        for kind in [Kind::Provision, Kind::Update, Kind::Deprovision, Kind::Unbind] {
            let operation = Operation { kind, row: 17 };
            assert_eq!(Operation::parse(&operation.to_string()), Some(operation));
        }
        for other in ["", "provision", "provision-", "provision-x", "anything", "reboot-1", "-1"] {
            assert_eq!(Operation::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_poll_that_names_nothing_hears_of_the_present_state() {
        assert_eq!(on_poll(None, Some((1, Creating)), None), Poll::InProgress(CREATING));
        assert_eq!(on_poll(None, Some((1, Ready)), None), Poll::Succeeded(READY));
        assert!(matches!(on_poll(None, Some((1, Ready)), Some(&outcome(Kind::Update, false))), Poll::Failed { aftermath: Some(_), .. }));
        assert_eq!(on_poll(None, None, Some(&outcome(Kind::Provision, false))), failed("why"));
        assert_eq!(on_poll(None, None, Some(&outcome(Kind::Deprovision, true))), Poll::Gone);
        assert_eq!(on_poll(None, None, None), Poll::Unknown);
    }

    #[test]
    fn a_creation_that_was_deleted_has_failed() {
        let deleted = outcome(Kind::Deprovision, true);
        assert_eq!(on_poll(asked("provision-1"), Some((1, Creating)), None), Poll::InProgress(CREATING));
        assert_eq!(on_poll(asked("provision-1"), Some((1, Ready)), Some(&outcome(Kind::Update, false))), Poll::Succeeded(READY));
        assert_eq!(on_poll(asked("provision-1"), Some((1, Deleting)), None), failed(DELETED));
        assert_eq!(on_poll(asked("provision-1"), None, Some(&deleted)), failed(DELETED));
        assert_eq!(on_poll(asked("provision-1"), None, Some(&outcome(Kind::Provision, false))), failed("why"));
        assert_eq!(on_poll(asked("provision-1"), Some((2, Ready)), None), failed(DELETED), "another one under the same id");
        assert_eq!(on_poll(asked("provision-1"), None, None), Poll::Unknown);
    }

    #[test]
    fn a_deletion_is_done_when_its_instance_is_gone_whatever_came_after_it() {
        assert_eq!(on_poll(asked("deprovision-1"), Some((1, Deleting)), None), Poll::InProgress(DELETING));
        assert_eq!(on_poll(asked("deprovision-1"), None, Some(&outcome(Kind::Deprovision, true))), Poll::Gone);
        for state in [Creating, Ready, Updating, Deleting] {
            assert_eq!(on_poll(asked("deprovision-1"), Some((2, state)), None), Poll::Gone, "created again");
        }
        assert_eq!(on_poll(asked("deprovision-1"), None, Some(&outcome(Kind::Provision, false))), Poll::Gone);
        assert_eq!(on_poll(asked("deprovision-1"), None, None), Poll::Unknown);
    }

    #[test]
    fn an_update_of_an_instance_that_is_going_has_failed_and_left_nothing_to_use() {
        assert_eq!(on_poll(asked("update-1"), Some((1, Updating)), None), Poll::InProgress(UPDATING));
        assert_eq!(on_poll(asked("update-1"), Some((1, Ready)), None), Poll::Succeeded(READY));
        assert!(matches!(on_poll(asked("update-1"), Some((1, Ready)), Some(&outcome(Kind::Update, false))), Poll::Failed { .. }));
        let lost = Some(Aftermath { instance_usable: false, update_repeatable: false });
        for now in [Some((1, Deleting)), Some((2, Ready))] {
            assert_eq!(on_poll(asked("update-1"), now, None), Poll::failed(DELETED, lost));
        }
    }
}
