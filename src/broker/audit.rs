//! The audit trail: written behind the answers, many entries at a time, so that it costs no request a disk write. The log has
//! each of them at once; a kill in between loses what is not written yet.

use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use super::{Broker, Result};
use crate::mysql::audit_trail;
pub use crate::mysql::audit_trail::Entry;

/// Entries kept while the database is away; more are counted as lost.
const WAITING: usize = 10_000;
/// Entries written at once.
const AT_ONCE: usize = 200;
/// How long entries are gathered while there are fewer: ten statements a second, however many requests.
const GATHER: Duration = Duration::from_millis(100);

/// What waits to be written.
pub(super) struct Audit {
    send: mpsc::Sender<Entry>,
    receive: Mutex<mpsc::Receiver<Entry>>,
}

impl Default for Audit {
    fn default() -> Self {
        let (send, receive) = mpsc::channel(WAITING);
        Self { send, receive: Mutex::new(receive) }
    }
}

/// Waits for an entry, and a little longer for others, unless there is enough to do at once.
async fn gather(receive: &mut mpsc::Receiver<Entry>, entries: &mut Vec<Entry>) {
    if receive.recv_many(entries, AT_ONCE).await < AT_ONCE {
        tokio::time::sleep(GATHER).await;
        while entries.len() < AT_ONCE
            && let Ok(entry) = receive.try_recv()
        {
            entries.push(entry);
        }
    }
}

fn lose(why: &dyn std::fmt::Display) {
    metrics::counter!("cf_mysql_audit_entries_lost_total").increment(1);
    tracing::error!(%why, "an entry of the audit trail was lost; the log has it");
}

impl Broker {
    /// Adds an entry; never waits.
    pub fn audit(&self, entry: Entry) {
        if self.audit.send.try_send(entry).is_err() {
            lose(&"too many wait for the database");
        }
    }

    /// Writes entries until `stop`, then what is left.
    pub async fn keep_auditing(&self, stop: CancellationToken) {
        let mut receive = self.audit.receive.lock().await;
        let mut entries = Vec::with_capacity(AT_ONCE);
        loop {
            tokio::select! {
                () = gather(&mut receive, &mut entries) => {}
                () = stop.cancelled() => {
                    while let Ok(entry) = receive.try_recv() {
                        entries.push(entry);
                    }
                    if let Err(error) = self.write(&mut entries).await {
                        tracing::error!(%error, entries = entries.len(), "the end of the audit trail was not written; the log has it");
                    }
                    return;
                }
            }
            while let Err(error) = self.write(&mut entries).await {
                tracing::debug!(%error, "the audit trail waits for the database");
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    () = stop.cancelled() => break,
                }
            }
        }
    }

    /// Writes all entries, but for those that the table will never take: they would hold up all others for ever.
    async fn write(&self, entries: &mut Vec<Entry>) -> Result<()> {
        let mut at_once = AT_ONCE;
        while !entries.is_empty() {
            let part = entries.len().min(at_once);
            match audit_trail::append(&self.mysql, &entries[..part]).await {
                Err(error) if error.is_of_the_data() && part > 1 => {
                    at_once = 1;
                    continue;
                }
                Err(error) if error.is_of_the_data() => lose(&error),
                written => written?,
            }
            entries.drain(..part);
        }
        Ok(())
    }

    /// The newest entries, newest first.
    ///
    /// # Errors
    /// Whatever keeps the database from answering.
    pub async fn audit_trail(&self, instance: Option<&str>, limit: u32) -> Result<Vec<Entry>> {
        Ok(audit_trail::newest(&self.mysql, instance, limit).await?)
    }
}
