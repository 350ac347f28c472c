//! Figures out of runs, and tables out of figures.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::audit::Audit;
use crate::load::{Run, Verb};
use crate::proc::Cpu;

/// Aims at 8 clients.
const AIM_RATE: f64 = 0.7;
const AIM_P99: f64 = 2.0;
const AIM_CLIENTS: usize = 8;
const AIM_MEMORY_MB: f64 = 30.0;
const AIM_READY_MS: f64 = 1000.0;

/// The runs of one verb by so many clients beside so many instances; the n-th run of each side form a pair.
pub struct Pairs {
    pub instances: u64,
    pub clients: usize,
    pub verb: Verb,
    pub broker: Vec<Run>,
    pub raw: Vec<Run>,
}

/// One side of a pair.
#[derive(Debug, Clone, Serialize)]
pub struct Side {
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Processor microseconds of a request: the server's, the broker's, this program's.
    pub server_cpu_us: f64,
    pub broker_cpu_us: f64,
    pub own_cpu_us: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub instances: u64,
    pub clients: usize,
    pub verb: &'static str,
    /// Median of the pairs; the lowest and the highest.
    pub rate_ratio: f64,
    pub rate_ratio_lowest: f64,
    pub rate_ratio_highest: f64,
    pub p99_ratio: f64,
    pub rounds: usize,
    pub broker: Side,
    pub raw: Side,
}

#[derive(Debug, Clone, Serialize)]
pub struct Flood {
    pub clients: usize,
    pub own_ceiling: f64,
    pub health: f64,
    pub catalog: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Memory {
    pub at_start_mb: f64,
    pub after_load_mb: f64,
    pub highest_mb: f64,
    /// Another process, with the enforcer, after some passes over every instance.
    pub with_enforcer_mb: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub server: String,
    pub processor: String,
    pub cores: usize,
    pub file_system: String,
    pub connections: u32,
    pub seconds: f64,
    /// Per cent of the machine that was busy with something else meanwhile.
    pub others_percent: f64,
    pub rows: Vec<Row>,
    pub sent: Vec<SentRow>,
    pub floods: Vec<Flood>,
    pub memory: Memory,
    pub ready_ms: Vec<f64>,
    /// Of each side.
    pub requests: usize,
    /// Transactions that were sent again after a deadlock.
    pub broker_retries: u64,
    pub raw_retries: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct SentRow {
    pub verb: &'static str,
    pub statements: usize,
    pub pings: usize,
    pub raw_statements: usize,
    pub raw_pings: usize,
    pub same: bool,
}

#[expect(clippy::cast_precision_loss, reason = "thousands")]
fn mean(sum: f64, count: usize) -> f64 {
    sum / count.max(1) as f64
}

pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => 0.0,
        (length, middle) if length % 2 == 1 => values[middle],
        (_, middle) => f64::midpoint(values[middle - 1], values[middle]),
    }
}

fn side(runs: &[Run]) -> Side {
    let mut latencies: Vec<Duration> = runs.iter().flat_map(|run| run.latencies.iter().copied()).collect();
    latencies.sort_unstable();
    let requests = latencies.len();
    let at =
        |per_cent: usize| latencies.get((requests * per_cent / 100).min(requests.saturating_sub(1))).map_or(0.0, |d| d.as_secs_f64() * 1e3);
    let mut cpu = Cpu::default();
    runs.iter().for_each(|run| cpu += run.cpu);
    Side {
        per_second: median(&mut runs.iter().map(Run::rate).collect::<Vec<_>>()),
        p50_ms: at(50),
        p99_ms: at(99),
        server_cpu_us: mean(cpu.server * 1e6, requests),
        broker_cpu_us: mean(cpu.broker * 1e6, requests),
        own_cpu_us: mean(cpu.own * 1e6, requests),
    }
}

