//! The one place that begins, repeats and commits. Attempts are on the heap: a verb is many of them, one in another, and its future would
//! be as large as all of them together.

use std::time::Duration;

use rand::RngExt as _;
use sqlx::Executor as _;

use super::nodes::{Moved, Patience};
use super::pool::Lent;
use super::{Error, Mysql, Result};

/// Attempts at one transaction after a lost connection or an unknown outcome.
const ATTEMPTS: u32 = 5;
/// Attempts at one that others were faster with: on a cluster with writers on every node all but the first lose.
const ATTEMPTS_UNDER_CONTENTION: u32 = 40;

/// How a transaction ends that met no error.
pub(super) enum End<T> {
    /// Keep what was done.
    Commit(Lent, T),
    /// Undo it: it turned out that it must not be.
    Rollback(T),
}

impl Mysql {
    /// Runs `body` in a transaction; after a transient failure all of it again, a bounded number of times, with a growing
    /// random pause. After a lost COMMIT the body runs again too: it must recognise its own work by its `op_id`.
    ///
    /// # Errors
    /// The body's error, or the last transient one.
    pub(super) async fn transact<T, F>(&self, what: &'static str, mut body: impl FnMut(Lent) -> F) -> Result<T>
    where
        F: Future<Output = Result<End<T>>>,
    {
        let mut attempt = 1;
        loop {
            let node = self.current_index();
            let result = tokio::select! {
                result = Box::pin(self.transact_once(what, &mut body)) => result,
                error = self.fallen_silent(node, Patience::Transaction) => Err(error),
            };
            if let Some(result) = self.unless_worth_repeating(what, result, attempt, node).await {
                return result;
            }
            attempt += 1;
        }
    }

    async fn transact_once<T, F>(&self, what: &'static str, body: &mut impl FnMut(Lent) -> F) -> Result<T>
    where
        F: Future<Output = Result<End<T>>>,
    {
        let mut connection = self.connection().await?;
        connection.execute("BEGIN").await.map_err(Error::doing(what))?;
        let (lent, lender) = connection.lend().await;
        let (commit, mut done) = match body(lent).await {
            Ok(End::Commit(lent, done)) => {
                drop(lent);
                (true, Ok(done))
            }
            Ok(End::Rollback(done)) => (false, Ok(done)),
            Err(error) => (false, Err(error)),
        };
        let Some(mut connection) = lender.returned() else { return Err(Error::ConnectionLost("it is still in use".to_owned())) };
        if commit {
            match connection.execute("COMMIT").await {
                Ok(_) => {
                    connection.give_back();
                    return done;
                }
                Err(error) => done = Err(Error::doing(what)(error)),
            }
        }
        // undone before anybody else has the connection, and before the caller looks at what came of it
        if is_in_order(&done) && connection.execute("ROLLBACK").await.is_ok() {
            connection.give_back();
        }
        done
    }

    /// The result, or none: the same again, after a pause.
    async fn unless_worth_repeating<T>(&self, what: &'static str, result: Result<T>, attempt: u32, node: usize) -> Option<Result<T>> {
        let Err(error) = &result else { return Some(result) };
        if matches!(error, Error::ConnectionLost(_)) {
            // more than there are attempts may have died idle: the next attempt must not meet another one
            self.forget_idle(node);
        }
        if !self.is_worth_repeating(error, attempt, node).await {
            return Some(result);
        }
        pause(what, attempt, error).await;
        None
    }

    /// The retry set: what is transient by itself, and any failure of a node that turns out to be no good when there is another that is.
    async fn is_worth_repeating(&self, error: &Error, attempt: u32, node: usize) -> bool {
        if attempt >= if error.is_contention() { ATTEMPTS_UNDER_CONTENTION } else { ATTEMPTS } {
            return false;
        }
        // 1205 is also what a read hears on a node that waits for its cluster
        let is_of_the_node = error.is_outage() || error.code() == Some(super::code::LOCK_WAIT_TIMEOUT);
        if !is_of_the_node {
            return error.is_transient();
        }
        match self.move_on_from(node).await {
            Moved::Yes => true,
            Moved::No => error.is_transient(),
            // whoever asked hears of it at once and comes again
            Moved::Nowhere => false,
        }
    }

    /// As [`Mysql::transact`] for a single statement, which is a transaction by itself; also for DDL, which must be
    /// idempotent.
    pub(super) async fn repeat<T, F>(&self, what: &'static str, mut body: impl FnMut(Lent) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut attempt = 1;
        loop {
            let node = self.current_index();
            let once = Box::pin(async {
                let (lent, lender) = self.connection().await?.lend().await;
                let done = body(lent).await;
                if let Some(connection) = lender.returned()
                    && is_in_order(&done)
                {
                    connection.give_back();
                }
                done
            });
            let result = tokio::select! {
                result = once => result,
                error = self.fallen_silent(node, Patience::Statement) => Err(error),
            };
            if let Some(result) = self.unless_worth_repeating(what, result, attempt, node).await {
                return result;
            }
            attempt += 1;
        }
    }

    /// Sends one statement that takes no placeholders and can be repeated: DDL, CREATE USER, GRANT. `failed` says what to keep of an
    /// error: [`Error::doing`], or [`Error::doing_secretly`] where the statement carries a secret.
    pub(super) async fn send(&self, what: &'static str, statement: &str, failed: impl Fn(sqlx::Error) -> Error) -> Result<()> {
        let failed = &failed;
        self.repeat(what, |mut connection| async move {
            super::raw(&mut connection, statement.to_owned()).await.map_err(failed)?;
            Ok(())
        })
        .await
    }
}

/// Whether the server has answered everything that was sent, be it with a refusal.
fn is_in_order<T>(done: &Result<T>) -> bool {
    done.as_ref().err().is_none_or(|error| error.code().is_some())
}

async fn pause(what: &'static str, attempt: u32, error: &Error) {
    metrics::counter!("cf_mysql_transaction_retries_total", "transaction" => what).increment(1);
    tracing::debug!(transaction = what, attempt, %error, "repeating");
    let pause = rand::rng().random_range(1..=5_u64 << attempt.min(5));
    tokio::time::sleep(Duration::from_millis(pause)).await;
}
