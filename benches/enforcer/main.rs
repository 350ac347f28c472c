//! The quota enforcer against a naive one, as cf-mysql's: `cargo bench --bench enforcer`, `-- --help` for more. Both look at the
//! same server in turn, so the ratios count and not the seconds. See docs/benchmarks.md.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a benchmark ends where something is not as it should be"
)]

#[path = "../../tests/it/support/naive.rs"]
mod naive;
mod rig;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cf_mysql_broker::local_server::Flavor;
use clap::{Parser, ValueEnum};
use serde::Serialize;

use naive::Naive;
pub use rig::is_mariadb;
use rig::{EnforcerProcess, Rig};

/// Measures the quota enforcer against a naive one on a private server.
#[derive(Parser, Debug)]
pub struct Arguments {
    /// The server to measure on.
    #[arg(long, value_enum, default_value = "mariadb")]
    server: Server,
    /// How many databases; each level adds to the one before.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,5000")]
    databases: Vec<usize>,
    /// Tables in each.
    #[arg(long, default_value_t = 10)]
    tables: usize,
    /// Seconds over which an idle server is watched, for each enforcer: ours looks at everybody every two minutes.
    #[arg(long, default_value_t = 125)]
    idle: u64,
    /// How often a quota is crossed under each enforcer.
    #[arg(long, default_value_t = 3)]
    crossings: usize,
    /// The figures as JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Where to keep the server's data meanwhile [default: the build's directory].
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(ValueEnum, Debug, Clone, Copy)]
enum Server {
    Mariadb,
    Mysql,
}

impl From<Server> for Flavor {
    fn from(server: Server) -> Self {
        match server {
            Server::Mariadb => Self::MariaDb,
            Server::Mysql => Self::MySql,
        }
    }
}

/// Seconds after which a naive pass is given up: with thousands of databases it takes minutes, and longer with the square of their number.
const GIVEN_UP: u64 = 60;

/// Seconds of the server's processors, and of the clock.
#[derive(Debug, Clone, Copy, Serialize)]
struct Cost {
    cpu: f64,
    wall: f64,
}

impl Cost {
    /// Of a naive pass: it takes longer than this.
    fn is_given_up(self) -> bool {
        self.wall >= Duration::from_secs(GIVEN_UP).as_secs_f64()
    }
}

/// From crossing to the first refusal.
#[derive(Debug, Clone, Copy, Serialize)]
struct Crossing {
    seconds: f64,
    /// MB stored beyond the quota.
    over_mb: f64,
}

#[derive(Debug, Serialize)]
struct Level {
    databases: usize,
    tables: usize,
    /// One warm pass of the naive one: what it reads.
    naive_pass: Cost,
    /// One warm pass of ours that looks at everybody.
    our_scan: Cost,
    cpu_ratio: f64,
    wall_ratio: f64,
    /// Per cent of a core that an idle server uses more than with no enforcer, pause 1 s; ours with its own process.
    naive_idle_per_cent: f64,
    our_idle_per_cent: f64,
    server_alone_per_cent: f64,
    naive_crossings: Vec<Crossing>,
    our_crossings: Vec<Crossing>,
}

