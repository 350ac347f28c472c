//! A test's own corner of the server: schema, accounts, settings, brokers.

use std::path::PathBuf;

use cf_mysql_broker::domain::credentials::Endpoint;
use cf_mysql_broker::mysql::app_session::AppSession;
use cf_mysql_broker::mysql::operator_accounts::{self, OperatorAccounts};
use secrecy::SecretString;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, MySqlConnection};
use tempfile::TempDir;

use super::osb::Osb;
use super::server::TestServer;
use super::{BrokerProcess, eventually, shared_server, unique};

/// The user of the broker's API.
pub const ADMIN: &str = "admin";
/// The offering.
pub const SERVICE: &str = "service-1";
/// 5 MB, 10 connections.
pub const PLAN_SMALL: &str = "plan-small";
/// 20 MB, 7 connections.
pub const PLAN_LARGE: &str = "plan-large";
/// 5 MB, cannot be changed to another plan, has a maintenance version.
pub const PLAN_FIXED: &str = "plan-fixed";

/// What a test wants differently.
#[derive(Debug, Clone)]
pub struct BedOptions {
    /// How many brokers.
    pub brokers: usize,
    /// What is for sale of the pretended disk, in MB.
    pub sellable_mb: u64,
    /// This test looks at one process: no second broker joins it, whatever the environment says.
    pub alone: bool,
    /// Whether the brokers enforce quotas.
    pub enforce: bool,
    /// Merged into the settings.
    pub settings: Value,
}

impl Default for BedOptions {
    fn default() -> Self {
        Self { brokers: 1, sellable_mb: 10_000, alone: false, enforce: false, settings: json!({}) }
    }
}

/// A test's own corner of a server.
pub struct Bed {
    /// Where the server is.
    pub server: Endpoint,
    root_password: String,
    /// The broker's own database.
    pub database: String,
    /// The broker's account.
    pub account: String,
    /// The enforcer's account.
    pub enforcer_account: String,
    /// Every secret that was configured.
    pub secrets: Vec<String>,
    /// The settings file.
    pub config: PathBuf,
    /// The brokers.
    pub brokers: Vec<BrokerProcess>,
    /// A client of each broker.
    pub clients: Vec<Osb>,
    _directory: TempDir,
}

impl Bed {
    /// One broker on the suite's server.
    pub async fn new() -> Self {
        Self::with(BedOptions::default()).await
    }

    /// One broker on the suite's server, for a test that looks at its process.
    pub async fn alone() -> Self {
        Self::with(BedOptions { alone: true, ..BedOptions::default() }).await
    }

    /// On the suite's server.
    pub async fn with(options: BedOptions) -> Self {
        Self::on(shared_server(), options).await
    }

    /// On a server of the test's own. Returns when every broker is ready.
    pub async fn on(server: &TestServer, options: BedOptions) -> Self {
        let mut bed = Self::prepare(server, &options).await;
        // with several brokers the first client asks them in turn, as behind a router
        let behind_a_router = if options.alone || options.brokers != 1 { 0 } else { brokers_behind_a_router() };
        for _ in 0..options.brokers.max(behind_a_router) {
            bed.start_broker().await;
        }
        bed.all_ready().await;
        if behind_a_router > 1 {
            let urls = bed.clients.iter().map(|client| client.url.clone()).collect();
            bed.clients[0] = bed.clients[0].clone().in_turn(urls);
        }
        bed
    }

    /// Returns when every broker is ready.
    pub async fn all_ready(&self) {
        for client in &self.clients {
            eventually("the broker is ready", async || {
                (client.send(client.bare(reqwest::Method::GET, "/ready")).await.status == 200).then_some(())
            })
            .await;
        }
    }

