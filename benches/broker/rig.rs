//! What is measured: a private server as it ships (every commit synced), and broker processes on it.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use cf_mysql_broker::domain::credentials::Endpoint;
use cf_mysql_broker::domain::names::random_hex;
use cf_mysql_broker::local_server::{Flavor, LocalServer, Options, Program};
use cf_mysql_broker::mysql::operator_accounts::{self, OperatorAccounts};
use secrecy::SecretString;
use serde_json::json;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, MySqlConnection};
use tempfile::TempDir;

use crate::http::Http;
use crate::options::Arguments;
use crate::raw::Raw;

pub const SERVICE: &str = "44b26033-1f54-4087-b7bc-da9652c2a539";
pub const PLAN: &str = "ab08f1bc-e6fc-4b56-a767-ee0fea6e3f20";
pub const PLAN_MB: u64 = 1;
pub const PLAN_BYTES: u64 = PLAN_MB << 20;
pub const CONNECTION_LIMIT: u32 = 10;
pub const LEASE: f64 = 30.0;
pub const ORGANIZATION: &str = "bf7eb420-11e5-11ea-b7db-4b5d5e7976a9";
pub const SPACE: &str = "e1b0a5a2-11e5-11ea-a7f4-5fdb6bf2ea19";
/// As Cloud Foundry sends it.
pub const CONTEXT: &str = r#"{"instance_name":"orders-db","organization_guid":"bf7eb420-11e5-11ea-b7db-4b5d5e7976a9","organization_name":"shop","platform":"cloudfoundry","space_guid":"e1b0a5a2-11e5-11ea-a7f4-5fdb6bf2ea19","space_name":"production"}"#;
/// Plenty: capacity is counted, not tested.
const DISK_MB: u64 = 50_000;
const DATABASE: &str = "mysql_broker";
const ACCOUNT: &str = "broker";
const ENFORCER: &str = "enforcer";
/// How long a broker may take to become ready.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Rig {
    pub server: LocalServer,
    pub endpoint: Endpoint,
    pub file_system: String,
    root_password: String,
    mysql_password: String,
    authorization: String,
    program: PathBuf,
    config: PathBuf,
    directory: TempDir,
}

/// A broker process; killed when dropped.
pub struct BrokerProcess {
    child: Child,
    pub port: u16,
    log: PathBuf,
}

impl Rig {
    pub async fn start(arguments: &Arguments) -> Self {
        let parent = arguments.data_dir.clone().unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
        let directory = tempfile::Builder::new().prefix("bench-").tempdir_in(parent).expect("a directory");
        let program = Program::find(Some(arguments.server.into())).unwrap_or_else(|error| panic!("{error}"));
        let (root_password, mysql_password, admin) = (random_hex(8), random_hex(16), random_hex(16));
        let options = Options {
            // not the directory for temporary files: that may be in memory, where a sync costs nothing
            data_dir: Some(directory.path().join("server")),
            root_password: Some(root_password.clone()),
            durable: true,
            extra_args: vec!["--innodb-print-all-deadlocks=ON".to_owned()],
            ..Options::default()
        };
        let server = LocalServer::start(&program, options).await.unwrap_or_else(|error| panic!("{error}"));
        let endpoint = Endpoint { host: server.host().to_owned(), port: server.port() };
        let (broker, enforcer) = (SecretString::from(mysql_password.clone()), SecretString::from(random_hex(16)));
        let accounts = OperatorAccounts { broker: (ACCOUNT, &broker), enforcer: (ENFORCER, &enforcer), database: DATABASE };
        operator_accounts::create(&endpoint, &SecretString::from(root_password.clone()), &accounts).await.expect("accounts");
        let settings = json!({
            "server": {"bind_address": "127.0.0.1", "operation_lease": LEASE, "credentials": [{"username": "admin", "password": admin}]},
            "mysql": {"hosts": [format!("{}:{}", endpoint.host, endpoint.port)], "username": ACCOUNT, "password": mysql_password,
                      "database": DATABASE, "max_connections": arguments.connections},
            "capacity": {"persistent_disk": DISK_MB, "gcache_size": 0, "overhead": 0, "per_instance": 0},
            "quota_enforcer": {"enabled": false, "username": ENFORCER, "password": secrecy::ExposeSecret::expose_secret(&enforcer)},
            "bindings": {"secrets": [{"id": "first", "key": random_hex(32)}]},
            "services": [{"id": SERVICE, "name": "p-mysql", "description": "MySQL", "tags": ["mysql"], "plans": [
                {"id": PLAN, "name": "small", "description": "1 MB", "max_storage_mb": PLAN_MB, "max_user_connections": CONNECTION_LIMIT},
                {"id": "5e7a6d3f-0e5c-4d8a-9a55-4ad6d7a6dc4f", "name": "large", "description": "1 GB", "max_storage_mb": 1000}]}],
        });
        let config = directory.path().join("settings.json");
        std::fs::write(&config, settings.to_string()).expect("a file");
        Self {
            file_system: file_system(directory.path()),
            authorization: base64::engine::general_purpose::STANDARD.encode(format!("admin:{admin}")),
            program: arguments.broker.clone().unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_cf-mysql-broker"))),
            server,
            endpoint,
            root_password,
            mysql_password,
            config,
            directory,
        }
    }

