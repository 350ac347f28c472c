//! The connections to one node that are kept open, the last used one first. Nobody asks a connection in daily use whether it lives: a
//! statement that a dead one spoiled is repeated by `transact`. What a connection was in the middle of when its user gave up is never
//! guessed: it is closed.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool::managed::{self, Metrics, Object, PoolConfig, PoolError, QueueMode, RecycleError, RecycleResult};
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{Connection as _, MySqlConnection};
use tokio::sync::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard};

use super::{Error, Result};

/// A connection that was not used for so long is asked whether it lives: the server or a firewall may have ended it, or the server hangs.
const IN_DAILY_USE: Duration = Duration::from_secs(1);
/// How long its answer may take: where a firewall dropped the flow without a word none comes, and whoever waits for a connection shall have
/// time left for another one.
const PING: Duration = Duration::from_secs(1);
/// A connection that was not used for so long is closed.
const IDLE: Duration = Duration::from_secs(5 * 60);
/// A connection that is older is closed after its use, so that a changed password or limit comes into force.
const LIFETIME: Duration = Duration::from_secs(30 * 60);
/// How often a pool looks for idle connections.
const SWEEP: Duration = Duration::from_secs(60);
/// The longest pause between two attempts at a server that refuses connections.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The open connections to one node.
pub(super) struct Pool(managed::Pool<Connector>);

/// Makes connections, and looks at one before it is used again.
struct Connector {
    options: MySqlConnectOptions,
    /// When a connection was last found silent: those that were idle then are not asked one after the other, it would take a second each.
    silent: Mutex<Option<Instant>>,
}

impl managed::Manager for Connector {
    /// None while it is in use, and for ever when its user did not give it back.
    type Type = Option<MySqlConnection>;
    type Error = Error;

    async fn create(&self) -> Result<Option<MySqlConnection>> {
        let mut pause = Duration::from_millis(10);
        loop {
            match super::nodes::connect(&self.options).await {
                // it is about to start, more often than not; whoever waits has a limit of his own
                Err(sqlx::Error::Io(error)) if error.kind() == ErrorKind::ConnectionRefused => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                made => return made.map(Some).map_err(Error::doing("a connection")),
            }
        }
    }

    async fn recycle(&self, session: &mut Option<MySqlConnection>, metrics: &Metrics) -> RecycleResult<Error> {
        match session {
            Some(_) if metrics.last_used() < IN_DAILY_USE => Ok(()),
            Some(session) => {
                if self.silent.lock().await.is_some_and(|silent| silent.elapsed() < metrics.last_used()) {
                    return Err(RecycleError::message("another one did not answer"));
                }
                match tokio::time::timeout(PING, session.ping()).await {
                    Ok(answer) => answer.map_err(|error| RecycleError::Backend(Error::doing("a connection")(error))),
                    Err(_) => {
                        *self.silent.lock().await = Some(Instant::now());
                        Err(RecycleError::message("it does not answer"))
                    }
                }
            }
            None => Err(RecycleError::message("it was closed")),
        }
    }
}

impl Pool {
    /// A pool that has no connection yet. Must be called on a runtime.
    #[expect(clippy::expect_used, reason = "only a pool with time limits of its own may fail to be built")]
    pub(super) fn new(options: MySqlConnectOptions, max_connections: u32) -> Self {
        let mut config = PoolConfig::new(usize::try_from(max_connections).unwrap_or(usize::MAX));
        config.queue_mode = QueueMode::Lifo;
        let pool = managed::Pool::builder(Connector { options, silent: Mutex::default() })
            .config(config)
            .build()
            .expect("a pool without time limits");
        let weak = pool.weak();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let Some(pool) = weak.upgrade() else { return };
                let idle = pool.retain(|_, metrics| metrics.last_used() < IDLE).removed;
                idle.into_iter().flatten().for_each(say_goodbye);
            }
        });
        Self(pool)
    }

    /// A connection, and whatever it takes to wait for one: the caller has a limit.
    ///
    /// # Errors
    /// Whatever the node says; one that refuses connections is waited for.
    pub(super) async fn get(&self) -> Result<Connection> {
        let mut place = self.0.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            other => Error::Unavailable(other.to_string()),
        })?;
        let session = place.take().ok_or_else(|| Error::Unavailable("the connection is in use".to_owned()))?;
        Ok(Connection { session, place })
    }

    /// Closes what nobody uses at present: one of them was found dead, and what ends a connection seldom ends only one.
    pub(super) fn forget_idle(&self) {
        self.0.retain(|_, _| false);
    }
}

/// A connection in use. Whoever drops it closes it: it may be in the middle of anything.
pub(super) struct Connection {
    session: MySqlConnection,
    place: Object<Connector>,
}

impl Connection {
    /// Back to the pool: no answer and no transaction is left on it.
    pub(super) fn give_back(mut self) {
        if Object::metrics(&self.place).age() > LIFETIME {
            say_goodbye(self.session);
        } else {
            *self.place = Some(self.session);
        }
    }

    /// Lends it to a future that may be dropped at any point: it is closed then.
    pub(super) async fn lend(self) -> (Lent, Lender) {
        let connection = Arc::new(Mutex::new(self));
        let lent = OwnedMutexGuard::map(connection.clone().lock_owned().await, |connection| &mut connection.session);
        (lent, Lender(connection))
    }
}

impl std::ops::Deref for Connection {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        &self.session
    }
}

impl std::ops::DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        &mut self.session
    }
}

/// A connection on loan: whoever drops it hands it back to the [`Lender`].
pub(super) type Lent = OwnedMappedMutexGuard<Connection, MySqlConnection>;

/// Whose connection is on loan.
pub(super) struct Lender(Arc<Mutex<Connection>>);

impl Lender {
    /// The connection, when it is not on loan any more.
    pub(super) fn returned(self) -> Option<Connection> {
        Arc::into_inner(self.0).map(Mutex::into_inner)
    }
}

/// Ends a session as the protocol wants it, so that the server's log has no aborted connection.
fn say_goodbye(session: MySqlConnection) {
    tokio::spawn(async move {
        // a server that does not listen any more needs no farewell
        let _ = tokio::time::timeout(Duration::from_secs(1), session.close()).await;
    });
}
