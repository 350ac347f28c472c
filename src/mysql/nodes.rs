//! The nodes of the server: a pool each, one of them in use; who moves on when it fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use secrecy::ExposeSecret as _;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::{Connection as _, Executor as _, MySqlConnection};
use tokio::sync::{Mutex, OnceCell, watch};

use super::patience::in_time;
use super::pool::{Connection, Pool};
use super::server::{self, ServerInfo};
use super::{Error, Result, code};
use crate::domain::credentials::Endpoint;
use crate::settings::{MysqlSettings, TlsMode};

/// How long a request waits for a connection. The platform gives up after 60 s; an outage is answered long before.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections besides those of `mysql.max_connections`, made when they are needed.
const SPARE: u32 = 2;
/// How long a health check of a node may take.
const HEALTH_TIMEOUT: Duration = Duration::from_millis(1500);

/// After how long a server that has not answered a statement is asked whether it is still there, again and again.
const ASK: Duration = Duration::from_secs(2);

/// What an answer is waited for, and so how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// A transaction, of which every statement is short: an outage is answered within 10 s.
    Transaction,
    /// A single statement, which may be DDL.
    Statement,
    /// Work that may take any time, and is a pity to lose.
    Rebuild,
}

impl Patience {
    /// How often in a row the server may keep silent before nobody waits for its answer any more.
    fn silences(self) -> u32 {
        match self {
            Self::Transaction | Self::Statement => 2,
            Self::Rebuild => 6,
        }
    }

    /// How long an answer may take of a server that is well: the connection itself may be dead, where a proxy is gone with it or a firewall
    /// has forgotten it, and nobody would ever say so.
    fn limit(self) -> Option<Duration> {
        match self {
            Self::Transaction => Some(Duration::from_secs(30)),
            Self::Statement => Some(Duration::from_secs(300)),
            Self::Rebuild => None,
        }
    }
}

/// One server, or one node of a cluster.
pub struct Node {
    /// Where it is.
    pub endpoint: Endpoint,
    options: MySqlConnectOptions,
    pool: Pool,
    /// For what must not wait behind long work: see [`Mysql::spare`].
    spare_pool: Pool,
}

struct Inner {
    nodes: Vec<Node>,
    current: watch::Sender<usize>,
    /// Held by whoever looks for another node, so that many failures at once are one look; when the last one in vain ended.
    moving: Mutex<Option<Instant>>,
    info: OnceCell<ServerInfo>,
    database: String,
}

/// The database server: connections to the first healthy node of `mysql.hosts`. Cheap to clone.
#[derive(Clone)]
pub struct Mysql {
    inner: Arc<Inner>,
    is_spare: bool,
}

/// What a look for another node found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// The node in use is well, or the only one there is.
    No,
    /// Another one is in use by now.
    Yes,
    /// The node in use is not well, and no other is.
    Nowhere,
}

impl Mysql {
    /// Prepares pools; connects to nothing yet, so that a broker starts without its database.
    pub fn new(settings: &MysqlSettings) -> Self {
        let nodes = settings
            .endpoints()
            .into_iter()
            .map(|endpoint| {
                let options = connect_options(settings, &endpoint);
                let pool = |connections| Pool::new(options.clone().database(&settings.database), connections);
                Node { pool: pool(settings.max_connections), spare_pool: pool(SPARE), endpoint, options }
            })
            .collect();
        let (current, moving) = (watch::Sender::new(0), Mutex::new(None));
        let inner = Inner { nodes, current, moving, info: OnceCell::new(), database: settings.database.clone() };
        Self { inner: Arc::new(inner), is_spare: false }
    }

    /// The same server, by connections of their own: a lease is renewed while work that takes long has all others.
    pub(super) fn spare(&self) -> Self {
        Self { is_spare: true, ..self.clone() }
    }

    /// The name of the broker's own database.
    pub fn database(&self) -> &str {
        &self.inner.database
    }

    /// Every configured node.
    pub fn nodes(&self) -> &[Node] {
        &self.inner.nodes
    }

    /// The node in use.
    pub fn current(&self) -> &Node {
        let nodes = &self.inner.nodes;
        &nodes[self.current_index() % nodes.len()]
    }

    /// Which of the nodes is in use.
    pub(super) fn current_index(&self) -> usize {
        *self.inner.current.borrow()
    }

