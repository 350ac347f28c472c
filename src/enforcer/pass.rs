//! One pass: facts, judgement, action. An error about one database never stops the others.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Enforcer;
use super::act::Done;
use super::shared::Shared;
use crate::domain::quota::{Sold, Verdict, Warning, is_nearly_full, is_suspect, judge, warning};
use crate::domain::to_mb;
use crate::mysql::sessions::{self, Targets};
use crate::mysql::{Error, Result, quota};

/// How long one database may keep a pass: what was begun with it is repeated in the next.
const ONE_DATABASE: Duration = Duration::from_secs(30);

/// What a pass saw and did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PassReport {
    /// Databases with a quota; of the last scan where this pass looked at suspects only.
    pub databases: usize,
    /// Whether everybody was looked at, or only who was suspect already.
    pub scanned: bool,
    /// Of these, looked at exactly.
    pub suspects: usize,
    /// Crossed their quota since the last pass.
    pub violators: usize,
    /// Over their quota after the pass.
    pub over: usize,
    /// Back under their quota.
    pub reformers: usize,
    /// Crossed a warning threshold since the last pass.
    pub warned: usize,
    /// Accounts whose write privileges were taken.
    pub revoked: usize,
    /// Accounts that have them back.
    pub restored: usize,
    /// Sessions ended.
    pub sessions_ended: usize,
    /// Databases about which something failed: they are looked at again in the next pass.
    pub failures: usize,
    /// Time by stage.
    pub milliseconds: Stages,
    /// What was read by stage: files in the screen, databases among the suspects.
    pub rows: Stages,
}

/// A figure by stage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stages {
    /// List of quotas and file sizes.
    pub screen: u64,
    /// Exact sizes, privileges, sessions.
    pub suspects: u64,
}

impl Enforcer {
    /// Makes one pass. `time_box`: none looks at everybody and everything, however long that takes.
    pub(super) async fn pass(&mut self, time_box: Option<Duration>) -> Result<PassReport> {
        let started = Instant::now();
        self.measurements.silent_nodes.clear();
        self.shared = Shared::default();
        let settings = self.settings.load_full();
        let mut report = PassReport::default();
        let scan = self.gate(time_box).await?;
        let sold = match scan {
            Some(counters) => {
                let sold = quota::sold(&self.mysql).await?;
                // before the list of files, so that this one is good for them too
                let known: Vec<&Sold> = sold.iter().filter(|sold| self.measurements.suspects.contains(&sold.database)).collect();
                report.failures += self.ask(&known, time_box).await;
                report.rows.screen = self.screen(&sold, counters, time_box).await? as u64;
                report.failures += self.audit(Some(counters.definitions), time_box).await?;
                for sold in &sold {
                    if is_suspect(self.measurements.size(&sold.database), sold) {
                        self.measurements.suspect(&sold.database);
                    }
                }
                sold
            }
            None => {
                report.failures += self.audit(None, time_box).await?;
                quota::sold_among(&self.mysql, &self.measurements.suspects()).await?
            }
        };
        report.scanned = scan.is_some();
        report.databases = self.measurements.databases();
        report.milliseconds.screen = milliseconds(started);

        let started = Instant::now();
        let suspects: Vec<&Sold> = sold.iter().filter(|sold| self.measurements.is_suspect(sold)).collect();
        report.failures += self.ask(&suspects, time_box).await;
        let mut targets = Targets::new();
        let mut measured = HashMap::new();
        for sold in &sold {
            if !self.leads() {
                break;
            }
            let size = self.measurements.size(&sold.database);
            if self.measurements.is_suspect(sold) {
                report.suspects += 1;
                let began = Instant::now();
                match in_time(time_box, self.enforce(sold, &mut report, &mut targets, time_box)).await {
                    Ok(used) => measured.extend(used.map(|used| (sold.database.as_str(), used))),
                    Err(error) => {
                        report.failures += 1;
                        if began.elapsed() >= ONE_DATABASE {
                            self.measurements.set_failed(&sold.database, Some(ONE_DATABASE));
                        }
                        tracing::warn!(database = sold.database, %error, "the quota of a database could not be enforced yet");
                    }
                }
            } else if is_nearly_full(size, sold, &settings.quota_enforcer.warn_at) && self.measurements.nearly_full_due(&sold.database) {
                match in_time(time_box, self.look_whether_to_warn(sold, &mut report)).await {
                    Ok(used) => {
                        measured.insert(sold.database.as_str(), used);
                    }
                    Err(error) => {
                        report.failures += 1;
                        tracing::warn!(database = sold.database, %error, "a database that is nearly full could not be measured yet");
                    }
                }
            }
        }
        if report.scanned && self.leads() {
            self.give_back_to_orphans(&mut report).await;
        }
        match sessions::kill(&self.mysql, &targets).await {
            Ok(ended) => report.sessions_ended += ended,
            // what was taken is taken, and must be told
            Err(error) => {
                report.failures += 1;
                tracing::warn!(%error, "not every session that is to end could be ended yet");
            }
        }
        report.rows.suspects = measured.len() as u64;
        report.milliseconds.suspects = milliseconds(started);
        if report.scanned {
            let used =
                |sold: &Sold| measured.get(sold.database.as_str()).copied().unwrap_or_else(|| self.measurements.size(&sold.database));
            super::ratios::publish(sold.iter().map(|sold| (sold.database.as_str(), used(sold), sold.quota_bytes)));
        }
        Ok(report)
    }

