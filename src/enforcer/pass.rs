//! One pass: facts, judgement, action. An error about one database never stops the others.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::Enforcer;
use super::act::Done;
use crate::domain::quota::{Sold, Verdict, is_suspect, judge};
use crate::mysql::sessions::{self, Targets};
use crate::mysql::{Result, quota};

/// What a pass saw and did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PassReport {
    /// Databases with a quota.
    pub databases: usize,
    /// Of these, looked at exactly.
    pub suspects: usize,
    /// Crossed their quota since the last pass.
    pub violators: usize,
    /// Over their quota after the pass.
    pub over: usize,
    /// Back under their quota.
    pub reformers: usize,
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
}

/// Milliseconds by stage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stages {
    /// List of quotas and file sizes.
    pub screen: u64,
    /// Exact sizes, privileges, sessions.
    pub suspects: u64,
}

impl Enforcer {
    /// Makes one pass; `still_leads` is asked before each change.
    pub(super) async fn pass(&mut self, time_box: Option<Duration>, still_leads: &(dyn Fn() -> bool + Send + Sync)) -> Result<PassReport> {
        let started = Instant::now();
        let sold = quota::sold(&self.mysql).await?;
        self.forget_others(&sold);
        let sizes = self.screen(&sold, time_box).await?;
        let mut report = PassReport { databases: sold.len(), ..PassReport::default() };
        report.milliseconds.screen = milliseconds(started);

        let started = Instant::now();
        let mut targets = Targets::new();
        for sold in sold.iter().filter(|sold| is_suspect(sizes.get(&sold.database).copied().unwrap_or(0), sold)) {
            if !still_leads() {
                break;
            }
            report.suspects += 1;
            if let Err(error) = self.enforce(sold, &mut report, &mut targets).await {
                report.failures += 1;
                report.over += usize::from(sold.is_over);
                tracing::warn!(database = sold.database, %error, "the quota of a database could not be enforced yet");
            }
        }
        report.sessions_ended = sessions::kill(&self.mysql, &targets).await?;
        report.milliseconds.suspects = milliseconds(started);
        Ok(report)
    }

    async fn enforce(&mut self, sold: &Sold, report: &mut PassReport, targets: &mut Targets) -> Result<()> {
        let used = self.used(sold).await?;
        let Done { revoked, restored } = match judge(used, sold) {
            Verdict::Ok => Done::default(),
            Verdict::Violator => {
                report.violators += 1;
                report.over += 1;
                self.take(sold, used, targets).await?
            }
            Verdict::StillOver => {
                report.over += 1;
                self.take(sold, used, targets).await?
            }
            Verdict::Reformer => {
                report.reformers += 1;
                self.give_back(sold, used, targets).await?
            }
        };
        report.revoked += revoked;
        report.restored += restored;
        Ok(())
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
        let happened = self.violators + self.reformers + self.revoked + self.failures + self.sessions_ended > 0;
        let report = serde_json::to_string(self).unwrap_or_default();
        if happened {
            tracing::info!(report, "quota pass");
        } else {
            tracing::debug!(report, "quota pass");
        }
    }
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
