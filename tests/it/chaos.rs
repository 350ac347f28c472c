//! Eight brokers that die at random points, by random signals, or stand still until after their leases; clients that ask for random things
//! under few ids; a monitor that looks all the while. `CHAOS_SECONDS` (default 20) and `CHAOS_SEED` (default random) say how long and with
//! which choices; the processes' own timing is nobody's choice.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;

use crate::support::bed::{PLAN_LARGE, PLAN_SMALL, SERVICE};
use crate::support::osb::{bind_body, binding, instance, provision_body};
use crate::support::server::connect;
use crate::support::{Bed, BedOptions, BrokerProcess, Osb, cluster, eventually, is_galera, own_server};

const BROKERS: usize = 8;
const CLIENTS: usize = 12;
const SELLABLE_MB: i64 = 40;
/// Seconds.
const LEASE: f64 = 3.0;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} must be a number")))
}

/// Spreads connections over the nodes and takes those away that do not answer.
struct Haproxy {
    process: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Haproxy {
    async fn start(hosts: &[String]) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory = tempfile::tempdir().unwrap();
        let servers: String = hosts
            .iter()
            .enumerate()
            .map(|(i, host)| format!("  server n{i} {host} check inter 200ms fall 2 rise 2 on-marked-down shutdown-sessions\n"))
            .collect();
        let config = directory.path().join("haproxy.cfg");
        let text = format!(
            "global\n  maxconn 2000\ndefaults\n  mode tcp\n  timeout connect 1s\n  timeout client 60s\n  timeout server 60s\n  retries 2\n  option redispatch\n\
             listen db\n  bind 127.0.0.1:{port}\n  balance roundrobin\n{servers}"
        );
        std::fs::write(&config, text).unwrap();
        let process = Command::new("haproxy").arg("-f").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("haproxy");
        eventually("haproxy listens", async || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(())).await;
        Self { process, port, _directory: directory }
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[derive(Default)]
struct Tally {
    operations: AtomicU64,
    answers: AtomicU64,
    kills: AtomicU64,
    stops: AtomicU64,
    samples: AtomicU64,
}

struct Place {
    process: tokio::sync::Mutex<BrokerProcess>,
    osb: std::sync::Mutex<Osb>,
}

async fn mortal(bed: &Bed) -> (BrokerProcess, Osb) {
    let mut process = BrokerProcess::start_in("serve", &bed.config, &[("CF_MYSQL_BROKER_FAILPOINT", "*:kill:0.02")]);
    let port = process.port().await;
    (process, Osb::new(format!("http://127.0.0.1:{port}"), bed.secrets[0].clone()))
}

/// Kills and stops; puts a new broker where one has died.
async fn torment(bed: &Bed, place: &Place, mut random: StdRng, tally: &Tally, over: &AtomicBool, stalls: bool) {
    while !over.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(random.random_range(50..600))).await;
        let mut process = place.process.lock().await;
        let dead = process.is_dead();
        if !dead && stalls && random.random_range(0..10) == 0 {
            process.signal(Signal::STOP);
            tally.stops.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs_f64(LEASE * random.random_range(1.0..1.5))).await;
            process.signal(Signal::CONT);
        } else if dead || random.random_range(0..12) == 0 {
            if !dead {
                process.signal(Signal::KILL);
            }
            tally.kills.fetch_add(1, Ordering::Relaxed);
            let (born, osb) = mortal(bed).await;
            *process = born;
            *place.osb.lock().unwrap() = osb;
        }
    }
}

async fn ask(ids: &[String], places: &[Place], mut random: StdRng, tally: &Tally, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let osb = places[random.random_range(0..places.len())].osb.lock().unwrap().clone();
        let (id, bound) = (&ids[random.random_range(0..ids.len())], format!("b{}", random.random_range(0..2)));
        let delete = |path: String| osb.request(Method::DELETE, &format!("{path}?service_id={SERVICE}&plan_id={PLAN_SMALL}"));
        let request = match random.random_range(0..10) {
            0..4 => osb.request(Method::PUT, &instance(id)).json(&provision_body(PLAN_SMALL)),
            4..6 => delete(instance(id)),
            6..8 => osb.request(Method::PUT, &binding(id, &bound)).json(&bind_body()),
            8 => delete(binding(id, &bound)),
            _ => osb
                .request(Method::PATCH, &instance(id))
                .json(&json!({"service_id": SERVICE, "plan_id": if random.random() { PLAN_LARGE } else { PLAN_SMALL }})),
        };
        tally.operations.fetch_add(1, Ordering::Relaxed);
        // a stopped broker answers nobody: a platform would give up too
        match osb.try_send(request.timeout(Duration::from_secs(3))).await {
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            Ok(answer) => {
                tally.answers.fetch_add(1, Ordering::Relaxed);
                assert!([200, 201, 404, 409, 410, 422, 503, 507].contains(&answer.status), "{}: {}", answer.status, answer.body);
            }
        }
    }
}

/// One statement, so one moment.
async fn watch(bed: &Bed, server: &TestServerView, tally: &Tally, over: &AtomicBool) {
    let query = format!(
        "SELECT CAST((SELECT reserved_bytes FROM {own}.capacity) AS SIGNED), CAST((SELECT COALESCE(SUM(reserved_bytes), 0) FROM {own}.service_instances) AS SIGNED)",
        own = bed.database
    );
    while !over.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let Ok(mut root) = connect(&server.endpoint, "root", &server.root_password).await else { continue };
        let row: sqlx::Result<(i64, i64)> = sqlx::query_as(sqlx::AssertSqlSafe(query.clone())).fetch_one(&mut root).await;
        let Ok((counter, sum)) = row else { continue };
        assert_eq!(counter, sum, "the counter is the sum at every moment");
        assert!(counter <= SELLABLE_MB << 20, "oversold: {} MB", counter >> 20);
        tally.samples.fetch_add(1, Ordering::Relaxed);
    }
}