    /// Sees to one suspect; returns what it uses, in bytes, where that is known.
    async fn enforce(
        &mut self,
        sold: &Sold,
        report: &mut PassReport,
        targets: &mut Targets,
        time_box: Option<Duration>,
    ) -> Result<Option<u64>> {
        let rules = self.settings.load().quota_enforcer.rules();
        let (used, unmeasured) = match self.used(sold, rules, time_box).await {
            Ok(used) => (used, None),
            // its files alone may say enough
            Err(error) => (self.unknown(sold), Some(error)),
        };
        let Done { revoked, restored, sessions_ended, failure } = match judge(&used.usage, sold, rules) {
            Verdict::Ok => Done::default(),
            Verdict::Violator => {
                report.violators += 1;
                report.over += 1;
                self.take(sold, &used, targets).await?
            }
            Verdict::StillOver => {
                report.over += 1;
                self.take(sold, &used, targets).await?
            }
            Verdict::Reformer => {
                report.reformers += 1;
                self.give_back(sold, used.for_people.unwrap_or(0)).await?
            }
        };
        report.revoked += revoked;
        report.restored += restored;
        report.sessions_ended += sessions_ended;
        if let Some(failure) = failure.or(unmeasured) {
            return Err(failure);
        }
        if used.is_unfinished {
            report.failures += 1;
            tracing::debug!(database = sold.database, "a database was not measured to the end yet");
        }
        if let Some(bytes) = used.for_people {
            self.warn(sold, bytes, report).await?;
        }
        Ok(used.for_people)
    }

    async fn look_whether_to_warn(&self, sold: &Sold, report: &mut PassReport) -> Result<u64> {
        let used = self.used_by_statistics(sold).await?;
        self.warn(sold, used, report).await?;
        Ok(used)
    }

    /// Says once that a database has crossed a threshold. The note is in the database: another leader does not say it again.
    async fn warn(&self, sold: &Sold, used_bytes: u64, report: &mut PassReport) -> Result<()> {
        let settings = self.settings.load_full();
        let (from, to) = match warning(used_bytes, sold, &settings.quota_enforcer.warn_at) {
            Warning::Same => return Ok(()),
            Warning::Crossed(to) | Warning::Left(to) => (sold.warned_at, to),
        };
        if !quota::set_warning(&self.mysql, &sold.database, from, to).await? || to < from {
            return Ok(());
        }
        report.warned += 1;
        metrics::counter!("cf_mysql_enforcer_warnings_total", "per_cent" => to.to_string()).increment(1);
        if used_bytes < sold.quota_bytes {
            tracing::warn!(
                database = sold.database,
                per_cent = to,
                used_mb = to_mb(used_bytes),
                quota_mb = to_mb(sold.quota_bytes),
                "a database is nearly full: it has crossed a warning threshold"
            );
        }
        Ok(())
    }

    /// No instance, no quota: whatever was taken is given back.
    async fn give_back_to_orphans(&mut self, report: &mut PassReport) {
        let orphans = quota::orphans(&self.mysql).await.unwrap_or_else(|error| {
            report.failures += 1;
            tracing::warn!(%error, "databases that no instance stands for could not be looked for yet");
            Vec::new()
        });
        for database in orphans {
            if !self.leads() {
                break;
            }
            tracing::warn!(database, "writing was taken from a database that no instance stands for any more");
            let sold = Sold { database, is_over: true, ..Sold::default() };
            match self.give_back(&sold, 0).await {
                Ok(done) => {
                    report.restored += done.restored;
                    report.sessions_ended += done.sessions_ended;
                    report.failures += usize::from(done.failure.is_some());
                }
                Err(error) => {
                    report.failures += 1;
                    tracing::warn!(database = sold.database, %error, "writing could not be given back yet");
                }
            }
        }
    }
}

impl PassReport {
    /// One log line (at info when something happened) and metrics.
    pub(super) fn publish(&self, took: Duration) {
        metrics::counter!("cf_mysql_enforcer_passes_total").increment(1);
        metrics::histogram!("cf_mysql_enforcer_pass_seconds").record(took.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!("cf_mysql_enforcer_violators").set(self.over as f64);
        metrics::counter!("cf_mysql_enforcer_revocations_total").increment(self.revoked as u64);
        metrics::counter!("cf_mysql_enforcer_restorations_total").increment(self.restored as u64);
        metrics::counter!("cf_mysql_enforcer_failures_total").increment(self.failures as u64);
        let happened = self.violators + self.reformers + self.revoked + self.restored + self.failures + self.sessions_ended > 0;
        let report = serde_json::to_string(self).unwrap_or_default();
        if happened {
            tracing::info!(report, "quota pass");
        } else {
            tracing::debug!(report, "quota pass");
        }
    }
}

/// Gives up a database that keeps the pass, in a pass that does not look at everything however long that takes.
async fn in_time<T>(time_box: Option<Duration>, work: impl Future<Output = Result<T>>) -> Result<T> {
    if time_box.is_none() {
        return work.await;
    }
    let up = |_| Err(Error::Unavailable(format!("it took more than {} s", ONE_DATABASE.as_secs())));
    tokio::time::timeout(ONE_DATABASE, work).await.unwrap_or_else(up)
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
