//! `reconcile`: what is there against what the rows say, and putting it right on the operator's word.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Broker, OsbError, Result};
use crate::domain::ids::InstanceId;
use crate::domain::instance::{Instance, InstanceState, OpId};
use crate::domain::last_operation::Removal;
use crate::domain::reconcile::{Facts, Finding, Kind, findings, may_drop};
use crate::mysql::instances::updates::Ended;
use crate::mysql::sessions;
use crate::mysql::{accounts, databases, instances, reconcile, retired_accounts, schema};

/// How often a broker counts what is wrong, for the metric.
const COUNT: Duration = Duration::from_secs(300);
/// How often it tells the last count, and looks again where nothing could be counted.
const TELL: Duration = Duration::from_secs(5);
/// How often `--wait` looks.
const WAIT: Duration = Duration::from_millis(500);

/// One thing that is wrong, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// What.
    pub kind: &'static str,
    /// The id, database or account it is about.
    pub name: String,
    /// What `--apply` does about it, or did.
    pub action: String,
}

/// What `reconcile` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reconciled {
    /// Everything that is wrong, or was.
    pub found: Vec<Found>,
    /// Whether anything was done about it.
    pub applied: bool,
}

impl Broker {
    /// Compares, and with `apply` puts right what is not under a live lease. With `wait` it first waits for those leases to end.
    ///
    /// # Errors
    /// Whatever keeps the database from answering; what cannot be put right is said in its `action`.
    pub async fn reconcile(&self, apply: bool, wait: bool) -> Result<Reconciled> {
        let mut facts = self.facts().await?;
        while wait && is_busy(&facts) {
            tokio::time::sleep(WAIT).await;
            facts = self.facts().await?;
        }
        let may_drop = may_drop(&facts);
        let lasting = self.lasting(&facts).await?;
        let still_abandoned = match apply && lasting.iter().any(is_abandoned) {
            true => self.sweep_all().await?,
            false => Vec::new(),
        };
        let mut found = Vec::new();
        for finding in lasting {
            let action = match plan(finding.kind, may_drop) {
                Plan::Leave(why) => why.to_owned(),
                Plan::Do(what) if apply && still_abandoned.contains(&finding) => {
                    format!("failed: {what}: it is still there, see the log")
                }
                Plan::Do(what) if apply => match self.mend(&finding).await {
                    Ok(()) => format!("done: {what}"),
                    Err(OsbError::Concurrency) => "somebody works on it".to_owned(),
                    Err(error) => {
                        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                        format!("failed: {what}: {error} {cause}")
                    }
                },
                Plan::Do(what) => what.to_owned(),
            };
            found.push(Found { kind: finding.kind.as_str(), name: finding.name, action });
        }
        Ok(Reconciled { found, applied: apply })
    }

    async fn facts(&self) -> Result<Facts> {
        Ok(reconcile::facts(&self.mysql, &self.settings().mysql.username).await?)
    }

    /// What is wrong, and still is when somebody looks again: what happens between two lists of one comparison looks wrong, but only once.
    async fn lasting(&self, facts: &Facts) -> Result<Vec<Finding>> {
        let mut found = findings(facts);
        if !found.is_empty() {
            let again = findings(&self.facts().await?);
            found.retain(|finding| again.contains(finding));
        }
        Ok(found)
    }

    /// Finishes or undoes what was abandoned; hands back what still is. One sweep takes only so many.
    async fn sweep_all(&self) -> Result<Vec<Finding>> {
        let mut before = usize::MAX;
        loop {
            self.sweep().await?;
            let mut left = findings(&self.facts().await?);
            left.retain(is_abandoned);
            if left.is_empty() || left.len() >= before {
                return Ok(left);
            }
            before = left.len();
        }
    }

    async fn mend(&self, finding: &Finding) -> Result<()> {
        match finding.kind {
            Kind::Counter => {
                schema::settle_counter(&self.mysql, self.settings().capacity.rules().per_instance).await?;
                Ok(())
            }
            Kind::MissingDatabase => self.restore_database(&finding.name).await,
            Kind::OldGeneration | Kind::OrphanDatabase => self.bury_database(&finding.name).await,
            Kind::OrphanAccount => self.bury_account(&finding.name).await,
            // what was abandoned has been swept
            Kind::AbandonedOperation | Kind::MissingAccount | Kind::OtherInstallation => Ok(()),
        }
    }