fn main() {
    let arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --benches` comes here
        eprintln!("nothing is measured by a test: cargo bench --bench enforcer");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let levels = runtime.block_on(measure(&arguments));
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&levels).expect("JSON"));
    } else {
        print(&levels);
    }
}

async fn measure(arguments: &Arguments) -> Vec<Level> {
    let mut rig = Rig::start(arguments).await;
    let mut levels = Vec::new();
    let mut sizes = arguments.databases.clone();
    sizes.sort_unstable();
    for databases in sizes {
        rig.seed(databases, arguments.tables).await;
        eprintln!("{databases} databases: passes");
        let (naive_pass, our_scan) = passes(&rig).await;
        eprintln!("{databases} databases: idle");
        let idle = Duration::from_secs(arguments.idle);
        let alone = rig.burn(idle).await;
        let (mut our_crossings, mut naive_crossings) = (Vec::new(), Vec::new());
        let our_idle = {
            let enforcer = EnforcerProcess::start(&rig).await;
            let own = enforcer.cpu();
            let burn = rig.burn(idle).await - alone + (enforcer.cpu() - own) / idle.as_secs_f64();
            eprintln!("{databases} databases: crossings");
            for _ in 0..arguments.crossings {
                let (database, crossing) = crossing(&rig).await;
                our_crossings.push(crossing);
                rig.drop_what_was_written(&database).await;
                rig.writing_is_given_back().await;
            }
            burn
        };
        eprintln!("{databases} databases: the same with the naive one");
        let naive_idle = {
            let looping = NaiveLoop::start(&rig);
            let burn = rig.burn(idle).await - alone;
            if !naive_pass.is_given_up() {
                for _ in 0..arguments.crossings {
                    let (database, crossing) = crossing(&rig).await;
                    naive_crossings.push(crossing);
                    rig.drop_what_was_written(&database).await;
                    rig.give_back_writing(&database).await;
                }
            }
            looping.stop().await;
            burn
        };
        levels.push(Level {
            databases,
            tables: arguments.tables,
            naive_pass,
            our_scan,
            cpu_ratio: naive_pass.cpu / our_scan.cpu,
            wall_ratio: naive_pass.wall / our_scan.wall,
            naive_idle_per_cent: naive_idle * 100.0,
            our_idle_per_cent: our_idle * 100.0,
            server_alone_per_cent: alone * 100.0,
            naive_crossings,
            our_crossings,
        });
        if !arguments.json {
            print(&levels[levels.len() - 1..]);
        }
    }
    levels
}

/// The cost of `times` of something, for one.
async fn cost<F: Future<Output = ()>>(rig: &Rig, times: u32, mut work: impl FnMut() -> F) -> Cost {
    let (cpu, wall) = (rig.cpu(), Instant::now());
    for _ in 0..times {
        work().await;
    }
    Cost { cpu: (rig.cpu() - cpu) / f64::from(times), wall: wall.elapsed().as_secs_f64() / f64::from(times) }
}

/// One pass, or as much of it as there is time for.
async fn naive_pass(root: &mut sqlx::MySqlConnection) {
    let began = Instant::now();
    let done = naive::pass(root, Naive::default()).await;
    assert!(done.is_ok() || began.elapsed() >= Duration::from_secs(GIVEN_UP), "a naive pass: {done:?}");
}

/// Alternating, each after a warm-up of its own; a naive pass that is given up is made once more.
async fn passes(rig: &Rig) -> (Cost, Cost) {
    let enforcer = tokio::sync::Mutex::new(rig.enforcer());
    let ours = async || {
        let report = enforcer.lock().await.once().await.expect("a pass");
        assert!(report.failures == 0 && report.scanned, "{report:?}");
    };
    let root = tokio::sync::Mutex::new(rig.connector().impatient_root(GIVEN_UP).await);
    let naive = async || naive_pass(&mut *root.lock().await).await;
    let warm_up = cost(rig, 1, naive).await;
    ours().await;
    let mut pairs = Vec::new();
    for _ in 0..if warm_up.is_given_up() { 1 } else { 3 } {
        let first = cost(rig, 1, naive).await;
        // its processor time is counted in hundredths of a second
        pairs.push((first, cost(rig, 30, ours).await));
    }
    pairs.sort_by(|a, b| (a.0.cpu / a.1.cpu).total_cmp(&(b.0.cpu / b.1.cpu)));
    pairs[pairs.len() / 2]
}

/// A naive enforcer that passes with a pause of a second.
struct NaiveLoop {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl NaiveLoop {
    fn start(rig: &Rig) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, root) = (stop.clone(), rig.connector());
        let task = tokio::spawn(async move {
            let mut root = root.impatient_root(GIVEN_UP).await;
            while !stopped.load(Ordering::Relaxed) {
                naive_pass(&mut root).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the naive one");
    }
}

/// A tight writer in one database, 64 KB a row, until it is refused or cut off; and which database.
async fn crossing(rig: &Rig) -> (String, Crossing) {
    const ROW: u64 = 64 << 10;
    let (database, quota_bytes) = rig.victim().await;
    let stored = AtomicU64::new(0);
    let mut tenant = rig.tenant(&database).await;
    let insert = format!("INSERT INTO `{database}`.w (body) VALUES (REPEAT('x', {ROW}))");
    let mut crossed = None;
    loop {
        if sqlx::raw_sql(sqlx::AssertSqlSafe(insert.clone())).execute(&mut tenant).await.is_err() {
            break;
        }
        if stored.fetch_add(ROW, Ordering::Relaxed) + ROW >= quota_bytes && crossed.is_none() {
            crossed = Some(Instant::now());
        }
    }
    let seconds = crossed.map_or(0.0, |at| at.elapsed().as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let over_mb = stored.load(Ordering::Relaxed).saturating_sub(quota_bytes) as f64 / f64::from(1 << 20);
    (database, Crossing { seconds, over_mb })
}

fn print(levels: &[Level]) {
    let family = if is_mariadb() { "MariaDB" } else { "MySQL" };
    for level in levels {
        println!("\n{family}, {} databases x {} tables", level.databases, level.tables);
        println!("                                   naive       ours");
        let more = if level.naive_pass.is_given_up() { "more than " } else { "" };
        println!(
            "server CPU of a pass, s       {:>10.3} {:>10.4}   {more}{:.0} x",
            level.naive_pass.cpu, level.our_scan.cpu, level.cpu_ratio
        );
        println!(
            "time of a pass, s             {:>10.3} {:>10.4}   {more}{:.0} x",
            level.naive_pass.wall, level.our_scan.wall, level.wall_ratio
        );
        println!(
            "idle, % of a core             {:>10.2} {:>10.2}   (server alone {:.2})",
            level.naive_idle_per_cent, level.our_idle_per_cent, level.server_alone_per_cent
        );
        for (number, ours) in level.our_crossings.iter().enumerate() {
            let naive = level.naive_crossings.get(number);
            let cell = |figure: Option<f64>| figure.map_or("-".to_owned(), |figure| format!("{figure:.2}"));
            println!("crossing to refusal, s        {:>10} {:>10.2}", cell(naive.map(|naive| naive.seconds)), ours.seconds);
            println!("MB over the quota             {:>10} {:>10.1}", cell(naive.map(|naive| naive.over_mb)), ours.over_mb);
        }
    }
}
