//! A deployment of the base manifest on this machine: each instance's `/var/vcap` is a directory, its jobs are rendered from the
//! manifest, and what they say is done. What stands for bpm and monit is here, because they need root and a stemcell: it reads
//! the rendered `monit` and `bpm.yml`, starts what they say and stops it as bpm does (TERM, then 20 seconds).

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cf_mysql_broker::domain::names::random_hex;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, MySqlConnection};
use tempfile::TempDir;

use crate::support::bed::{PLAN_LARGE, PLAN_SMALL, SERVICE};
use crate::support::broker::PROGRAM;
use crate::support::server::{TestServer, connect};
use crate::support::{eventually, own_server};

/// What bpm waits between TERM and QUIT.
const BPM_PATIENCE: Duration = Duration::from_secs(20);
/// Ports below the range this machine gives to clients: one that was free stays free.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

pub fn bosh_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bosh")
}

pub fn tests_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bosh")
}

/// A port nobody listens on.
pub fn free_port() -> u16 {
    loop {
        let port = rand::random_range(PORTS);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Runs a tool to its end; without it the test fails and says how to get it.
pub fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}; run scripts/install-bosh-test-tools"))
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The renderer, which must succeed.
pub fn render(arguments: &[&str]) -> String {
    let output = run(Command::new("ruby").arg(bosh_folder().join("scripts/render-job.rb")).args(arguments));
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Every file below a folder by its path.
pub fn files(folder: &Path) -> BTreeMap<String, String> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                found.insert(path.strip_prefix(root).unwrap().display().to_string(), std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

/// Variables for the base manifest, those of CredHub included.
pub fn variables() -> Value {
    let mut variables = json!({
        "mysql_host": "127.0.0.1",
        "mysql_persistent_disk": 10_000,
        "broker_external_host": "127.0.0.1",
        "cf_api_url": "https://api.example.com",
        "cf_admin_password": format!("admin's {}", random_hex(12)),
        "cf_deployment_name": "cf",
        "nats_client_certificate": "-",
        "nats_client_private_key": "-",
    });
    for name in ["auth_password", "cookie_secret", "binding_secret", "db_password", "quota_enforcer_password"] {
        // a quote and a blank: what hand-made quoting gets wrong
        variables[format!("cf_mysql_broker_{name}")] = format!("it's {}", random_hex(20)).into();
    }
    variables
}

/// What a test wants differently from the base manifest.
#[derive(Default)]
pub struct Wishes {
    /// Ops files of the release, by their names.
    pub operations: Vec<&'static str>,
    /// More ops, as a value.
    pub more: Vec<Value>,
    /// Merged into the variables.
    pub variables: Value,
}

/// An operation on a property of job cf-mysql-broker.
pub fn set(property: &str, value: impl Into<Value>) -> Value {
    set_in("cf-mysql-broker", property, value)
}

/// An operation on a property of a job, whose instance group has its name.
pub fn set_in(job: &str, property: &str, value: impl Into<Value>) -> Value {
    let path = format!("/instance_groups/name={job}/jobs/name={job}/properties/{}?", property.replacen('.', "?/", 1).replace('.', "/"));
    json!({"type": "replace", "path": path, "value": value.into()})
}

/// What these tests sell: the ids the other suite's client sends, plans that are quickly full, one that is not for everybody, and
/// a second service.
pub fn services() -> Value {
    let plan = |id: &str, mb: u64| json!({"id": id, "name": id, "description": format!("{mb} MB"), "max_storage_mb": mb, "max_user_connections": 10});
    let mut hidden = plan("plan-hidden", 5);
    hidden["private"] = true.into();
    json!([
        {"id": SERVICE, "name": "p-mysql", "description": "MySQL", "plans": [plan(PLAN_SMALL, 5), plan(PLAN_LARGE, 20), hidden]},
        {"id": "service-2", "name": "p-mysql-2", "description": "MySQL", "plans": [plan("plan-other", 5)]},
    ])
}

/// A manifest with what is put into it, and the folder everything of it is in.
pub struct Deployment {
    folder: TempDir,
    operations: Vec<PathBuf>,
    pub variables: Value,
}

impl Deployment {
    pub fn new(wishes: &Wishes) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut variables = variables();
        if let Value::Object(more) = &wishes.variables {
            for (name, value) in more {
                variables[name] = value.clone();
            }
        }
        let mut operations: Vec<_> = wishes.operations.iter().map(|name| bosh_folder().join(format!("operations/{name}.yml"))).collect();
        let more = folder.path().join("more.json");
        std::fs::write(&more, Value::from(wishes.more.clone()).to_string()).unwrap();
        operations.push(more);
        std::fs::write(folder.path().join("variables.json"), variables.to_string()).unwrap();
        Self { folder, operations, variables }
    }

    /// One more ops file of the release.
    pub fn operate(&mut self, name: &str) {
        self.operations.push(bosh_folder().join(format!("operations/{name}.yml")));
    }

    /// One more operation.
    pub fn add(&mut self, operation: Value) {
        let file = self.folder().join(format!("more-{}.json", self.operations.len()));
        std::fs::write(&file, json!([operation]).to_string()).unwrap();
        self.operations.push(file);
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn variable(&self, name: &str) -> &str {
        self.variables[name].as_str().unwrap()
    }

    /// Renders an instance of a group; `more`: operations for this instance alone.
    pub fn instance(&self, group: &str, index: usize, more: &[Value]) -> Vm {
        let root = self.folder().join(format!("{group}-{index}"));
        let own = self.folder().join(format!("{group}-{index}.json"));
        std::fs::write(&own, Value::from(more.to_vec()).to_string()).unwrap();
        let manifest = bosh_folder().join("manifests/cf-mysql-broker.yml");
        let variables = self.folder().join("variables.json");
        let jobs = root.join("var/vcap/jobs");
        let (jobs_text, index_text) = (jobs.display().to_string(), index.to_string());
        let _ = std::fs::remove_dir_all(&jobs);
        let mut arguments = vec!["--manifest", manifest.to_str().unwrap(), "--vars", variables.to_str().unwrap(), "--generate"];
        for operations in self.operations.iter().chain([&own]) {
            arguments.extend(["--ops", operations.to_str().unwrap()]);
        }
        arguments.extend(["--group", group, "--index", &index_text, "--root", root.to_str().unwrap(), "--output", &jobs_text]);
        render(&arguments);
        let packages = root.join("var/vcap/packages/cf-mysql-broker/bin");
        std::fs::create_dir_all(&packages).unwrap();
        let _ = std::os::unix::fs::symlink(PROGRAM, packages.join("cf-mysql-broker"));
        Vm { root, processes: BTreeMap::new() }
    }
}

/// One instance.
pub struct Vm {
    pub root: PathBuf,
    processes: BTreeMap<String, Child>,
}

impl Vm {
    /// The same instance after the manifest has changed; what runs is left alone.
    pub fn rerender(&mut self, deployment: &Deployment, index: usize, more: &[Value]) {
        drop(deployment.instance("cf-mysql-broker", index, more));
    }

    /// A path below `/var/vcap`.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join("var/vcap").join(path)
    }

    /// Runs a script of a job.
    pub fn script(&self, job: &str, name: &str) -> Output {
        run(&mut Command::new(self.path(&format!("jobs/{job}/bin/{name}"))))
    }

    /// Runs a script, which must succeed; what it printed.
    #[track_caller]
    pub fn succeed(&self, job: &str, name: &str) -> String {
        let output = self.script(job, name);
        assert!(output.status.success(), "{job}/{name}: {} {}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    pub fn config(&self) -> PathBuf {
        self.path("jobs/cf-mysql-broker/config/broker.json")
    }

    /// As the agent starts a job: pre-start, what monit watches, post-start.
    pub async fn start(&mut self) {
        self.succeed("cf-mysql-broker", "pre-start");
        for process in self.watched() {
            self.monit("start", &process).await;
        }
        self.succeed("cf-mysql-broker", "post-start");
    }

    /// The processes monit watches.
    pub fn watched(&self) -> Vec<String> {
        let monit = std::fs::read_to_string(self.path("jobs/cf-mysql-broker/monit")).unwrap();
        monit.lines().filter_map(|line| line.strip_prefix("check process ").map(str::to_owned)).collect()
    }

    /// What monit does with a process: runs the program its file names.
    pub async fn monit(&mut self, action: &str, process: &str) {
        let monit = std::fs::read_to_string(self.path("jobs/cf-mysql-broker/monit")).unwrap();
        let section = monit.split("check process ").find(|section| section.lines().next() == Some(process)).expect("a process of monit");
        let line = section.lines().find(|line| line.trim_start().starts_with(&format!("{action} program"))).expect("a program");
        let program = line.split('"').nth(1).expect("a program in quotes");
        let bpm = self.path("jobs/bpm/bin/bpm").display().to_string();
        let arguments = program.strip_prefix(&format!("{bpm} {action} ")).unwrap_or_else(|| panic!("{program} is not bpm {action}"));
        let words: Vec<_> = arguments.split(' ').collect();
        let name = match words.as_slice() {
            [job] => job,
            [_, "-p", process] => process,
            other => panic!("bpm {action} {other:?}"),
        };
        let pid_file = section.lines().find_map(|line| line.trim().strip_prefix("with pidfile ")).expect("a pid file");
        assert!(pid_file.ends_with(&format!("/bpm/{}/{name}.pid", words[0])), "monit watches {pid_file}, bpm writes {name}.pid");
        match action {
            "start" => self.bpm_start(words[0], name),
            "stop" => drop(self.bpm_stop(name).await),
            other => panic!("{other}"),
        }
    }

    fn bpm_start(&mut self, job: &str, name: &str) {
        let bpm: Value = serde_json::from_str(&std::fs::read_to_string(self.path(&format!("jobs/{job}/config/bpm.yml"))).unwrap()).unwrap();
        let process = bpm["processes"].as_array().unwrap().iter().find(|process| process["name"] == name).expect("a process of bpm.yml");
        let logs = self.path(&format!("sys/log/{job}"));
        std::fs::create_dir_all(&logs).unwrap();
        let log = |stream: &str| File::options().create(true).append(true).open(logs.join(format!("{name}.{stream}.log"))).unwrap();
        let child = Command::new(process["executable"].as_str().unwrap())
            .args(process["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap()))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log("stdout"))
            .stderr(log("stderr"))
            .spawn()
            .expect("a process");
        assert!(self.processes.insert(name.to_owned(), child).is_none(), "{name} runs already");
    }

    /// TERM, and it must be enough within what bpm waits.
    pub async fn bpm_stop(&mut self, name: &str) -> ExitStatus {
        self.signal(name, rustix::process::Signal::TERM);
        let mut child = self.processes.remove(name).unwrap();
        let asked = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success(), "{name}: {status}; {}", self.log(name));
                return status;
            }
            assert!(asked.elapsed() < BPM_PATIENCE, "bpm would kill {name} now; {}", self.log(name));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn signal(&self, name: &str, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid(name)).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// `kill -9`, and nobody starts it again yet.
    pub fn kill(&mut self, name: &str) {
        let mut child = self.processes.remove(name).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn pid(&self, name: &str) -> i32 {
        i32::try_from(self.processes[name].id()).unwrap()
    }

    /// Whether a process has not ended.
    pub fn is_running(&mut self, name: &str) -> bool {
        self.processes.get_mut(name).is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// What a process has logged.
    pub fn log(&self, name: &str) -> String {
        ["stdout", "stderr"]
            .map(|stream| std::fs::read_to_string(self.path(&format!("sys/log/cf-mysql-broker/{name}.{stream}.log"))).unwrap_or_default())
            .concat()
    }

    /// Waits for a line of a log.
    pub async fn logged(&self, name: &str, line: &str, times: usize) {
        eventually(&format!("{name} logs {line:?}"), async || (self.log(name).matches(line).count() >= times).then_some(())).await;
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        for (name, child) in &mut self.processes {
            let _ = child.kill();
            let _ = child.wait();
            if std::thread::panicking() {
                let log = ["stdout", "stderr"]
                    .map(|stream| self.root.join(format!("var/vcap/sys/log/cf-mysql-broker/{name}.{stream}.log")))
                    .map(|path| std::fs::read_to_string(path).unwrap_or_default())
                    .concat();
                let from = log.len().saturating_sub(4000);
                eprintln!("{name}: ... {}", log.get(from..).unwrap_or(&log));
            }
        }
    }
}

/// A database server of the test's own with the accounts of a deployment, made by job cf-mysql-broker-user with the real client.
pub struct Database {
    pub server: TestServer,
    admin: TempDir,
}

impl Database {
    pub async fn start() -> Self {
        let server = own_server().await;
        let admin = tempfile::tempdir().unwrap();
        let login = format!(
            "[client]\nuser=root\npassword={}\nhost={}\nport={}\nprotocol=TCP\n",
            server.root_password, server.endpoint.host, server.endpoint.port
        );
        std::fs::write(admin.path().join("mylogin.cnf"), login).unwrap();
        Self { server, admin }
    }

    pub fn host(&self) -> String {
        format!("{}:{}", self.server.endpoint.host, self.server.endpoint.port)
    }

    /// Job cf-mysql-broker-user as it would be rendered beside this server.
    pub fn user_job(&self, db_password: &str, enforcer_password: &str) -> Vm {
        let root = self.admin.path().to_owned();
        let properties = json!({"cf_mysql": {
            "mysql": {"client_path": client(), "admin_defaults_file": root.join("mylogin.cnf"), "start_timeout": 60},
            "broker": {"db_password": db_password, "quota_enforcer": {"password": enforcer_password}},
        }});
        let file = root.join("properties.json");
        std::fs::write(&file, properties.to_string()).unwrap();
        let jobs = root.join("var/vcap/jobs");
        render(&[
            "--job",
            "cf-mysql-broker-user",
            "--properties",
            file.to_str().unwrap(),
            "--root",
            root.to_str().unwrap(),
            "--output",
            jobs.to_str().unwrap(),
        ]);
        let packages = root.join("var/vcap/packages/cf-mysql-broker/bin");
        std::fs::create_dir_all(&packages).unwrap();
        let _ = std::os::unix::fs::symlink(PROGRAM, packages.join("cf-mysql-broker"));
        Vm { root, processes: BTreeMap::new() }
    }

    /// The accounts a deployment uses.
    pub fn make_accounts(&self, deployment: &Deployment) {
        let [broker, enforcer] =
            ["db_password", "quota_enforcer_password"].map(|name| deployment.variable(&format!("cf_mysql_broker_{name}")));
        self.user_job(broker, enforcer).succeed("cf-mysql-broker-user", "post-start");
    }

    pub async fn root(&self) -> MySqlConnection {
        let mut root = connect(&self.server.endpoint, "root", &self.server.root_password).await.unwrap();
        // not there before the first migration
        let _ = sqlx::raw_sql("USE mysql_broker").execute(&mut root).await;
        root
    }

    pub async fn number(&self, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(format!("SELECT CAST(({query}) AS SIGNED)"))).fetch_one(&mut self.root().await).await.unwrap()
    }
}

/// The mysql client of this machine.
fn client() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).flat_map(|folder| [folder.join("mariadb"), folder.join("mysql")]).find(|file| file.is_file());
    found.expect("no mysql client on PATH: scripts/install-mariadb installs one")
}

/// A process that ends with the test.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The router: haproxy, which sends a request to another instance only where the connection was refused, as gorouter does. What
/// stands for route_registrar (it needs a NATS and a gorouter) runs the rendered health check of each instance over and over; its
/// exit code puts the instance into the router or takes it out.
pub struct Router {
    _process: Killed,
    registrar: tokio::task::JoinHandle<()>,
    registered: Arc<Mutex<Vec<bool>>>,
    socket: PathBuf,
    pub port: u16,
}

impl Drop for Router {
    fn drop(&mut self) {
        self.registrar.abort();
    }
}

impl Router {
    pub async fn start(folder: &Path, instances: &[(&Vm, u16)]) -> Self {
        let port = free_port();
        let socket = folder.join("haproxy.sock");
        let servers: String =
            instances.iter().enumerate().map(|(i, (_, port))| format!("  server b{i} 127.0.0.1:{port} disabled\n")).collect();
        let config = format!(
            "global\n  stats socket {} level admin\n\
             defaults\n  mode http\n  timeout connect 5s\n  timeout client 70s\n  timeout server 70s\n  retries 3\n  retry-on conn-failure\n  option redispatch\n\
             frontend front\n  bind 127.0.0.1:{port}\n  default_backend brokers\n\
             backend brokers\n  balance roundrobin\n{servers}",
            socket.display(),
        );
        let file = folder.join("haproxy.cfg");
        std::fs::write(&file, config).unwrap();
        let log = File::create(folder.join("haproxy.log")).unwrap();
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let child = Command::new("haproxy")
            .env("PATH", path)
            .arg("-db")
            .arg("-f")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("haproxy: {error}; run scripts/install-bosh-test-tools"));
        let process = Killed(child);
        eventually("the router is there", async || tell(&socket, "show info").ok()).await;
        let registered = Arc::new(Mutex::new(vec![false; instances.len()]));
        let checks: Vec<_> = instances.iter().map(|(vm, _)| vm.path("jobs/cf-mysql-broker/bin/healthcheck")).collect();
        let registrar = tokio::spawn(keep_registering(checks, socket.clone(), registered.clone()));
        let router = Self { _process: process, registrar, registered, socket, port };
        for i in 0..instances.len() {
            router.has(i, true).await;
        }
        router
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Waits until an instance is in the router, or out of it and nothing that was sent to it before is on its way.
    pub async fn has(&self, instance: usize, registered: bool) {
        eventually(&format!("instance {instance} in the router: {registered}"), async || {
            let is_so = self.registered.lock().unwrap()[instance] == registered;
            (is_so && (registered || self.requests_at(instance) == 0)).then_some(())
        })
        .await;
    }

    /// How many requests an instance works on: `scur` of haproxy's statistics.
    fn requests_at(&self, instance: usize) -> u32 {
        let statistics = tell(&self.socket, "show stat").unwrap();
        let line = statistics.lines().find(|line| line.starts_with(&format!("brokers,b{instance},"))).unwrap();
        line.split(',').nth(4).unwrap().parse().unwrap()
    }
}

/// A command for haproxy.
fn tell(socket: &Path, command: &str) -> std::io::Result<String> {
    use std::io::{Read as _, Write as _};
    let mut socket = std::os::unix::net::UnixStream::connect(socket)?;
    socket.write_all(format!("{command}\n").as_bytes())?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}

async fn keep_registering(checks: Vec<PathBuf>, socket: PathBuf, registered: Arc<Mutex<Vec<bool>>>) {
    loop {
        for (i, check) in checks.iter().enumerate() {
            let check = tokio::process::Command::new(check).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).status();
            let is_healthy = check.await.is_ok_and(|status| status.success());
            if registered.lock().unwrap()[i] != is_healthy {
                let answer = tell(&socket, &format!("set server brokers/b{i} state {}", if is_healthy { "ready" } else { "maint" }));
                assert_eq!(answer.unwrap().trim(), "", "haproxy refuses");
                registered.lock().unwrap()[i] = is_healthy;
            }
        }
        // the interval of its registrations
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The cf CLI of an errand and the Cloud Controller behind it: `fake-cf`, which says what it stands for.
pub struct Cloud {
    folder: PathBuf,
    home: PathBuf,
}

impl Cloud {
    pub fn new(deployment: &Deployment) -> Self {
        let (folder, home) = (deployment.folder().join("cloud"), deployment.folder().join("home"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(&home).unwrap();
        let cloud = Self { folder, home };
        cloud.change(|state| {
            state["admin"] = json!(["admin", deployment.variable("cf_admin_password")]);
            state["client"] = json!(["a-client", "its secret"]);
        });
        cloud
    }

    /// Puts the CLI where release cf-cli would.
    pub fn install(&self, vm: &Vm) {
        let folder = vm.path("packages/cf-cli-8-linux/bin");
        std::fs::create_dir_all(&folder).unwrap();
        let cf = folder.join("cf");
        let program = tests_folder().join("fake-cf");
        std::fs::write(&cf, format!("#!/bin/sh\nexec ruby '{}' '{}' \"$@\"\n", program.display(), self.folder.display())).unwrap();
        std::fs::set_permissions(&cf, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }

    pub fn state(&self) -> Value {
        std::fs::read_to_string(self.folder.join("state.json")).map_or(json!({}), |text| serde_json::from_str(&text).unwrap())
    }

    pub fn change(&self, change: impl FnOnce(&mut Value)) {
        let mut state = self.state();
        change(&mut state);
        std::fs::write(self.folder.join("state.json"), state.to_string()).unwrap();
    }

    /// Every command since the last time it was asked, with the environment that matters.
    pub fn commands(&self) -> Vec<(String, Value)> {
        let log = self.folder.join("log.jsonl");
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let _ = std::fs::remove_file(&log);
        text.lines()
            .map(|line| {
                let mut entry: Value = serde_json::from_str(line).unwrap();
                let words: Vec<_> = entry["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect();
                (words.join(" "), entry["environment"].take())
            })
            .collect()
    }

    /// A command of a developer, who is logged in.
    #[track_caller]
    pub fn cf(&self, arguments: &[&str]) -> String {
        std::fs::write(self.home.join("token"), "yes").unwrap();
        let output =
            run(Command::new("ruby").arg(tests_folder().join("fake-cf")).arg(&self.folder).args(arguments).env("CF_HOME", &self.home));
        assert!(output.status.success(), "cf {arguments:?}: {} {}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }
}