    /// An empty database in the place of the one that somebody dropped; rights on it were never taken.
    async fn restore_database(&self, id: &str) -> Result<()> {
        let (op, lease) = (OpId::new(), self.settings().server.lease());
        let Some(instance) = instances::find(&self.mysql, &InstanceId::from_stored(id.to_owned())).await? else { return Ok(()) };
        if instance.state != InstanceState::Ready || !instances::claim(&self.mysql, &instance, InstanceState::Updating, &op, lease).await? {
            return Err(OsbError::Concurrency);
        }
        let (charset, collation) = self.charset(&instance.parameters).await?;
        databases::create(&self.mysql, &instance.database, &charset, collation.as_deref()).await?;
        self.undo_update(&instance, &op, Ended::Repaired).await
    }

    async fn bury_database(&self, database: &str) -> Result<()> {
        let (op, lease) = (OpId::new(), self.settings().server.lease());
        let id = InstanceId::from_stored(format!("tombstone/{database}"));
        if !reconcile::bury(&self.mysql, id.as_str(), database, &op, lease).await? {
            return Err(OsbError::Concurrency);
        }
        let tombstone: Instance = instances::find(&self.mysql, &id).await?.ok_or(OsbError::Concurrency)?;
        self.remove(&tombstone, &op, &Removal::Resumed).await
    }

    /// Noted as retired first, so that any broker finishes what this one may not.
    async fn bury_account(&self, user: &str) -> Result<()> {
        for account in reconcile::accounts_named(&self.mysql, user).await? {
            retired_accounts::record(&self.mysql, &account, 0).await?;
            if reconcile::has_account(&self.mysql, &account).await? {
                retired_accounts::forget(&self.mysql, &account).await?;
                return Err(OsbError::Concurrency);
            }
            accounts::lock(&self.mysql, &account).await?;
            sessions::end(&self.mysql, &account.user).await?;
            accounts::drop(&self.mysql, &account).await?;
            retired_accounts::forget(&self.mysql, &account).await?;
        }
        Ok(())
    }

    /// Counts what is wrong for ever, for the metric; puts nothing right. Looking costs something, so that the last count is told again in
    /// between: a gauge that nobody sets is not published for long.
    pub async fn keep_counting(&self) {
        let mut counted: Option<(Instant, Vec<(Kind, u32)>)> = None;
        loop {
            if counted.as_ref().is_none_or(|(at, _)| at.elapsed() >= COUNT) {
                counted = match self.count().await {
                    Ok(counts) => Some((Instant::now(), counts)),
                    Err(error) => {
                        tracing::debug!(%error, "nothing was counted");
                        None
                    }
                };
            }
            for (kind, count) in counted.iter().flat_map(|(_, counts)| counts) {
                metrics::gauge!("cf_mysql_orphans", "kind" => kind.as_str()).set(*count);
            }
            tokio::time::sleep(TELL).await;
        }
    }

    async fn count(&self) -> Result<Vec<(Kind, u32)>> {
        let found = self.lasting(&self.facts().await?).await?;
        let counts = Kind::ALL.map(|kind| {
            let count = u32::try_from(found.iter().filter(|finding| finding.kind == kind).count()).unwrap_or(u32::MAX);
            if count > 0 {
                tracing::warn!(kind = kind.as_str(), count, "something is not as it should be: run `reconcile`");
            }
            (kind, count)
        });
        Ok(counts.into())
    }
}

fn is_abandoned(finding: &Finding) -> bool {
    finding.kind == Kind::AbandonedOperation
}

fn is_busy(facts: &Facts) -> bool {
    facts.instances.iter().any(|instance| instance.lease_live) || facts.bindings.iter().any(|binding| binding.lease_live)
}

enum Plan {
    Do(&'static str),
    Leave(&'static str),
}

fn plan(kind: Kind, may_drop: bool) -> Plan {
    const NOT_OURS: &str = "nothing: it may belong to another installation on this server";
    match kind {
        Kind::Counter => Plan::Do("set the counter to the sum of the rows"),
        Kind::AbandonedOperation => Plan::Do("finish or undo it"),
        Kind::MissingDatabase => Plan::Do("create it anew, empty"),
        Kind::MissingAccount => Plan::Leave("nothing: unbind and bind the app again"),
        Kind::OldGeneration | Kind::OrphanDatabase if may_drop => Plan::Do("drop the database"),
        Kind::OrphanAccount if may_drop => Plan::Do("drop the account and end its sessions"),
        Kind::OldGeneration | Kind::OrphanDatabase | Kind::OrphanAccount => Plan::Leave(NOT_OURS),
        Kind::OtherInstallation => Plan::Leave("nothing: this account may work on every database that is sold, as a broker does"),
    }
}
