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
    /// The process behind it.
    pub process: LocalServer,
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

fn flavor() -> Flavor {
    match std::env::var("CF_MYSQL_BROKER_TEST_SERVER").as_deref() {
        Err(_) | Ok("mariadb") => Flavor::MariaDb,
        Ok("mysql") => Flavor::MySql,
        Ok(other) => panic!("CF_MYSQL_BROKER_TEST_SERVER must be mariadb or mysql, not {other}"),
    }
}

/// Whether this suite runs against MariaDB.
pub fn is_mariadb() -> bool {
    flavor() == Flavor::MariaDb
}

/// The server of all tests of this process; it ends with the process.
pub fn shared_server() -> &'static TestServer {
    static SERVER: OnceLock<TestServer> = OnceLock::new();
    SERVER.get_or_init(|| {
        // a runtime of its own: the first test's ends with that test
        let server = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(start(false))
        });
        let server = server.join().expect("a server");
        eprintln!("suite: {} {}", server.process.flavor(), server.process.version());
        server
    })
}

/// A server for one test that stops, freezes or kills it.
pub async fn own_server() -> TestServer {
    start(true).await
}

async fn start(durable: bool) -> TestServer {
    let program = Program::find(Some(flavor())).unwrap_or_else(|error| panic!("{error}"));
    let root_password = cf_mysql_broker::domain::names::random_hex(8);
    let options = Options {
        seed: Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("seed")),
        root_password: Some(root_password.clone()),
        durable,
        extra_args: vec!["--max-connections=1000".to_owned()],
        ..Options::default()
    };
    let process = LocalServer::start(&program, options).await.unwrap_or_else(|error| panic!("{error}"));
    TestServer { endpoint: Endpoint { host: process.host().to_owned(), port: process.port() }, root_password, process }
}
