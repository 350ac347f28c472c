//! The broker against the same statements sent straight to the server: `cargo bench --bench broker`, `-- --help` for more.
//! One server serves both sides, runs alternate, and every figure that counts is a ratio of two runs a second apart: what
//! else the machine does, and what has become of its disk, both sides meet alike. See docs/benchmarks.md.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a benchmark ends where something is not as it should be, and sends the statements of src/mysql itself"
)]

mod audit;
mod http;
mod load;
mod options;
mod proc;
mod raw;
mod report;
mod rig;

use std::io::IsTerminal as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser as _;

use load::{Subject, Target, Verb};
use options::Arguments;
use proc::Cpu;
use report::{Flood, Memory, Pairs, Report, Row};
use rig::{BrokerProcess, Rig};

/// Started anew so many times.
const STARTS: usize = 5;

fn main() {
    let arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --benches` comes here
        eprintln!("nothing is measured by a test: cargo bench --bench broker");
        return;
    }
    // the load program shares the machine: no more threads than it has cores
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let report = runtime.block_on(measure(&arguments));
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report).expect("JSON"));
    } else {
        report.print();
    }
}

async fn measure(arguments: &Arguments) -> Report {
    let started = Instant::now();
    let progress = Progress { started, terminal: std::io::stderr().is_terminal() };
    progress.say("starting the server and a broker");
    let mut rig = Rig::start(arguments).await;
    let raw = Arc::new(rig.raw());
    let (broker, _) = rig.broker(false).await;
    let at_start_mb = proc::memory_mb(broker.pid(), "VmRSS");
    let shared = Arc::new(rig);
    let sides = (Target::Broker { rig: shared.clone(), port: broker.port }, Target::Raw(raw.clone()));
    let pids = (broker.pid(), shared.server.pid().expect("a server"));
    let cpu = || Cpu::now(pids.0, pids.1);
    let before = cpu();

    let (mut rows, mut audits, mut seeded, mut requests) = (Vec::new(), None, 0, 0);
    let mut levels = arguments.instances.clone();
    levels.sort_unstable();
    for instances in levels {
        progress.say(&format!("{instances} instances: seeding, warming up"));
        shared.seed(instances - seeded).await;
        seeded = instances;
        let widest = arguments.clients.iter().copied().max().unwrap_or(1);
        for side in [&sides.0, &sides.1] {
            let subjects = Subject::many(4 * widest.max(8));
            for verb in Verb::ALL {
                side.run(verb, widest, &subjects, cpu).await;
            }
        }
        if audits.is_none() {
            audits = Some(audit::audit(&shared, &sides.0, &sides.1).await);
        }
        for &clients in &arguments.clients {
            let found = pairs(arguments, &progress, instances, clients, &sides, &cpu).await;
            requests += found.iter().flat_map(|pairs| &pairs.broker).map(|run| run.latencies.len()).sum::<usize>();
            rows.extend(found.into_iter().map(Row::from));
        }
    }
    let after_load_mb = proc::memory_mb(broker.pid(), "VmRSS");
    assert!(shared.is_consistent().await, "the counter of what is reserved is not the sum of the rows");

    let retries = (retries(&shared, &broker).await, raw.retries.load(std::sync::atomic::Ordering::Relaxed));

    let floods = floods(arguments, &progress, &shared, &broker).await;
    let used = cpu() - before;
    let highest_mb = proc::memory_mb(broker.pid(), "VmHWM");
    // until it was ready it said so
    let log = broker.log();
    let mut errors = log.lines().filter(|line| line.contains("\"ERROR\"") && !line.contains("\"/ready\""));
    assert_eq!(errors.next(), None, "the broker logged an error");
    drop(broker);

    progress.say("starting brokers");
    let mut ready_ms = Vec::new();
    for _ in 0..STARTS {
        let (_again, time) = shared.broker(false).await;
        ready_ms.push(time.as_secs_f64() * 1e3);
    }
    progress.say("memory with the enforcer");
    let (enforcing, _) = shared.broker(true).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let with_enforcer_mb = proc::memory_mb(enforcing.pid(), "VmRSS");
    drop(enforcing);

    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let seconds = started.elapsed().as_secs_f64();
    let report = Report {
        server: format!("{} {}", shared.server.flavor(), shared.server.version()),
        processor: proc::processor(),
        cores,
        file_system: shared.file_system.clone(),
        connections: arguments.connections,
        seconds,
        others_percent: 100.0 * used.others() / (seconds * f64::from(u32::try_from(cores).unwrap_or(1))),
        rows,
        sent: report::sent_rows(&audits.unwrap_or_default()),
        floods,
        memory: Memory { at_start_mb, after_load_mb, highest_mb, with_enforcer_mb },
        ready_ms,
        requests,
        broker_retries: retries.0,
        raw_retries: retries.1,
    };
    drop((sides, raw));
    rig = Arc::into_inner(shared).expect("nobody else has the rig");
    rig.server.stop().await.expect("the server stops");
    progress.end();
    report
}

/// Rounds of every verb by both sides, until there are enough of them or the time is up.
async fn pairs(
    arguments: &Arguments,
    progress: &Progress,
    instances: u64,
    clients: usize,
    (broker, raw): &(Target, Target),
    cpu: &impl Fn() -> Cpu,
) -> Vec<Pairs> {
    let mut found: Vec<Pairs> =
        Verb::ALL.into_iter().map(|verb| Pairs { instances, clients, verb, broker: Vec::new(), raw: Vec::new() }).collect();
    let (started, rounds) = (Instant::now(), arguments.rounds());
    for round in 0..rounds {
        if round >= 2 && started.elapsed() >= arguments.budget() {
            break;
        }
        let (first, second) = (Subject::many(arguments.requests(clients)), Subject::many(arguments.requests(clients)));
        for pairs in &mut found {
            progress.say(&format!("{instances} instances, {clients} clients, round {} of {rounds}: {}", round + 1, pairs.verb.name()));
            // who goes first changes: it meets an emptier server, and the second a warmer one
            if round % 2 == 0 {
                pairs.broker.push(broker.run(pairs.verb, clients, &first, cpu).await);
                pairs.raw.push(raw.run(pairs.verb, clients, &second, cpu).await);
            } else {
                pairs.raw.push(raw.run(pairs.verb, clients, &second, cpu).await);
                pairs.broker.push(broker.run(pairs.verb, clients, &first, cpu).await);
            }
        }
    }
    found
}

/// What needs no database, and what this program can do at all.
async fn floods(arguments: &Arguments, progress: &Progress, rig: &Rig, broker: &BrokerProcess) -> Vec<Flood> {
    let (own, time) = (http::trivial_server().await, arguments.catalog_time());
    let (health, catalog) = (rig.request("GET", "/health", ""), rig.request("GET", "/v2/catalog", ""));
    let mut found = Vec::new();
    for &clients in &arguments.clients {
        progress.say(&format!("catalog, {clients} clients"));
        found.push(Flood {
            clients,
            own_ceiling: load::flood(own, catalog.clone(), clients, time).await,
            health: load::flood(broker.port, health.clone(), clients, time).await,
            catalog: load::flood(broker.port, catalog.clone(), clients, time).await,
        });
    }
    found
}

/// What the broker says of transactions it had to send again.
async fn retries(rig: &Rig, broker: &BrokerProcess) -> u64 {
    let mut http = http::Http::connect(broker.port).await.expect("a connection");
    let (_, body) = http.send(&rig.request("GET", "/metrics", "")).await.expect("metrics");
    let text = String::from_utf8_lossy(body);
    let lines = text.lines().filter(|line| line.starts_with("cf_mysql_transaction_retries_total"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// Where it is: one line that changes on a terminal, a line each elsewhere.
struct Progress {
    started: Instant,
    terminal: bool,
}

impl Progress {
    fn say(&self, what: &str) {
        let seconds = self.started.elapsed().as_secs();
        let mut stderr = std::io::stderr();
        let _ = if self.terminal { write!(stderr, "\r\x1b[K[{seconds:>3} s] {what}") } else { writeln!(stderr, "[{seconds:>3} s] {what}") };
        let _ = stderr.flush();
    }

    fn end(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}