    pub fn is_mariadb(&self) -> bool {
        self.server.flavor() == Flavor::MariaDb
    }

    /// The broker's statements without the broker.
    pub fn raw(&self) -> Raw {
        Raw::new(&self.endpoint, ACCOUNT, &self.mysql_password, DATABASE, self.is_mariadb(), DISK_MB << 20)
    }

    /// Starts a broker and waits until it is ready. The time from exec to the first good answer of /ready.
    pub async fn broker(&self, enforcer: bool) -> (BrokerProcess, Duration) {
        // asked and let go: nobody else on a measuring machine takes it in between
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a port").port();
        let log = self.directory.path().join(format!("broker-{port}.log"));
        let output = std::fs::File::create(&log).expect("a file");
        let started = Instant::now();
        let child = Command::new(&self.program)
            .args(["serve".as_ref(), "--config".as_ref(), self.config.as_os_str()])
            .env("CF_MYSQL_BROKER__SERVER__PORT", port.to_string())
            .env("CF_MYSQL_BROKER__QUOTA_ENFORCER__ENABLED", enforcer.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .expect("a broker");
        let mut broker = BrokerProcess { child, port, log };
        loop {
            if let Ok(mut http) = Http::connect(port).await
                && matches!(http.send(b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n").await, Ok((200, _)))
            {
                return (broker, started.elapsed());
            }
            let ended = broker.child.try_wait().expect("a state");
            assert!(ended.is_none() && started.elapsed() < PATIENCE, "the broker is not ready; its log:\n{}", broker.log());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// A request with everything a platform sends.
    pub fn request(&self, method: &str, path: &str, body: &str) -> Vec<u8> {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {}\r\nX-Broker-API-Version: 2.17\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.authorization,
            body.len()
        )
        .into_bytes()
    }

    pub async fn root(&self) -> MySqlConnection {
        MySqlConnectOptions::new()
            .host(&self.endpoint.host)
            .port(self.endpoint.port)
            .username("root")
            .password(&self.root_password)
            .database(DATABASE)
            .disable_statement_logging()
            .connect()
            .await
            .expect("a connection of root")
    }

    /// Rows of instances that are ready, with their part of the counter. There are no databases behind them: no verb looks
    /// at any database but its own.
    pub async fn seed(&self, instances: u64) {
        let mut root = self.root().await;
        let mut left = instances;
        while left > 0 {
            let rows = left.min(1000);
            let values: Vec<String> = (0..rows)
                .map(|_| {
                    let id = uuid::Uuid::new_v4();
                    let database = format!("cf_{}_00000000", id.to_string().replace('-', "_"));
                    format!("('{id}','{SERVICE}','{PLAN}',{PLAN_MB},'{database}','{ORGANIZATION}','{SPACE}','{CONTEXT}','ready',{PLAN_BYTES},UTC_TIMESTAMP(6),UTC_TIMESTAMP(6))")
                })
                .collect();
            let insert = format!(
                "INSERT INTO service_instances (guid, service_guid, plan_guid, max_storage_mb, db_name, organization_guid, space_guid, context, state, \
                 reserved_bytes, created_at, updated_at) VALUES {}",
                values.join(",")
            );
            let take = format!("UPDATE capacity SET reserved_bytes = reserved_bytes + {}", rows * PLAN_BYTES);
            for statement in [insert, take] {
                sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut root).await.expect("rows");
            }
            left -= rows;
        }
    }

    /// Whether the counter is the sum of the rows: what was measured must have been right, too.
    pub async fn is_consistent(&self) -> bool {
        let query =
            "SELECT CAST(c.reserved_bytes = (SELECT COALESCE(SUM(reserved_bytes), 0) FROM service_instances) AS SIGNED) FROM capacity c";
        sqlx::query_scalar::<_, i64>(query).fetch_one(&mut self.root().await).await.expect("a sum") == 1
    }
}

impl BrokerProcess {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The kind of file system under a path.
fn file_system(path: &std::path::Path) -> String {
    let path = path.canonicalize().expect("a path");
    let Ok(disks) = sysinfo::Disks::new_with_refreshed_list() else { return "unknown".to_owned() };
    disks
        .iter()
        .filter(|disk| path.starts_with(disk.mount_point()))
        .max_by_key(|disk| disk.mount_point().components().count())
        .map_or_else(|| "unknown".to_owned(), |disk| disk.file_system().to_string_lossy().into_owned())
}