    /// Accounts and settings, no broker yet.
    pub async fn prepare(server: &TestServer, options: &BedOptions) -> Self {
        let word = unique();
        let secret = |what: &str| format!("{what}-secret-{}", cf_mysql_broker::domain::names::random_hex(12));
        let (admin, mysql, enforcer, key) = (secret("admin"), secret("mysql"), secret("enforcer"), secret("binding"));
        let (database, account, enforcer_account) = (format!("mysql_broker_{word}"), format!("broker-{word}"), format!("enforcer-{word}"));
        let accounts = OperatorAccounts {
            broker: (&account, &SecretString::from(mysql.clone())),
            enforcer: (&enforcer_account, &SecretString::from(enforcer.clone())),
            database: &database,
        };
        operator_accounts::create(&server.endpoint, &SecretString::from(server.root_password.clone()), &accounts).await.expect("accounts");
        let plan = |id: &str, mb: u64, connections: u64| json!({"id": id, "name": id, "description": format!("{mb} MB"), "max_storage_mb": mb, "max_user_connections": connections});
        let mut fixed = plan(PLAN_FIXED, 5, 10);
        fixed["plan_updateable"] = false.into();
        fixed["maintenance_info"] = json!({"version": "1.2.3", "description": "first"});
        let mut settings = json!({
            "server": {"bind_address": "127.0.0.1", "port": 0, "operation_lease": 30,
                       "credentials": [{"username": ADMIN, "password": admin, "platform": "test"}]},
            "mysql": {"hosts": server.hosts(), "username": account, "password": mysql, "database": database},
            "capacity": {"persistent_disk": options.sellable_mb, "gcache_size": 0, "overhead": 0, "per_instance": 0},
            "quota_enforcer": {"enabled": options.enforce, "username": enforcer_account, "password": enforcer},
            "bindings": {"secrets": [{"id": "first", "key": key}]},
            "services": [{"id": SERVICE, "name": "p-mysql", "description": "MySQL", "tags": ["mysql"],
                          "plans": [plan(PLAN_SMALL, 5, 10), plan(PLAN_LARGE, 20, 7), fixed]}],
            "logging": {"level": "debug"},
        });
        if !server.others.is_empty() {
            // tests of bindings look for one address
            settings["mysql"]["advertised_hosts"] = json!([format!("{}:{}", server.endpoint.host, server.endpoint.port)]);
        }
        merge(&mut settings, &options.settings);
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("settings.json");
        std::fs::write(&config, settings.to_string()).expect("a file");
        Self {
            server: server.endpoint.clone(),
            root_password: server.root_password.clone(),
            database,
            account,
            enforcer_account,
            secrets: vec![admin, mysql, enforcer, key],
            config,
            brokers: Vec::new(),
            clients: Vec::new(),
            _directory: directory,
        }
    }

    /// The same accounts and schema on a second server.
    pub async fn also_on(&self, server: &TestServer) {
        let (mysql, enforcer) = (SecretString::from(self.secrets[1].clone()), SecretString::from(self.secrets[2].clone()));
        let accounts =
            OperatorAccounts { broker: (&self.account, &mysql), enforcer: (&self.enforcer_account, &enforcer), database: &self.database };
        operator_accounts::create(&server.endpoint, &SecretString::from(server.root_password.clone()), &accounts).await.expect("accounts");
        let hosts = format!("[\"127.0.0.1:{}\"]", server.endpoint.port);
        let arguments = ["migrate".as_ref(), "--config".as_ref(), self.config.as_os_str()];
        let (code, _, stderr) = super::broker::run(&arguments, &[("CF_MYSQL_BROKER__MYSQL__HOSTS", &hosts)]);
        assert_eq!(code, 0, "{stderr}");
    }

    /// Starts one more broker and waits until it listens.
    pub async fn start_broker(&mut self) {
        let mut broker = BrokerProcess::start("serve", &self.config);
        let port = broker.port().await;
        self.brokers.push(broker);
        self.clients.push(Osb::new(format!("http://127.0.0.1:{port}"), self.secrets[0].clone()));
    }

    /// A client of the first broker.
    pub fn osb(&self) -> &Osb {
        &self.clients[0]
    }

    /// Changes the settings file.
    pub fn change_settings(&self, change: &Value) {
        let mut settings: Value = serde_json::from_str(&std::fs::read_to_string(&self.config).expect("a file")).expect("JSON");
        merge(&mut settings, change);
        std::fs::write(&self.config, settings.to_string()).expect("a file");
    }

    /// A connection with all rights, with the broker's database selected.
    pub async fn root(&self) -> MySqlConnection {
        let mut root = super::server::connect(&self.server, "root", &self.root_password).await.expect("a connection of root");
        // on a cluster: what any node has committed; elsewhere there is no such variable
        let _ = sqlx::raw_sql("SET SESSION wsrep_sync_wait = 15").execute(&mut root).await;
        // not there before the first migration
        let _ = sqlx::raw_sql(AssertSqlSafe(format!("USE {}", self.database))).execute(&mut root).await;
        root
    }

