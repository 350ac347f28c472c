//! What Linux tells of processes; zeros elsewhere.

use std::ops::Sub;

/// A clock tick of /proc is 10 ms on every machine Linux runs on today.
const TICK: f64 = 0.01;

/// Processor seconds used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    pub broker: f64,
    pub server: f64,
    pub own: f64,
    /// Everything on this machine.
    pub machine: f64,
}

impl Cpu {
    pub fn now(broker: u32, server: u32) -> Self {
        Self { broker: of_process(broker), server: of_process(server), own: of_process(std::process::id()), machine: of_machine() }
    }

    /// What others used.
    pub fn others(&self) -> f64 {
        (self.machine - self.broker - self.server - self.own).max(0.0)
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            broker: self.broker - earlier.broker,
            server: self.server - earlier.server,
            own: self.own - earlier.own,
            machine: self.machine - earlier.machine,
        }
    }
}

impl std::ops::AddAssign for Cpu {
    fn add_assign(&mut self, more: Self) {
        self.broker += more.broker;
        self.server += more.server;
        self.own += more.own;
        self.machine += more.machine;
    }
}

/// User and system time of a process.
fn of_process(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // its name may hold anything, so count from the parenthesis behind it
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() * TICK
}

/// Everything but idle and waiting: user, nice, system, irq, softirq.
fn of_machine() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<f64> =
        stat.lines().next().unwrap_or_default().split_whitespace().skip(1).filter_map(|ticks| ticks.parse().ok()).collect();
    [0, 1, 2, 5, 6].iter().filter_map(|index| fields.get(*index)).sum::<f64>() * TICK
}

/// A line of /proc/PID/status such as `VmRSS`, in MB.
pub fn memory_mb(pid: u32, name: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|kb| kb.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// The processor's name.
pub fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim().to_owned()));
    name.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}