impl From<Pairs> for Row {
    fn from(pairs: Pairs) -> Self {
        let mut ratios: Vec<f64> = pairs.broker.iter().zip(&pairs.raw).map(|(broker, raw)| broker.rate() / raw.rate()).collect();
        let (broker, raw) = (side(&pairs.broker), side(&pairs.raw));
        Self {
            instances: pairs.instances,
            clients: pairs.clients,
            verb: pairs.verb.name(),
            rate_ratio: median(&mut ratios),
            rate_ratio_lowest: ratios.first().copied().unwrap_or(0.0),
            rate_ratio_highest: ratios.last().copied().unwrap_or(0.0),
            p99_ratio: broker.p99_ms / raw.p99_ms,
            rounds: ratios.len(),
            broker,
            raw,
        }
    }
}

pub fn sent_rows(audits: &BTreeMap<&'static str, Audit>) -> Vec<SentRow> {
    let rows = Verb::ALL.iter().filter_map(|verb| audits.get(verb.name()).map(|audit| (verb.name(), audit)));
    rows.map(|(verb, audit)| SentRow {
        verb,
        statements: audit.broker.statements.len(),
        pings: audit.broker.pings,
        raw_statements: audit.raw.statements.len(),
        raw_pings: audit.raw.pings,
        same: audit.is_same(),
    })
    .collect()
}

fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>, texts: usize) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(header.to_vec()).add_rows(rows);
    for column in table.column_iter_mut().skip(texts) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

impl Report {
    fn rate_rows(&self) -> Vec<Vec<String>> {
        self.rows
            .iter()
            .map(|row| {
                vec![
                    row.verb.to_owned(),
                    row.instances.to_string(),
                    row.clients.to_string(),
                    format!("{:.2}", row.rate_ratio),
                    format!("{:.2}-{:.2}", row.rate_ratio_lowest, row.rate_ratio_highest),
                    format!("{:.2}", row.p99_ratio),
                    format!("{:.0}", row.broker.per_second),
                    format!("{:.0}", row.raw.per_second),
                    format!("{:.1}", row.broker.p50_ms),
                    format!("{:.1}", row.broker.p99_ms),
                    format!("{:.1}", row.raw.p50_ms),
                    format!("{:.1}", row.raw.p99_ms),
                ]
            })
            .collect()
    }

    /// What the rates beside the most instances are of those beside the fewest.
    fn growth_rows(&self) -> Vec<Vec<String>> {
        let Some((fewest, most)) = self.rows.iter().map(|row| row.instances).min().zip(self.rows.iter().map(|row| row.instances).max())
        else {
            return Vec::new();
        };
        let pairs = self.rows.iter().filter(|row| row.instances == most && most > fewest).filter_map(|row| {
            let before =
                self.rows.iter().find(|other| other.instances == fewest && other.clients == row.clients && other.verb == row.verb)?;
            Some((before, row))
        });
        pairs
            .map(|(before, after)| {
                vec![
                    after.verb.to_owned(),
                    after.clients.to_string(),
                    format!("{:.2}", after.broker.per_second / before.broker.per_second),
                    format!("{:.2}", after.raw.per_second / before.raw.per_second),
                ]
            })
            .collect()
    }

    fn cost_rows(&self) -> Vec<Vec<String>> {
        let clients = if self.rows.iter().any(|row| row.clients == AIM_CLIENTS) {
            AIM_CLIENTS
        } else {
            self.rows.first().map_or(0, |row| row.clients)
        };
        let sent =
            self.sent.iter().filter_map(|sent| Some((sent, self.rows.iter().find(|row| row.verb == sent.verb && row.clients == clients)?)));
        sent.map(|(sent, row)| {
            vec![
                sent.verb.to_owned(),
                sent.statements.to_string(),
                sent.pings.to_string(),
                sent.raw_statements.to_string(),
                if sent.same { "yes" } else { "NO" }.to_owned(),
                format!("{:.0}", row.broker.broker_cpu_us),
                format!("{:.0}", row.broker.server_cpu_us),
                format!("{:.0}", row.broker.own_cpu_us),
                format!("{:.0}", row.raw.server_cpu_us),
                format!("{:.0}", row.raw.own_cpu_us),
            ]
        })
        .collect()
    }

