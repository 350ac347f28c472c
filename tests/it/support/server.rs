//! The database server of a suite.

use std::path::PathBuf;
use std::sync::OnceLock;

use cf_mysql_broker::domain::credentials::Endpoint;
use cf_mysql_broker::local_server::{Flavor, LocalServer, Options, Program};
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions as _, MySqlConnection};

/// A server with root's password.
pub struct TestServer {
    /// Host and port.
    pub endpoint: Endpoint,
    /// Root's password.
    pub root_password: String,
    /// The process behind it; of a cluster the first node.
    pub process: LocalServer,
    /// The other nodes of a cluster.
    pub others: Vec<LocalServer>,
}

impl TestServer {
    /// What a broker is told as `mysql.hosts`.
    pub fn hosts(&self) -> Vec<String> {
        std::iter::once(&self.process).chain(&self.others).map(|node| format!("{}:{}", node.host(), node.port())).collect()
    }

    /// Waits until every node is a member of the same cluster of three: one that was away may not know yet that it was.
    pub async fn all_synced(&self) {
        super::eventually("all nodes are synced", async || {
            let mut views = Vec::new();
            for node in std::iter::once(&self.process).chain(&self.others) {
                let mut view = Vec::new();
                for name in ["wsrep_local_state_comment", "wsrep_cluster_status", "wsrep_cluster_size", "wsrep_cluster_conf_id"] {
                    view.push(status(node, &self.root_password, name).await?);
                }
                views.push(view);
            }
            let well = views.iter().all(|view| view[..3] == ["Synced", "Primary", "3"] && view[3] == views[0][3]);
            well.then_some(())
        })
        .await;
    }

    /// A node of a cluster; 0 is the first.
    pub fn node(&mut self, index: usize) -> &mut LocalServer {
        if index == 0 { &mut self.process } else { &mut self.others[index - 1] }
    }
}

/// Connects as anybody.
pub async fn connect(endpoint: &Endpoint, user: &str, password: &str) -> sqlx::Result<MySqlConnection> {
    MySqlConnectOptions::new()
        .host(&endpoint.host)
        .port(endpoint.port)
        .username(user)
        .password(password)
        .disable_statement_logging()
        .connect()
        .await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Suite {
    MariaDb,
    MySql,
    Galera,
}

fn suite() -> Suite {
    match std::env::var("CF_MYSQL_BROKER_TEST_SERVER").as_deref() {
        Err(_) | Ok("mariadb") => Suite::MariaDb,
        Ok("mysql") => Suite::MySql,
        Ok("galera") => Suite::Galera,
        Ok(other) => panic!("CF_MYSQL_BROKER_TEST_SERVER must be mariadb, mysql or galera, not {other}"),
    }
}

/// Whether this suite runs against MariaDB, alone or as a cluster.
pub fn is_mariadb() -> bool {
    suite() != Suite::MySql
}

/// Whether this suite runs against a cluster of three nodes.
pub fn is_galera() -> bool {
    suite() == Suite::Galera
}

/// The server of all tests of this process; it ends with the process.
pub fn shared_server() -> &'static TestServer {
    static SERVER: OnceLock<TestServer> = OnceLock::new();
    SERVER.get_or_init(|| {
        // a runtime of its own: the first test's ends with that test
        let server = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async { if is_galera() { cluster().await } else { start(false, &[]).await } })
        });
        let server = server.join().expect("a server");
        eprintln!("suite: {} {}, nodes: {}", server.process.flavor(), server.process.version(), 1 + server.others.len());
        server
    })
}

/// A server for one test that stops, freezes or kills it: always a single one.
pub async fn own_server() -> TestServer {
    start(true, &[]).await
}

/// As [`own_server`], with more arguments.
pub async fn start_with(arguments: &[&str]) -> TestServer {
    start(true, arguments).await
}

async fn start(durable: bool, arguments: &[&str]) -> TestServer {
    let root_password = cf_mysql_broker::domain::names::random_hex(8);
    let extra_args = ["--max-connections=1000"].iter().chain(arguments).map(|&argument| argument.to_owned()).collect();
    let options = Options { durable, extra_args, ..options(&root_password) };
    let process = LocalServer::start(&program(), options).await.unwrap_or_else(|error| panic!("{error}"));
    TestServer { endpoint: endpoint(&process), root_password, process, others: Vec::new() }
}

