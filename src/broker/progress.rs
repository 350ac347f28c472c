//! How an operation and the request that waits for it talk: the request may be answered before the operation ends, and the
//! operation may learn that nobody waits for it any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Shared by both. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    accepts_incomplete: bool,
    begun: Notify,
    given_up: AtomicBool,
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

    /// Everything that can be refused has been checked, and the work is recorded: any broker can finish it.
    pub(super) fn begin(&self) {
        self.0.begun.notify_one();
    }

    /// Waits until the work is recorded.
    pub async fn begun(&self) {
        self.0.begun.notified().await;
    }

    /// The request has been answered with an error: what is being made is not wanted any more (OSB row SY-3).
    pub fn give_up(&self) {
        self.0.given_up.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.0.given_up.load(Ordering::Relaxed)
    }
}
