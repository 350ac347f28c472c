//! The private server against the real thing: MariaDB always, MySQL where `CF_MYSQL_BROKER_MYSQL_ROOT` says.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cf_mysql_broker::local_server::{Error, Flavor, LocalServer, MYSQL_ROOT_VARIABLE, Options, Program};
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection};

/// More than anything here takes, so that nothing waits for ever.
const PATIENCE: Duration = Duration::from_secs(60);

fn programs() -> Vec<Program> {
    let mysql = std::env::var_os(MYSQL_ROOT_VARIABLE).is_some_and(|root| !root.is_empty());
    let flavors = [Some(Flavor::MariaDb), mysql.then_some(Flavor::MySql)];
    flavors.into_iter().flatten().map(|flavor| Program::find(Some(flavor)).unwrap()).collect()
}

/// Tests share seeds, across runs too: initialising is the slow part.
fn seeded() -> Options {
    Options { seed: Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("seed")), ..Options::default() }
}

async fn connect(port: u16, password: Option<&str>) -> sqlx::Result<MySqlConnection> {
    let mut options = MySqlConnectOptions::new().host("127.0.0.1").port(port).username("root");
    if let Some(password) = password {
        options = options.password(password);
    }
    MySqlConnection::connect_with(&options).await
}

async fn execute(server: &LocalServer, statements: &[&str]) {
    let mut session = connect(server.port(), None).await.unwrap();
    for statement in statements {
        sqlx::query(AssertSqlSafe((*statement).to_owned())).execute(&mut session).await.unwrap();
    }
}

async fn number(session: &mut MySqlConnection, query: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(session).await.unwrap()
}

fn answers(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < give_up, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn a_temporary_server_leaves_nothing() {
    for program in programs() {
        let mut server = LocalServer::start(&program, seeded()).await.unwrap();
        let home = server.data_dir().parent().unwrap().to_owned();
        assert!(home.join("error.log").exists());
        assert!(!home.join("init.sql").exists(), "the password is not left lying about");
        let strangers = "SELECT COUNT(*) FROM mysql.user WHERE User IN ('root', '') AND Host NOT IN ('localhost', '127.0.0.1')";
        assert_eq!(number(&mut connect(server.port(), None).await.unwrap(), strangers).await, 0);
        server.stop().await.unwrap();
        assert!(!answers(server.port()) && !home.exists());
        server.stop().await.unwrap();
        assert!(matches!(server.restart().await, Err(Error::Stopped)));

        let server = LocalServer::start(&program, seeded()).await.unwrap();
        let (port, home) = (server.port(), server.data_dir().parent().unwrap().to_owned());
        drop(server);
        assert!(!answers(port) && !home.exists());
    }
}

#[tokio::test]
async fn a_restart_and_a_crash_keep_what_was_committed() {
    for program in programs() {
        let mut server = LocalServer::start(&program, Options { durable: true, ..seeded() }).await.unwrap();
        let (port, pid) = (server.port(), server.pid());
        execute(&server, &["CREATE DATABASE d", "CREATE TABLE d.t (a INT)", "INSERT INTO d.t VALUES (1)"]).await;
        server.set_extra_args(vec!["--max-connections=77".to_owned()]);
        server.restart().await.unwrap();
        assert_eq!(server.port(), port);
        assert_ne!(server.pid(), pid);
        execute(&server, &["INSERT INTO d.t VALUES (2)"]).await;
        server.kill_hard().await;
        assert_eq!(server.pid(), None);
        assert!(!answers(port));
        server.restart().await.unwrap();
        let mut session = connect(port, None).await.unwrap();
        assert_eq!(number(&mut session, "SELECT COUNT(*) FROM d.t").await, 2);
        assert_eq!(number(&mut session, "SELECT CAST(@@max_connections AS SIGNED)").await, 77);
    }
}

#[tokio::test]
async fn a_paused_server_answers_when_it_goes_on() {
    for program in programs() {
        let mut server = LocalServer::start(&program, seeded()).await.unwrap();
        let mut session = connect(server.port(), None).await.unwrap();
        server.pause();
        {
            let mut answer = std::pin::pin!(number(&mut session, "SELECT 1"));
            assert!(tokio::time::timeout(Duration::from_millis(200), &mut answer).await.is_err());
            server.resume();
            assert_eq!(answer.await, 1);
        }
        server.pause();
        server.halt().await;
        assert!(!answers(server.port()), "a paused server is shut down too");
    }
}

#[tokio::test]
async fn kept_data_comes_back_under_a_new_password() {
    for program in programs() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("new/home");
        let kept =
            |password: &str| Options { data_dir: Some(home.clone()), root_password: Some(password.to_owned()), durable: true, ..seeded() };
        let mut server = LocalServer::start(&program, kept("one")).await.unwrap();
        assert!(connect(server.port(), None).await.is_err());
        let mut session = connect(server.port(), Some("one")).await.unwrap();
        sqlx::query("CREATE DATABASE kept").execute(&mut session).await.unwrap();
        let words = std::fs::read(format!("/proc/{}/cmdline", server.pid().unwrap())).unwrap();
        assert!(!String::from_utf8_lossy(&words).contains("=one"), "every user of the machine can read it");
        let refused = LocalServer::start(&program, kept("one")).await.unwrap_err();
        assert!(matches!(&refused, Error::InUse { owner, .. } if *owner == format!("process {}", std::process::id())), "{refused}");
        server.stop().await.unwrap();

        let server = LocalServer::start(&program, kept("two")).await.unwrap();
        assert!(connect(server.port(), Some("one")).await.is_err());
        let mut session = connect(server.port(), Some("two")).await.unwrap();
        assert_eq!(number(&mut session, "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'kept'").await, 1);
        drop(server);

        // what the other server, or an interrupted start, left there
        let flavor_file = home.join("data/cf-mysql-broker.flavor");
        std::fs::write(&flavor_file, "other 1.0").unwrap();
        assert!(matches!(LocalServer::start(&program, kept("two")).await, Err(Error::OtherFlavor { .. })));
        std::fs::remove_dir_all(home.join("data")).unwrap();
        std::fs::create_dir(home.join("data.new")).unwrap();
        std::fs::write(home.join("data.new/ibdata1"), "half").unwrap();
        LocalServer::start(&program, kept("two")).await.unwrap();
        assert!(!home.join("data.new").exists());
    }
}

