//! Runs an operation to its end, whatever happens to the request that asked for it: a client that resets its connection makes
//! actix drop the handler, in the middle of a CREATE DATABASE if need be. The work is a task of the main runtime, not of an
//! actix worker, because those end at SIGTERM before their tasks do. Reads go the same way: a connection of the pool belongs to the
//! runtime that opened it, and must outlive the workers.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::broker::{Cause, OsbError};

/// How long an answer may take: platforms give up at 60 s and begin to clean up.
const ANSWER_WITHIN: Duration = Duration::from_secs(50);

/// The one way a handler calls the broker.
pub struct ToTheEnd {
    tasks: TaskTracker,
    runtime: Handle,
}

impl ToTheEnd {
    /// Must be called on the main runtime.
    pub(super) fn new() -> Self {
        Self { tasks: TaskTracker::new(), runtime: Handle::current() }
    }

    /// Runs `work` and waits for it; past [`ANSWER_WITHIN`] the answer is 503 and the work goes on.
    ///
    /// # Errors
    /// The work's own; 500 when it panicked.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, OsbError>> + Send + 'static,
    ) -> Result<T, OsbError> {
        let task = self.tasks.spawn_on(tracing::Instrument::in_current_span(work), &self.runtime);
        match tokio::time::timeout(ANSWER_WITHIN, task).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => {
                Err(OsbError::Internal(Cause::NoAnswer(if error.is_panic() { "it panicked" } else { "it was cancelled" }.to_owned())))
            }
            Err(_) => Err(OsbError::TakesTooLong),
        }
    }

    /// Waits for what runs, at most `patience`.
    pub(super) async fn finish(&self, patience: Duration) {
        self.tasks.close();
        if tokio::time::timeout(patience, self.tasks.wait()).await.is_err() {
            tracing::warn!(operations = self.tasks.len(), "some operations did not end in time; another broker finishes or undoes them");
        }
    }
}