    /// Returns when another node than this one is in use. What still waits for an answer of this one then need wait no longer: it may hang,
    /// and the outcome is read on the other.
    async fn left(&self, index: usize) {
        let mut current = self.inner.current.subscribe();
        if self.inner.nodes.len() < 2 || current.wait_for(|current| *current != index).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns when nobody should wait any more for an answer of the node of this index, which is the one in use: it is not in use any
    /// more, or it has had more time than anything takes (both [`Error::ConnectionLost`]), or it answers nobody else either
    /// ([`Error::Unavailable`]). What was asked of it may have been done. Without this, whatever waits for a node that hangs, or is gone
    /// without a word, would wait for ever.
    pub(super) async fn fallen_silent(&self, node: usize, patience: Patience) -> Error {
        let silent = async {
            let mut silences = 0;
            while silences < patience.silences() {
                tokio::time::sleep(ASK).await;
                silences = if self.current().answers().await { 0 } else { silences + 1 };
            }
        };
        let too_long = async {
            match patience.limit() {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = too_long => Error::ConnectionLost("no answer has come for too long".to_owned()),
            () = self.left(node) => Error::ConnectionLost("the node was left for another one before it answered".to_owned()),
            () = silent => Error::Unavailable("the server has fallen silent".to_owned()),
        }
    }

    /// A connection to the node in use, with the broker's database selected. It goes back to its pool only by
    /// [`Connection::give_back`].
    ///
    /// # Errors
    /// [`Error::Unavailable`] with the cause, which a limit of time alone would hide.
    pub(super) async fn connection(&self) -> Result<Connection> {
        let node = self.current();
        let pool = if self.is_spare { &node.spare_pool } else { &node.pool };
        match tokio::time::timeout(ACQUIRE_TIMEOUT, pool.get()).await {
            Ok(found) => found,
            // ask once, directly, what it is that takes so long
            Err(_) => match node.connect_in_time().await {
                Ok(_) => Err(Error::Unavailable("all connections of the pool are in use".to_owned())),
                Err(error) => Err(error),
            },
        }
    }

    /// Closes the connections to a node that nobody uses at present.
    pub(super) fn forget_idle(&self, index: usize) {
        if let Some(node) = self.inner.nodes.get(index) {
            node.pool.forget_idle();
            node.spare_pool.forget_idle();
        }
    }

    /// What the server is; asked once.
    ///
    /// # Errors
    /// Whatever keeps the broker from asking.
    pub async fn info(&self) -> Result<ServerInfo> {
        let ask = async { server::info(&mut self.current().connect().await?).await };
        self.inner.info.get_or_try_init(|| in_time("a look at the server's variables", ACQUIRE_TIMEOUT, ask)).await.cloned()
    }

    /// Whether the node in use answers, has the broker's schema, and would accept writes.
    ///
    /// # Errors
    /// Says what is missing; always within two seconds.
    pub async fn check(&self) -> Result<()> {
        let check = async {
            let node = self.current();
            let mut connection = node.connect().await?;
            server::check_writable(&mut connection).await?;
            super::schema::check(&mut connection, self.database()).await
        };
        match tokio::time::timeout(HEALTH_TIMEOUT, check).await {
            Ok(result) => result,
            Err(_) => Err(Error::Unavailable("the server does not answer".to_owned())),
        }
    }

    /// Moves on to the first healthy node when the one in use is not: run it every second while there are several.
    pub async fn move_on(&self) {
        self.move_on_from(self.current_index()).await;
    }

    /// As [`Mysql::move_on`], for somebody who has met a failure on the node of this index.
    pub(super) async fn move_on_from(&self, failed: usize) -> Moved {
        if self.inner.nodes.len() < 2 {
            return Moved::No;
        }
        let asked = Instant::now();
        let mut in_vain = self.inner.moving.lock().await;
        if self.current_index() != failed {
            return Moved::Yes;
        }
        // somebody has just looked: a queue of looks at nodes that hang would hold up every request
        if in_vain.is_some_and(|ended| ended >= asked) {
            return Moved::Nowhere;
        }
        if self.current().is_healthy().await {
            return Moved::No;
        }
        // all at once: one that hangs must not hold up the look at the others
        let others = self.inner.nodes.iter().enumerate().filter(|(index, _)| *index != failed);
        let healthy = futures_util::future::join_all(others.map(async |(index, node)| node.is_healthy().await.then_some(index))).await;
        let Some(index) = healthy.into_iter().flatten().next() else {
            *in_vain = Some(Instant::now());
            return Moved::Nowhere;
        };
        self.inner.current.send_replace(index);
        let node = self.current();
        tracing::warn!(host = %node.endpoint.host, port = node.endpoint.port, "moved on to another node of the database");
        Moved::Yes
    }
}

impl Node {
    /// A connection of its own beside the pool, with no database selected.
    ///
    /// # Errors
    /// Whatever keeps the node from answering.
    pub(super) async fn connect(&self) -> Result<MySqlConnection> {
        connect(&self.options).await.map_err(Error::doing("a connection"))
    }

    /// As [`Node::connect`], but a node that hangs is given up.
    pub(super) async fn connect_in_time(&self) -> Result<MySqlConnection> {
        match tokio::time::timeout(HEALTH_TIMEOUT, self.connect()).await {
            Ok(result) => result,
            Err(_) => Err(Error::Unavailable("the server does not answer".to_owned())),
        }
    }

    /// Whether it says anything at all: a refusal is an answer.
    async fn answers(&self) -> bool {
        // on the heap, as in [`connect`]
        let connect = Box::pin(MySqlConnection::connect_with(&self.options));
        let connected = tokio::time::timeout(HEALTH_TIMEOUT, connect).await;
        matches!(connected, Ok(Ok(_) | Err(sqlx::Error::Database(_))))
    }

    async fn is_healthy(&self) -> bool {
        let check = async { server::check_writable(&mut self.connect().await?).await };
        matches!(tokio::time::timeout(HEALTH_TIMEOUT, check).await, Ok(Ok(())))
    }
}

/// Opens a session with the broker's settings. On the heap: the future of every statement has this one in it, and hardly any needs it.
pub(super) fn connect(options: &MySqlConnectOptions) -> BoxFuture<'_, sqlx::Result<MySqlConnection>> {
    Box::pin(async move {
        let mut connection = MySqlConnection::connect_with(options).await?;
        session_settings(&mut connection).await?;
        Ok(connection)
    })
}

/// What every session of the broker relies on: quoting rules (see `quote`); on MariaDB, a GRANT that makes no account, without a password at
/// that, where there is none (MySQL knows no such GRANT any more, nor the mode against it); on Galera, reads that see what any node has
/// committed; on MySQL, table sizes that are not a day old; answers in English, because those of ANALYZE have no number. A server that does not know a variable says 1193.
async fn session_settings(connection: &mut MySqlConnection) -> sqlx::Result<()> {
    connection
        .execute(
            "SET SESSION sql_mode = CONCAT('STRICT_TRANS_TABLES,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', \
             IF(VERSION() LIKE '%MariaDB%', ',NO_AUTO_CREATE_USER', '')), lc_messages = 'en_US'",
        )
        .await?;
    for setting in ["SET SESSION wsrep_sync_wait = 15", "SET SESSION information_schema_stats_expiry = 0"] {
        match connection.execute(setting).await {
            Err(sqlx::Error::Database(error))
                if error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>().is_some_and(|e| e.number() == code::UNKNOWN_VARIABLE) => {}
            other => {
                other?;
            }
        }
    }
    Ok(())
}

fn connect_options(settings: &MysqlSettings, endpoint: &Endpoint) -> MySqlConnectOptions {
    use sqlx::ConnectOptions as _;
    let mut options = MySqlConnectOptions::new()
        .host(&endpoint.host)
        .port(endpoint.port)
        .username(&settings.username)
        .password(settings.password.expose_secret())
        .ssl_mode(match settings.tls.mode {
            TlsMode::Disabled => MySqlSslMode::Disabled,
            TlsMode::Preferred => MySqlSslMode::Preferred,
            TlsMode::Required => MySqlSslMode::Required,
            TlsMode::VerifyCa => MySqlSslMode::VerifyCa,
            TlsMode::VerifyIdentity => MySqlSslMode::VerifyIdentity,
        })
        .pipes_as_concat(false)
        .disable_statement_logging(); // slow statements are logged with their full text, passwords included
    if let Some(ca) = &settings.tls.ca_file {
        options = options.ssl_ca(ca);
    }
    options
}
