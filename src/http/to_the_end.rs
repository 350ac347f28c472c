//! Runs an operation to its end, whatever happens to the request that asked for it: a client that resets its connection makes
//! actix drop the handler, in the middle of a CREATE DATABASE if need be. The work is a task of the main runtime, not of an
//! actix worker, because those end at SIGTERM before their tasks do. Reads go the same way: a connection of the pool belongs to the
//! runtime that opened it, and must outlive the workers.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::broker::{Cause, OsbError, Progress};

/// How long an answer may take: platforms give up at 60 s and begin to clean up (OSB row SY-3).
const ANSWER_WITHIN: Duration = Duration::from_secs(50);

/// The one way a handler calls the broker.
pub struct ToTheEnd {
    tasks: TaskTracker,
    runtime: Handle,
    places: Arc<Semaphore>,
}

type Answer<T> = Result<T, OsbError>;

/// Work on the heap from the beginning: a verb's future has 20 KB, which would be moved along with every future around it.
type Work<T> = Pin<Box<dyn Future<Output = Answer<T>> + Send>>;

impl ToTheEnd {
    /// Must be called on the main runtime. `at_once`: more operations than these are refused with 429.
    pub(super) fn new(at_once: usize) -> Self {
        Self { tasks: TaskTracker::new(), runtime: Handle::current(), places: Arc::new(Semaphore::new(at_once)) }
    }

    /// Runs `work` and waits for it.
    ///
    /// # Errors
    /// The work's own; 429 when too much runs, 500 when it panicked, 503 when it takes too long (it goes on then).
    pub(super) fn run<T: Send + 'static>(&self, work: impl Future<Output = Answer<T>> + Send + 'static) -> impl Future<Output = Answer<T>> {
        self.wait_for(Box::pin(work))
    }

    /// As [`ToTheEnd::run`]; work that takes too long learns that it is not wanted any more, and undoes itself.
    ///
    /// # Errors
    /// As [`ToTheEnd::run`], but [`OsbError::GivenUp`] of what takes too long.
    pub(super) fn run_or_give_up<T: Send + 'static>(
        &self,
        work: impl Future<Output = Answer<T>> + Send + 'static,
        progress: &Progress,
    ) -> impl Future<Output = Answer<T>> {
        self.wait_or_give_up(Box::pin(work), progress)
    }

    /// Runs `work`; when the platform accepts that, waits only `wait` after everything that can be refused has been checked,
    /// and none is the answer while the work goes on. When that takes longer than an answer may, none is the answer too if the work is
    /// recorded by then.
    ///
    /// # Errors
    /// As [`ToTheEnd::run_or_give_up`].
    pub(super) fn run_or_leave<T: Send + 'static>(
        &self,
        work: impl Future<Output = Answer<T>> + Send + 'static,
        progress: &Progress,
        wait: Duration,
    ) -> impl Future<Output = Answer<Option<T>>> {
        self.wait_or_leave(Box::pin(work), progress, wait)
    }

    async fn wait_for<T: Send + 'static>(&self, work: Work<T>) -> Answer<T> {
        tokio::time::timeout(ANSWER_WITHIN, self.spawn(work)?).await.map_or(Err(OsbError::TakesTooLong), joined)
    }

    async fn wait_or_give_up<T: Send + 'static>(&self, work: Work<T>, progress: &Progress) -> Answer<T> {
        match self.wait_for(work).await {
            Err(OsbError::TakesTooLong) => {
                progress.give_up();
                Err(OsbError::GivenUp)
            }
            answer => answer,
        }
    }

    async fn wait_or_leave<T: Send + 'static>(&self, work: Work<T>, progress: &Progress, wait: Duration) -> Answer<Option<T>> {
        if !progress.accepts_incomplete() {
            return self.wait_or_give_up(work, progress).await.map(Some);
        }
        let mut task = self.spawn(work)?;
        let enough = async {
            progress.begun().await;
            tokio::time::sleep(wait).await;
        };
        tokio::select! {
            biased;
            // with no wait at all everything that begins is answered with 202, however fast it was (OSB row SY-5)
            () = progress.begun(), if wait.is_zero() => Ok(None),
            done = &mut task => joined(done).map(Some),
            () = enough, if !wait.is_zero() => Ok(None),
            () = tokio::time::sleep(ANSWER_WITHIN) => match progress.row() {
                Some(_) => Ok(None),
                None => {
                    progress.give_up();
                    Err(OsbError::GivenUp)
                }
            }
        }
    }

    fn spawn<T: Send + 'static>(&self, work: Work<T>) -> Answer<JoinHandle<Answer<T>>> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| OsbError::Overloaded)?;
        let work = async move {
            let done = work.await;
            drop(place);
            done
        };
        Ok(self.tasks.spawn_on(tracing::Instrument::in_current_span(work), &self.runtime))
    }

    /// Waits for what runs, at most `patience`.
    pub(super) async fn finish(&self, patience: Duration) {
        self.tasks.close();
        if tokio::time::timeout(patience, self.tasks.wait()).await.is_err() {
            tracing::warn!(operations = self.tasks.len(), "some operations did not end in time; another broker finishes or undoes them");
        }
    }
}