    /// Every aim and what became of it.
    pub fn verdicts(&self) -> Vec<String> {
        let verdict = |met: bool| if met { "met" } else { "MISSED" };
        let mut lines = Vec::new();
        for row in self.rows.iter().filter(|row| row.clients == AIM_CLIENTS) {
            lines.push(format!(
                "{:<11} {:>6} instances, {AIM_CLIENTS} clients: rate {:.2} of raw, aim {AIM_RATE} or more: {}; p99 {:.2} of raw, aim below {AIM_P99}: {}",
                row.verb,
                row.instances,
                row.rate_ratio,
                verdict(row.rate_ratio >= AIM_RATE),
                row.p99_ratio,
                verdict(row.p99_ratio < AIM_P99)
            ));
        }
        let memory = self.memory.after_load_mb.max(self.memory.with_enforcer_mb);
        lines.push(format!("memory {memory:.1} MB, aim below {AIM_MEMORY_MB}: {}", verdict(memory < AIM_MEMORY_MB)));
        let ready = self.ready_ms.iter().copied().fold(0.0, f64::max);
        lines.push(format!("ready after {ready:.0} ms at the slowest, aim below {AIM_READY_MS}: {}", verdict(ready < AIM_READY_MS)));
        lines
    }

    pub fn print(&self) {
        println!(
            "\n{}; {} cores ({}), {}; {} connections of the broker; {} requests of each side in {:.0} s; other programs kept {:.0}% of the cores busy",
            self.server, self.cores, self.processor, self.file_system, self.connections, self.requests, self.seconds, self.others_percent
        );
        println!("\nThe broker against the same statements sent straight to the server; times in ms.\n");
        let header = [
            "verb",
            "instances",
            "clients",
            "rate",
            "lowest-highest",
            "p99",
            "broker/s",
            "raw/s",
            "broker p50",
            "broker p99",
            "raw p50",
            "raw p99",
        ];
        println!("{}", table(&header, self.rate_rows(), 1));
        println!("\nWhat a request costs: statements, and processor time in microseconds.\n");
        let header = ["verb", "statements", "pings", "raw statements", "same", "broker", "server", "load", "raw: server", "raw: load"];
        println!("{}", table(&header, self.cost_rows(), 1));
        println!("\nRates beside the most instances, as a part of those beside the fewest.\n");
        println!("{}", table(&["verb", "clients", "broker", "raw"], self.growth_rows(), 1));
        println!("\nRequests per second without the database; the load program alone first.\n");
        let floods = self.floods.iter().map(|flood| {
            let whole = |rate: f64| format!("{rate:.0}");
            vec![flood.clients.to_string(), whole(flood.own_ceiling), whole(flood.health), whole(flood.catalog)]
        });
        println!("{}", table(&["clients", "load program", "/health", "/v2/catalog"], floods, 0));
        let memory = &self.memory;
        println!(
            "\nResident memory: {:.1} MB at the start, {:.1} MB after the load ({:.1} MB at most); {:.1} MB with the enforcer over every instance.",
            memory.at_start_mb, memory.after_load_mb, memory.highest_mb, memory.with_enforcer_mb
        );
        let ready: Vec<String> = self.ready_ms.iter().map(|ms| format!("{ms:.0}")).collect();
        println!(
            "Transactions sent again after a deadlock: {} of the broker's, {} of the raw side's.",
            self.broker_retries, self.raw_retries
        );
        println!("From exec to ready, schema in place: {} ms.\n", ready.join(", "));
        for line in self.verdicts() {
            println!("{line}");
        }
    }
}