#[tokio::test]
async fn one_seed_is_made_for_all_who_ask_at_once() {
    for program in programs() {
        let dir = tempfile::tempdir().unwrap();
        let options = || Options { seed: Some(dir.path().to_owned()), ..Options::default() };
        let start = || LocalServer::start(&program, options());
        let (one, two, three) = tokio::try_join!(start(), start(), start()).unwrap();
        let homes: HashSet<_> = [&one, &two, &three].map(LocalServer::data_dir).into();
        assert_eq!(homes.len(), 3);
        for server in [&one, &two, &three] {
            execute(server, &["CREATE DATABASE mine"]).await;
        }
        let made: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(made.len(), 2, "a seed and its lock: {made:?}");
    }
}

#[test]
fn a_server_outlives_the_thread_that_started_it() {
    for program in programs() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let start = move || {
            let thread = Path::new("/proc").join(std::fs::read_link("/proc/thread-self").unwrap());
            (runtime().block_on(LocalServer::start(&program, seeded())).unwrap(), thread)
        };
        let (server, thread) = std::thread::spawn(start).join().unwrap();
        // the kernel has sent whatever it sends when it is gone from there
        until("the end of the thread", || !thread.exists());
        runtime().block_on(execute(&server, &["CREATE DATABASE alive"]));
    }
}

/// `dev` in a process of its own.
struct Owner {
    process: Child,
    port: u16,
}

impl Owner {
    fn start(program: &Program, data_dir: Option<&Path>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cf-mysql-broker"));
        command.args(["dev", "--json", "--server", &program.flavor().to_string().to_lowercase()]);
        if let Some(data_dir) = data_dir {
            command.arg("--data-dir").arg(data_dir);
        }
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        let port = ready["mysql"]["port"].as_u64().unwrap().try_into().unwrap();
        Self { process, port }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
fn a_server_ends_with_its_killed_owner() {
    for program in programs() {
        let temporary = Owner::start(&program, None);
        let port = temporary.port;
        assert!(answers(port));
        drop(temporary);
        until("the end of the temporary server", || !answers(port));

        let dir = tempfile::tempdir().unwrap();
        drop(Owner::start(&program, Some(dir.path())));
        // at once again: it waits until the first server has shut down and let go of the data
        let again = Owner::start(&program, Some(dir.path()));
        let port = again.port;
        assert!(answers(port));
        drop(again);
        until("the end of the server whose data is kept", || !answers(port));
        // it closes its port first
        let lock = File::open(dir.path().join("server/cf-mysql-broker.server.lock")).unwrap();
        until("its data let go", || lock.try_lock().is_ok());
    }
}

#[tokio::test]
async fn what_does_not_start_says_why() {
    for program in programs() {
        let start = async |options: Options| LocalServer::start(&program, options).await;
        let error = start(Options { extra_args: vec!["--no-such-option=1".to_owned()], ..seeded() }).await.unwrap_err();
        assert!(matches!(&error, Error::Exited { log, .. } if log.contains("no-such-option")), "{error}");

        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let on_port = || Options { port: Some(port), ..seeded() };
        assert!(matches!(start(on_port()).await, Err(Error::PortInUse(found)) if found == port));
        drop(taken);
        assert_eq!(start(on_port()).await.unwrap().port(), port);

        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("something"), "").unwrap();
        let data_dir = Some(dir.path().to_owned());
        assert!(matches!(start(Options { data_dir, ..seeded() }).await, Err(Error::NotEmpty { .. })));
        let root_password = Some("it's".to_owned());
        assert!(matches!(start(Options { root_password, ..seeded() }).await, Err(Error::Password)));
    }
}
