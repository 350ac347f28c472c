//! A broker (or an enforcer) as a real process.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::PATIENCE;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_cf-mysql-broker");

/// A running process of the program; killed when dropped.
pub struct BrokerProcess {
    child: Child,
    output: Arc<Mutex<Vec<String>>>,
}

impl BrokerProcess {
    /// Starts a verb with a settings file.
    pub fn start(verb: &str, config: &Path) -> Self {
        Self::start_in(verb, config, &[])
    }

    /// As [`BrokerProcess::start`], with more in the environment.
    pub fn start_in(verb: &str, config: &Path, environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(PROGRAM)
            .args([OsStr::new(verb), OsStr::new("--config"), config.as_os_str()])
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a process");
        let output = Arc::new(Mutex::new(Vec::new()));
        let readers: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("stdout")), Box::new(child.stderr.take().expect("stderr"))];
        for reader in readers {
            let output = output.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(reader).lines().map_while(Result::ok) {
                    output.lock().expect("output").push(line);
                }
            });
        }
        Self { child, output }
    }

    /// Everything it has said, on stdout and stderr.
    pub fn output(&self) -> Vec<String> {
        self.output.lock().expect("output").clone()
    }

    /// Waits until a line of its output gives something.
    pub async fn wait_for<T>(&mut self, what: &str, mut probe: impl FnMut(&str) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(found) = self.output().iter().find_map(|line| probe(line)) {
                return found;
            }
            let ended = self.child.try_wait().expect("a state");
            assert!(ended.is_none() && started.elapsed() < PATIENCE, "{what}; ended: {ended:?}; output: {:#?}", self.output());
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// The port a broker says it listens on.
    pub async fn port(&mut self) -> u16 {
        self.wait_for("the broker listens", |line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            (line["message"] == "listening").then(|| u16::try_from(line["port"].as_u64()?).ok())?
        })
        .await
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("a signal");
    }

    /// Its resident memory in kB.
    pub fn resident_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
    }

    /// Whether it has ended.
    #[cfg(feature = "failpoints")]
    pub fn is_dead(&mut self) -> bool {
        self.child.try_wait().expect("a state").is_some()
    }

    /// Whether SIGSTOP has stopped it.
    #[cfg(feature = "failpoints")]
    pub fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // after the name in parentheses, which may hold anything
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    }

    /// SIGTERM, and how it ended.
    pub async fn terminate(mut self) -> (ExitStatus, Vec<String>) {
        self.signal(rustix::process::Signal::TERM);
        self.ended().await
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> (ExitStatus, Vec<String>) {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a state") {
                // the readers end with the pipes; give them the last lines
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                return (status, self.output());
            }
            assert!(started.elapsed() < PATIENCE, "it does not end; output: {:#?}", self.output());
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            for line in self.output() {
                eprintln!("    {line}");
            }
        }
    }
}

/// Runs a verb to its end: exit code, stdout, stderr.
pub fn run(arguments: &[&OsStr], environment: &[(&str, &str)]) -> (i32, String, String) {
    let output = Command::new(PROGRAM).args(arguments).envs(environment.iter().copied()).stdin(Stdio::null()).output().expect("a process");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}
