//! A server process and the thread that keeps it.

use std::io;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::sync::watch;

use super::error::{Doing as _, Error};

/// How long a server may take to shut down before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct Running {
    /// The process while it can be signalled: emptied before the process is reaped, so that a signal can never reach another
    /// process that got its number.
    pid: Arc<Mutex<Option<Pid>>>,
    /// How it ended, once it has.
    ended: watch::Receiver<Option<String>>,
    keeper: JoinHandle<()>,
}

impl Running {
    /// Starts the process from a thread that does nothing else and ends after it: the kernel sends the parent-death signal when
    /// the thread that started a process ends.
    pub(super) fn spawn(mut command: Command) -> Result<Self, Error> {
        let pid = Arc::new(Mutex::new(None));
        let (tell_ended, ended) = watch::channel(None);
        let (tell_started, started) = mpsc::channel();
        let shared = Arc::clone(&pid);
        let keep = move || {
            let mut child = match command.spawn() {
                Ok(child) => child,
                Err(error) => {
                    let _ = tell_started.send(Err(error));
                    return;
                }
            };
            // Closes our copies of what only the server shall hold.
            drop(command);
            let pid = Pid::from_child(&child);
            *lock(&shared) = Some(pid);
            let _ = tell_started.send(Ok(()));
            wait_for(pid, WaitIdOptions::EXITED);
            let mut guard = lock(&shared);
            *guard = None;
            let status = child.wait();
            drop(guard);
            tell_ended.send_replace(Some(status.map_or_else(|error| error.to_string(), |status| status.to_string())));
        };
        let keeper = thread::Builder::new().name("local-server".to_owned()).spawn(keep).doing(|| "starting a thread".to_owned())?;
        // Starting a process takes about a millisecond; and as nothing is awaited, a caller that gives up cannot lose the process
        // here.
        started.recv().map_err(io::Error::other).flatten().doing(|| "starting the server".to_owned())?;
        Ok(Self { pid, ended, keeper })
    }

    pub(super) fn pid(&self) -> Option<u32> {
        let pid = *lock(&self.pid);
        u32::try_from(pid?.as_raw_nonzero().get()).ok()
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = *lock(&self.pid) {
            send(pid, signal);
        }
    }

    /// Stops the process until it gets a `CONT`.
    pub(super) fn pause(&self) {
        // Nobody reaps it or lets it go on while we hold this.
        let guard = lock(&self.pid);
        if let Some(pid) = *guard
            && send(pid, Signal::STOP)
        {
            // Its threads stop one after the other, and one that has not yet can still answer.
            wait_for(pid, WaitIdOptions::STOPPED | WaitIdOptions::EXITED);
        }
    }

    /// How it ended, if it has.
    pub(super) fn status(&self) -> Option<String> {
        self.ended.borrow().clone()
    }

    pub(super) async fn ended(&mut self) {
        // An error means that the keeper is gone, and so is the process.
        let _ = self.ended.wait_for(Option::is_some).await;
    }

    /// Shuts it down, and kills it if that takes too long.
    pub(super) async fn shut_down(mut self) {
        self.signal(Signal::TERM);
        // A stopped process does nothing about it before it may go on.
        self.signal(Signal::CONT);
        if tokio::time::timeout(STOP_TIMEOUT, self.ended()).await.is_err() {
            tracing::warn!("the private server did not shut down in time and is killed");
            self.kill().await;
        }
    }

    pub(super) async fn kill(mut self) {
        self.signal(Signal::KILL);
        self.ended().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        // A killed process is gone in milliseconds; one that waits for a dead disk is left to it.
        let give_up = Instant::now() + Duration::from_secs(5);
        while !self.keeper.is_finished() && Instant::now() < give_up {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Whether the process got the signal.
fn send(pid: Pid, signal: Signal) -> bool {
    let sent = kill_process(pid, signal);
    if let Err(error) = &sent {
        tracing::debug!(%error, ?signal, "could not signal the private server");
    }
    sent.is_ok()
}

/// Waits, and leaves the process to be reaped.
fn wait_for(pid: Pid, what: WaitIdOptions) {
    while matches!(waitid(WaitId::Pid(pid), what | WaitIdOptions::NOWAIT), Err(Errno::INTR)) {}
}

/// Nothing panics while it holds one of these locks, so a poisoned one is as good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
