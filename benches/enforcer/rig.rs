//! What is measured: a private server with many databases, and an enforcer process on it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use cf_mysql_broker::domain::credentials::Endpoint;
use cf_mysql_broker::domain::names::random_hex;
use cf_mysql_broker::enforcer::Enforcer;
use cf_mysql_broker::local_server::{Flavor, LocalServer, Options, Program};
use cf_mysql_broker::mysql::operator_accounts::{self, OperatorAccounts};
use cf_mysql_broker::mysql::{Mysql, schema};
use cf_mysql_broker::settings::{Settings, SharedSettings};
use futures_util::future::join_all;
use indicatif::{ProgressBar, ProgressStyle};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, MySqlConnection};
use tempfile::TempDir;

use crate::Arguments;

const DATABASE: &str = "mysql_broker";
/// Of every instance.
const QUOTA_MB: u64 = 10;
/// How many connections seed.
const SEEDERS: usize = 4;

static MARIADB: OnceLock<bool> = OnceLock::new();

/// Whether this run is on MariaDB.
pub fn is_mariadb() -> bool {
    MARIADB.get().copied().unwrap_or(true)
}

/// Who connects as root.
#[derive(Clone)]
pub struct Connector {
    endpoint: Endpoint,
    root_password: String,
}

impl Connector {
    pub async fn root(&self) -> MySqlConnection {
        let mut root = connect(&self.endpoint, "root", &self.root_password).await.expect("root");
        run(&mut root, &format!("CREATE DATABASE IF NOT EXISTS {DATABASE}; USE {DATABASE}")).await;
        root
    }

    /// As [`Connector::root`], with a limit for each query; on MySQL with sizes that are not a day old.
    pub async fn impatient_root(&self, seconds: u64) -> MySqlConnection {
        let mut root = self.root().await;
        let limit = if is_mariadb() {
            format!("SET SESSION max_statement_time = {seconds}")
        } else {
            format!("SET SESSION max_execution_time = {}, information_schema_stats_expiry = 0", seconds * 1000)
        };
        run(&mut root, &limit).await;
        root
    }
}

pub struct Rig {
    server: LocalServer,
    connector: Connector,
    config: PathBuf,
    settings: SharedSettings,
    seeded: usize,
    _directory: TempDir,
}

impl Rig {
    pub async fn start(arguments: &Arguments) -> Self {
        let flavor = Flavor::from(arguments.server);
        let _ = MARIADB.set(flavor == Flavor::MariaDb);
        let parent = arguments.data_dir.clone().unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
        let directory = tempfile::Builder::new().prefix("bench-").tempdir_in(parent).expect("a directory");
        let program = Program::find(Some(flavor)).unwrap_or_else(|error| panic!("{error}"));
        let root_password = random_hex(8);
        let options = Options {
            data_dir: Some(directory.path().join("server")),
            root_password: Some(root_password.clone()),
            // what is measured does not sync; seeding would take hours
            durable: false,
            extra_args: vec!["--innodb-buffer-pool-size=512M".to_owned(), "--max-connections=200".to_owned()],
            ..Options::default()
        };
        let server = LocalServer::start(&program, options).await.unwrap_or_else(|error| panic!("{error}"));
        let endpoint = Endpoint { host: server.host().to_owned(), port: server.port() };
        let (broker, enforcer) = (SecretString::from(random_hex(16)), SecretString::from(random_hex(16)));
        let accounts = OperatorAccounts { broker: ("broker", &broker), enforcer: ("enforcer", &enforcer), database: DATABASE };
        operator_accounts::create(&endpoint, &SecretString::from(root_password.clone()), &accounts).await.expect("accounts");
        let settings = json!({
            "server": {"credentials": [{"username": "admin", "password": random_hex(16)}]},
            "mysql": {"hosts": [format!("{}:{}", endpoint.host, endpoint.port)], "username": "broker", "password": broker.expose_secret(),
                      "database": DATABASE},
            "capacity": {"persistent_disk": 1_000_000, "gcache_size": 0, "overhead": 0, "per_instance": 0},
            "quota_enforcer": {"username": "enforcer", "password": enforcer.expose_secret()},
            "bindings": {"secrets": [{"id": "first", "key": random_hex(32)}]},
            "services": [{"id": "service", "name": "p-mysql", "description": "MySQL", "plans": [
                {"id": "plan", "name": "small", "description": "10 MB", "max_storage_mb": QUOTA_MB}]}],
            "logging": {"level": "info"},
        });
        let config = directory.path().join("settings.json");
        std::fs::write(&config, settings.to_string()).expect("a file");
        let settings = Settings::load(Some(&config), []).unwrap_or_else(|problems| panic!("{problems}"));
        let connector = Connector { endpoint, root_password };
        schema::migrate(&Mysql::new(&settings.mysql), 0).await.expect("a schema");
        Self {
            server,
            connector,
            config,
            settings: SharedSettings::new(arc_swap::ArcSwap::from_pointee(settings)),
            seeded: 0,
            _directory: directory,
        }
    }

    pub fn connector(&self) -> Connector {
        self.connector.clone()
    }

    pub async fn root(&self) -> MySqlConnection {
        self.connector.root().await
    }

    /// An enforcer in this process.
    pub fn enforcer(&self) -> Enforcer {
        Enforcer::new(Mysql::new(&self.settings.load().enforcer_mysql()), self.settings.clone())
    }

