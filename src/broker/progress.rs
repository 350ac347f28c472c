//! How an operation and the request that waits for it talk: the request may be answered before the operation ends, and the
//! operation may learn that nobody waits for it any more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use super::OsbError;
use crate::domain::instance::Instance;

/// Shared by both. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    accepts_incomplete: bool,
    begun: Notify,
    row: OnceLock<i64>,
    given_up: AtomicBool,
    unusable: AtomicBool,
    large: AtomicBool,
}

impl Progress {
    /// Of a request; `accepts_incomplete`: it may be answered with 202.
    pub fn new(accepts_incomplete: bool) -> Self {
        Self(Arc::new(Inner { accepts_incomplete, ..Inner::default() }))
    }

    /// Whether 202 is an answer.
    pub fn accepts_incomplete(&self) -> bool {
        self.0.accepts_incomplete
    }

    /// Everything that can be refused has been checked, and the work is recorded in the instance's row of this key: any broker can
    /// finish it.
    pub(crate) fn begin(&self, row: i64) {
        let _ = self.0.row.set(row);
        self.0.begun.notify_one();
    }

    /// Waits until the work is recorded.
    pub async fn begun(&self) {
        self.0.begun.notified().await;
    }

    /// The key of the instance's row, once the work is recorded there.
    pub fn row(&self) -> Option<i64> {
        self.0.row.get().copied()
    }

    /// The request has been answered with an error: what is being made is not wanted any more (OSB row SY-3).
    pub fn give_up(&self) {
        self.0.given_up.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.0.given_up.load(Ordering::Relaxed)
    }

    /// What the instance was when it was last looked at.
    pub(crate) fn sees(&self, instance: Option<&Instance>) {
        self.0.unusable.store(!instance.is_some_and(Instance::is_usable), Ordering::Relaxed);
    }

    /// The instance is being taken away: whatever happens now, it cannot be used any more.
    pub(crate) fn destroys(&self, instance: &Instance) {
        self.0.unusable.store(true, Ordering::Relaxed);
        self.0.large.store(instance.is_large(), Ordering::Relaxed);
    }

    /// What the platform hears of a deletion that failed. One that outlasts its request goes on, because it has no way back; of a large one,
    /// that the platform should not have waited for it.
    pub fn explain(&self, error: OsbError) -> OsbError {
        match error {
            OsbError::GivenUp if !self.accepts_incomplete() && self.0.large.load(Ordering::Relaxed) => OsbError::AsyncRequired,
            OsbError::GivenUp => OsbError::TakesTooLong,
            error => error,
        }
    }

    /// Whether the instance can be used, should the request end with an error now (OSB row DE-7). True before anybody has looked.
    pub fn is_instance_usable(&self) -> bool {
        !self.0.unusable.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_deletion_that_outlasts_its_request_should_not_be_waited_for() {
        let progress = Progress::new(false);
        assert!(matches!(progress.explain(OsbError::GivenUp), OsbError::TakesTooLong));
        progress.0.large.store(true, Ordering::Relaxed);
        assert!(matches!(progress.explain(OsbError::GivenUp), OsbError::AsyncRequired));
        assert!(matches!(progress.explain(OsbError::Concurrency), OsbError::Concurrency));
    }
}