fn joined<T>(done: Result<Answer<T>, tokio::task::JoinError>) -> Answer<T> {
    done.unwrap_or_else(|error| {
        let how = if error.is_panic() { "it panicked" } else { "it was cancelled" };
        Err(OsbError::Internal(Cause::NoAnswer(how.to_owned())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_platform_is_answered_before_it_gives_up_and_the_work_learns_of_it() {
        let (ends, progress) = (ToTheEnd::new(8), Progress::new(false));
        let answer = ends.run_or_give_up(std::future::pending::<Answer<()>>(), &progress).await;
        assert!(matches!(answer, Err(OsbError::GivenUp)) && progress.is_given_up());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_recorded_when_an_answer_is_due_goes_on_behind_a_202() {
        let (ends, progress) = (ToTheEnd::new(8), Progress::new(true));
        let begins_late = {
            let progress = progress.clone();
            async move {
                tokio::time::sleep(Duration::from_secs(40)).await;
                progress.begin(1);
                tokio::time::sleep(Duration::from_secs(20)).await;
                Ok(())
            }
        };
        let answer = ends.run_or_leave(begins_late, &progress, Duration::from_secs(30)).await;
        assert!(matches!(answer, Ok(None)) && !progress.is_given_up());
        let (ends, progress) = (ToTheEnd::new(8), Progress::new(true));
        let answer = ends.run_or_leave(std::future::pending::<Answer<()>>(), &progress, Duration::from_secs(30)).await;
        assert!(matches!(answer, Err(OsbError::GivenUp)) && progress.is_given_up(), "what is not recorded is given up");
    }

    #[tokio::test(start_paused = true)]
    async fn slow_work_goes_on_behind_a_202_from_when_it_can_be_refused_no_more() {
        let (ends, progress) = (ToTheEnd::new(8), Progress::new(true));
        let begins_late = {
            let progress = progress.clone();
            async move {
                tokio::time::sleep(Duration::from_secs(30)).await;
                progress.begin(1);
                tokio::time::sleep(Duration::from_secs(30)).await;
                Ok(())
            }
        };
        let started = tokio::time::Instant::now();
        let answer = ends.run_or_leave(begins_late, &progress, Duration::from_secs(5)).await;
        assert!(matches!(answer, Ok(None)) && !progress.is_given_up());
        assert_eq!(started.elapsed(), Duration::from_secs(35));
        ends.finish(DRAIN_FOR_TEST).await;
    }

    const DRAIN_FOR_TEST: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        let answer: Answer<()> = ToTheEnd::new(1).run(async { panic!("in an operation") }).await;
        assert!(matches!(answer, Err(OsbError::Internal(_))));
    }
}