async fn words(bed: &Bed, query: &str) -> BTreeSet<String> {
    let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(query.to_owned())).fetch_all(&mut bed.root().await).await.unwrap();
    rows.into_iter().collect()
}

/// Databases and accounts that have no row.
async fn orphans(bed: &Bed) -> Vec<String> {
    let databases = words(bed, "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE 'cf\\_%'").await;
    let sold = words(bed, "SELECT db_name FROM service_instances").await;
    let accounts = words(bed, "SELECT CAST(User AS CHAR) FROM mysql.user WHERE User LIKE 'cfb%'").await;
    let mut bound = words(bed, "SELECT username FROM service_bindings").await;
    bound.extend(words(bed, "SELECT username FROM retired_accounts").await);
    assert!(sold.is_subset(&databases), "rows without database: {:?}", sold.difference(&databases));
    assert!(bound.is_subset(&accounts), "rows without account: {:?}", bound.difference(&accounts));
    databases.difference(&sold).chain(accounts.difference(&bound)).cloned().collect()
}

async fn chaos(stalls: bool) {
    let seconds = number("CHAOS_SECONDS").unwrap_or(20);
    let seed = number("CHAOS_SEED").unwrap_or_else(rand::random);
    eprintln!("chaos: CHAOS_SEED={seed}, {seconds} s, stalls: {stalls}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut server = if is_galera() { cluster().await } else { own_server().await };
    let haproxy = if is_galera() { Some(Haproxy::start(&server.hosts()).await) } else { None };
    let mut settings = json!({"server": {"operation_lease": LEASE}, "mysql": {"max_connections": 10}});
    if let Some(haproxy) = &haproxy {
        settings["mysql"]["hosts"] = json!([format!("127.0.0.1:{}", haproxy.port)]);
    }
    let mut bed = Bed::on(&server, BedOptions { sellable_mb: 40, settings, ..BedOptions::default() }).await;
    // the one that is there at the end, and is not tormented
    let survivor = bed.osb().clone();
    let ids: Vec<String> = (0..10).map(|_| uuid::Uuid::from_u128(random.random()).to_string()).collect();
    let mut places = Vec::new();
    for _ in 0..BROKERS {
        let (process, osb) = mortal(&bed).await;
        places.push(Place { process: process.into(), osb: osb.into() });
    }
    let (tally, over) = (Tally::default(), AtomicBool::new(false));
    let mut seeds = || StdRng::seed_from_u64(random.random());
    let tormentors: Vec<_> = places.iter().map(|place| torment(&bed, place, seeds(), &tally, &over, stalls)).collect();
    let clients: Vec<_> = (0..CLIENTS).map(|_| ask(&ids, &places, seeds(), &tally, &over)).collect();
    let is_cluster = haproxy.is_some();
    {
        let (process, endpoint, password) = (&mut server.others, server.endpoint.clone(), server.root_password.clone());
        let monitored = TestServerView { endpoint, root_password: password };
        let clock = async {
            let until = Instant::now() + Duration::from_secs(seconds);
            while Instant::now() < until {
                if is_cluster {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    process[0].kill_hard().await;
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    process[0].restart().await.unwrap();
                } else {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
            over.store(true, Ordering::Relaxed);
        };
        tokio::join!(clock, join_all(tormentors), join_all(clients), watch(&bed, &monitored, &tally, &over));
    }
    drop(places);
    if is_cluster {
        server.all_synced().await;
    }
    eventually("the sweep has finished or undone everything", async || {
        (bed.number("SELECT (SELECT COUNT(*) FROM service_instances WHERE state <> 'ready') + (SELECT COUNT(*) FROM service_bindings WHERE state <> 'ready')").await == 0)
            .then_some(())
    })
    .await;
    let left = orphans(&bed).await;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    eprintln!(
        "chaos: CHAOS_SEED={seed}: {} operations, {} answers, {} kills, {} stops, {} samples, {} orphans before reconcile",
        count(&tally.operations),
        count(&tally.answers),
        count(&tally.kills),
        count(&tally.stops),
        count(&tally.samples),
        left.len()
    );
    if stalls {
        // a sleeper that wakes after its lease, makes what it was about to make, and is killed before it notices: that is what reconcile is for
        let arguments = ["reconcile".as_ref(), "--apply".as_ref(), "--config".as_ref(), bed.config.as_os_str()];
        let (code, stdout, stderr) = crate::support::broker::run(&arguments, &[]);
        assert_eq!(code, 0, "{stdout} {stderr}");
        assert_eq!(orphans(&bed).await, Vec::<String>::new(), "CHAOS_SEED={seed}");
    } else {
        assert_eq!(left, Vec::<String>::new(), "CHAOS_SEED={seed}");
    }
    assert!(bed.reserved_mb().await <= SELLABLE_MB);
    for id in &ids {
        eventually("every id ends in a clean answer", async || [200, 410].contains(&survivor.deprovision(id).await.status).then_some(()))
            .await;
    }
    assert_eq!(bed.number("SELECT COUNT(*) FROM service_instances").await + bed.reserved_mb().await, 0, "CHAOS_SEED={seed}");
    assert_eq!(orphans(&bed).await, Vec::<String>::new(), "CHAOS_SEED={seed}");
    bed.brokers.clear();
}

/// What the monitor needs to know of the server.
struct TestServerView {
    endpoint: cf_mysql_broker::domain::credentials::Endpoint,
    root_password: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_die_at_any_point_oversell_nothing_and_orphan_nothing() {
    chaos(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_die_or_stand_still_oversell_nothing_and_lose_nothing() {
    chaos(true).await;
}