    /// Databases with tables, a little data, and an account each, up to `databases`.
    pub async fn seed(&mut self, databases: usize, tables: usize) {
        let bar = ProgressBar::new((databases - self.seeded) as u64);
        bar.set_style(ProgressStyle::with_template("seeding {bar:40} {pos}/{len} databases, {eta} to go").expect("a template"));
        let numbers: Vec<usize> = (self.seeded..databases).collect();
        let seeders = numbers.chunks(numbers.len().div_ceil(SEEDERS).max(1)).map(|numbers| {
            let (connector, bar) = (self.connector(), bar.clone());
            async move {
                let mut root = connector.root().await;
                for number in numbers {
                    let database = format!("cf_seed_{number}");
                    let mut statements = format!("CREATE DATABASE `{database}`; USE `{database}`; ");
                    for table in 0..tables {
                        statements.push_str(&format!("CREATE TABLE t{table} (id INT PRIMARY KEY, body VARCHAR(100), KEY (body)); "));
                    }
                    statements.push_str(&format!(
                        "INSERT INTO t0 VALUES (1, 'x'); CREATE USER 'u{number}'@'%' IDENTIFIED BY 'pw'; \
                         GRANT ALL ON `{}`.* TO 'u{number}'@'%'; INSERT INTO {DATABASE}.service_instances (guid, plan_guid, max_storage_mb, db_name) \
                         VALUES ('{number}', 'plan', {QUOTA_MB}, '{database}')",
                        database.replace('_', "\\_")
                    ));
                    run(&mut root, &statements).await;
                    bar.inc(1);
                }
            }
        });
        join_all(seeders).await;
        bar.finish_and_clear();
        self.seeded = databases;
        // a young MySQL makes a page with each transaction, until each of its rollback segments has one; whoever is in use has them
        let mut root = self.root().await;
        for _ in 0..600 {
            run(&mut root, "UPDATE leader SET until = until + INTERVAL 1 MICROSECOND WHERE id = 1").await;
        }
        // what creating them left to do must not be measured
        tokio::time::sleep(Duration::from_secs(5)).await;
    }

    /// A database that is about to be filled, and its quota in bytes.
    pub async fn victim(&self) -> (String, u64) {
        let database = format!("cf_seed_{}", self.seeded / 2);
        run(&mut self.root().await, &format!("CREATE TABLE `{database}`.w (id INT AUTO_INCREMENT PRIMARY KEY, body LONGBLOB)")).await;
        (database, QUOTA_MB << 20)
    }

    /// As it was before, but for rights.
    pub async fn drop_what_was_written(&self, database: &str) {
        run(&mut self.root().await, &format!("DROP TABLE `{database}`.w")).await;
    }

    /// Waits until our enforcer has given rights back.
    pub async fn writing_is_given_back(&self) {
        let mut root = self.root().await;
        while sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM quota_violations").fetch_one(&mut root).await.expect("a count") > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What a naive one would do a pass later.
    pub async fn give_back_writing(&self, database: &str) {
        let number = self.seeded / 2;
        run(&mut self.root().await, &format!("GRANT ALL ON `{}`.* TO 'u{number}'@'%'", database.replace('_', "\\_"))).await;
    }

    pub async fn tenant(&self, database: &str) -> MySqlConnection {
        let number = self.seeded / 2;
        let mut tenant = connect(&self.connector.endpoint, &format!("u{number}"), "pw").await.expect("a tenant");
        run(&mut tenant, &format!("USE `{database}`")).await;
        tenant
    }

    /// Processor seconds the server has used.
    pub fn cpu(&self) -> f64 {
        cpu_of(self.server.pid().expect("a server"))
    }

    /// Processor seconds a second that the server uses meanwhile.
    pub async fn burn(&self, time: Duration) -> f64 {
        let before = self.cpu();
        tokio::time::sleep(time).await;
        (self.cpu() - before) / time.as_secs_f64()
    }
}

/// The verb `quota-enforcer`; killed when dropped.
pub struct EnforcerProcess {
    child: Child,
}

impl EnforcerProcess {
    /// Starts it and waits until it leads and has seen everybody.
    pub async fn start(rig: &Rig) -> Self {
        let log = rig.config.with_file_name(format!("enforcer-{}.log", random_hex(4)));
        let child = Command::new(env!("CARGO_BIN_EXE_cf-mysql-broker"))
            .args(["quota-enforcer", "--config"])
            .arg(&rig.config)
            .env("CF_MYSQL_BROKER__LOGGING__LEVEL", "debug")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).expect("a file"))
            .spawn()
            .expect("an enforcer");
        let enforcer = Self { child };
        // the first pass that does not look at everybody comes after the last that had something to open
        while !std::fs::read_to_string(&log).expect("a log").contains("\\\"scanned\\\":false") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        enforcer
    }

    /// Processor seconds it has used.
    pub fn cpu(&self) -> f64 {
        cpu_of(self.child.id())
    }
}

impl Drop for EnforcerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system time of a process in seconds; a tick of /proc is 10 ms.
fn cpu_of(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // its name may hold anything, so count from the parenthesis behind it
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() * 0.01
}

async fn connect(endpoint: &Endpoint, user: &str, password: &str) -> sqlx::Result<MySqlConnection> {
    MySqlConnectOptions::new()
        .host(&endpoint.host)
        .port(endpoint.port)
        .username(user)
        .password(password)
        .disable_statement_logging()
        .connect()
        .await
}

async fn run(connection: &mut MySqlConnection, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(connection).await.expect("a statement");
}