fn program() -> Program {
    let flavor = if is_mariadb() { Flavor::MariaDb } else { Flavor::MySql };
    Program::find(Some(flavor)).unwrap_or_else(|error| panic!("{error}"))
}

fn options(root_password: &str) -> Options {
    Options {
        seed: Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("seed")),
        root_password: Some(root_password.to_owned()),
        ..Options::default()
    }
}

fn endpoint(process: &LocalServer) -> Endpoint {
    Endpoint { host: process.host().to_owned(), port: process.port() }
}

/// A Galera cluster of three nodes.
pub async fn cluster() -> TestServer {
    let root_password = cf_mysql_broker::domain::names::random_hex(8);
    let ports = free_ports(9);
    let mut nodes = Vec::new();
    for index in 0..3 {
        let options = Options {
            // rsync's state transfer refuses root
            user: Some("mysql".to_owned()),
            extra_args: galera_arguments(&ports, index, nodes.is_empty()),
            ..options(&root_password)
        };
        let mut node = LocalServer::start(&program(), options).await.unwrap_or_else(|error| panic!("node {index}: {error}"));
        // whenever it comes again it joins
        node.set_extra_args(galera_arguments(&ports, index, false));
        synced(&node, &root_password).await;
        nodes.push(node);
    }
    let process = nodes.remove(0);
    TestServer { endpoint: endpoint(&process), root_password, process, others: nodes }
}

/// Waits until a node is a working member of its cluster.
async fn synced(node: &LocalServer, root_password: &str) {
    super::eventually("the node is synced", async || {
        (status(node, root_password, "wsrep_local_state_comment").await? == "Synced").then_some(())
    })
    .await;
}

async fn status(node: &LocalServer, root_password: &str, name: &str) -> Option<String> {
    let mut root = connect(&endpoint(node), "root", root_password).await.ok()?;
    let query = sqlx::AssertSqlSafe(format!("SHOW STATUS LIKE '{name}'"));
    let row: Option<(String, String)> = sqlx::query_as(query).fetch_optional(&mut root).await.ok()?;
    Some(row?.1)
}

/// Ports nobody listens on at this moment.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("an address").port()).collect()
}

/// Three ports a node: of the group, of incremental and of full state transfer.
fn galera_arguments(ports: &[u16], index: usize, first: bool) -> Vec<String> {
    let [group, ist, sst] = [ports[3 * index], ports[3 * index + 1], ports[3 * index + 2]];
    let members: Vec<_> = (0..3).map(|node| format!("127.0.0.1:{}", ports[3 * node])).collect();
    let mut arguments = [
        "--max-connections=1000".to_owned(),
        "--binlog-format=ROW".to_owned(),
        // without it nobody but root makes triggers where there is a binary log, or a cluster
        "--log-bin-trust-function-creators=ON".to_owned(),
        "--innodb-flush-log-at-trx-commit=2".to_owned(),
        "--innodb-autoinc-lock-mode=2".to_owned(),
        "--wsrep-on=ON".to_owned(),
        "--wsrep-provider=/usr/lib/galera/libgalera_smm.so".to_owned(),
        "--wsrep-cluster-name=suite".to_owned(),
        format!("--wsrep-cluster-address=gcomm://{}", members.join(",")),
        format!("--wsrep-node-name=node{index}"),
        format!("--wsrep-node-address=127.0.0.1:{group}"),
        "--wsrep-sst-method=rsync".to_owned(),
        format!("--wsrep-sst-receive-address=127.0.0.1:{sst}"),
        "--wsrep-slave-threads=2".to_owned(),
        format!(
            "--wsrep-provider-options=base_host=127.0.0.1;base_port={group};gmcast.listen_addr=tcp://127.0.0.1:{group};ist.recv_addr=127.0.0.1:{ist};\
             gcache.size=16M;gcache.page_size=16M;pc.announce_timeout=PT0.3S;evs.join_retrans_period=PT0.2S;evs.inactive_check_period=PT0.2S;\
             evs.keepalive_period=PT0.3S;gmcast.time_wait=PT0.2S"
        ),
    ]
    .to_vec();
    if first {
        arguments.push("--wsrep-new-cluster".to_owned());
    }
    arguments
}