    /// One number, asked by root.
    pub async fn number(&self, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(format!("SELECT CAST(({query}) AS SIGNED)")))
            .fetch_one(&mut self.root().await)
            .await
            .expect("a number")
    }

    /// A statement of root.
    pub async fn execute(&self, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut self.root().await).await.expect("a statement");
    }

    /// Ends every session of a user: a session keeps the global rights it began with.
    pub async fn end_sessions(&self, user: &str) {
        let query = "SELECT CAST(ID AS UNSIGNED) FROM information_schema.PROCESSLIST WHERE USER = ?";
        let sessions: Vec<u64> = sqlx::query_scalar(query).bind(user).fetch_all(&mut self.root().await).await.expect("a process list");
        for id in sessions {
            let _ = sqlx::raw_sql(AssertSqlSafe(format!("KILL {id}"))).execute(&mut self.root().await).await;
        }
    }

    /// Waits until a broker waits for the counter's row, which somebody has locked.
    pub async fn reservation_waits(&self) {
        let waiting =
            format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = '{}' AND INFO LIKE 'UPDATE capacity%'", self.account);
        eventually("a reservation waits", async || (self.number(&waiting).await > 0).then_some(())).await;
    }

    /// Locks the counter's row until the transaction of the connection ends: a provision hangs in its reservation.
    pub async fn hold_the_counter(&self) -> MySqlConnection {
        let mut root = self.root().await;
        sqlx::raw_sql("START TRANSACTION; SELECT * FROM capacity FOR UPDATE").execute(&mut root).await.expect("a lock");
        root
    }

    /// The database of an instance.
    pub async fn database_of(&self, id: &str) -> String {
        sqlx::query_scalar("SELECT db_name FROM service_instances WHERE guid = ?")
            .bind(id)
            .fetch_one(&mut self.root().await)
            .await
            .expect("an instance")
    }

    /// How many databases of this name there are.
    pub async fn databases(&self, name: &str) -> i64 {
        self.number(&format!("SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = '{name}'")).await
    }

    /// How many accounts of this name there are.
    pub async fn accounts(&self, name: &str) -> i64 {
        self.number(&format!("SELECT COUNT(*) FROM mysql.user WHERE User = '{name}'")).await
    }

    /// Asserts that the counter is the sum of the rows, and hands it back in MB. Both are read at once: somebody may commit.
    pub async fn reserved_mb(&self) -> i64 {
        let query = "SELECT CAST(reserved_bytes AS SIGNED), \
                     CAST((SELECT COALESCE(SUM(reserved_bytes), 0) FROM service_instances) AS SIGNED) FROM capacity";
        let (reserved, sum): (i64, i64) = sqlx::query_as(query).fetch_one(&mut self.root().await).await.expect("two numbers");
        assert_eq!(reserved, sum, "the counter is the sum of the rows");
        sum >> 20
    }
}

/// A session with the credentials of a binding's answer.
pub async fn app(answer: &Value) -> cf_mysql_broker::mysql::Result<AppSession> {
    let credentials = &answer["credentials"];
    let text = |key: &str| credentials[key].as_str().unwrap_or_else(|| panic!("{key} in {credentials}")).to_owned();
    let endpoint = Endpoint { host: text("hostname"), port: u16::try_from(credentials["port"].as_u64().expect("a port")).expect("a port") };
    AppSession::connect(&endpoint, &text("username"), &text("password"), &text("name")).await
}

/// Runs a statement that can be repeated and frees space, as an app beside an enforcer at work, which may end any session: one that is
/// older than it knows, or, as soon as there is room, this one, maybe before it has its answer.
pub async fn make_room(answer: &Value, statement: &str) {
    eventually("there is room", async || match app(answer).await.ok()?.execute(statement).await {
        Ok(_) => Some(()),
        Err(cf_mysql_broker::mysql::Error::ConnectionLost(_)) => None,
        Err(error) => panic!("{statement}: {error}"),
    })
    .await;
}

/// `CF_MYSQL_BROKER_TEST_BROKERS`: how many brokers answer a test that asks for one.
fn brokers_behind_a_router() -> usize {
    std::env::var("CF_MYSQL_BROKER_TEST_BROKERS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}
