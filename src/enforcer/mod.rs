//! When the quota is applied: the loop, its pause, its lease and its end. It may run beside the broker in `serve`, or as a
//! process of its own with an account that has fewer rights; so it imports neither the broker nor HTTP.

mod act;
mod measure;
mod memory;
mod outside;
mod pass;
mod ratios;
mod shared;

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::domain::names;
use crate::mysql::{Error, Mysql, Result, leader};
use crate::settings::SharedSettings;
pub use pass::PassReport;

/// How often the lease is renewed by its holder.
const RENEW: Duration = Duration::from_secs(1);
/// How often others look whether it has run out.
const POLL: Duration = Duration::from_millis(250);

/// The quota enforcer.
pub struct Enforcer {
    mysql: Mysql,
    settings: SharedSettings,
    holder: String,
    measurements: memory::Memory,
    shared: shared::Shared,
    /// Until when this process leads, where it has to.
    lead: Option<watch::Receiver<Option<Instant>>>,
}

impl Enforcer {
    /// Puts one together; connects to nothing. `mysql` is a connection with the enforcer's account.
    pub fn new(mysql: Mysql, settings: SharedSettings) -> Self {
        let holder = format!("{}-{}", std::process::id(), names::random_hex(8));
        Self { mysql, settings, holder, measurements: memory::Memory::default(), shared: shared::Shared::default(), lead: None }
    }

    /// One pass, whoever leads: several at once do no harm. Looks at every database, however long that takes.
    ///
    /// # Errors
    /// Whatever keeps the pass from being made at all; failures of one database are counted in the report.
    pub async fn once(&mut self) -> Result<PassReport> {
        if let Some(leader) = leader::holder(&self.mysql).await? {
            tracing::warn!(leader, "another enforcer leads; this pass is made all the same");
        }
        self.pass(None).await
    }

    /// Passes until `stop`, whenever this process holds the lease; gives it back at the end.
    pub async fn run(mut self, stop: CancellationToken) {
        let settings = self.settings.load();
        let quota_enforcer = &settings.quota_enforcer;
        tracing::info!(
            pause = quota_enforcer.pause,
            ignored_users = ?settings.ignored_users(),
            minimum_dwell = quota_enforcer.minimum_dwell,
            restore_below = quota_enforcer.restore_below,
            warn_at = ?quota_enforcer.warn_at,
            "the quota enforcer is in force"
        );
        drop(settings);
        let (lead, leading) = watch::channel(None);
        let (mysql, holder) = (self.mysql.clone(), self.holder.clone());
        tokio::select! {
            () = keep_the_lead(&mysql, &holder, &lead) => {}
            () = self.keep_passing(leading) => {}
            () = keep_moving_on(&mysql) => {}
            () = stop.cancelled() => {}
        }
        metrics::gauge!("cf_mysql_enforcer_leader").set(0.0);
        if let Err(error) = leader::release(&mysql, &holder).await {
            tracing::debug!(%error, "the enforcer's lease was not given back; it runs out by itself");
        }
    }

    async fn keep_passing(&mut self, mut leading: watch::Receiver<Option<Instant>>) {
        self.lead = Some(leading.clone());
        loop {
            if !self.leads() {
                self.measurements.forget_hidden();
                if leading.wait_for(|until| is_trusted(*until)).await.is_err() {
                    return;
                }
            }
            let started = Instant::now();
            match self.pass(Some(measure::TIME_BOX)).await {
                Ok(report) => report.publish(started.elapsed()),
                Err(error) => {
                    metrics::counter!("cf_mysql_enforcer_failures_total").increment(1);
                    tracing::warn!(%error, "no pass of the quota enforcer");
                }
            }
            let pause = self.settings.load().quota_enforcer.pause();
            tokio::time::sleep(pause).await;
        }
    }

    /// Whether this process may take and give: it leads, or was asked for one pass. To be asked right before each statement that does, because
    /// whoever stood still for longer than its lease would undo what the next leader has done.
    fn leads(&self) -> bool {
        self.lead.as_ref().is_none_or(|until| is_trusted(*until.borrow()))
    }
}

/// Moves on to another node when the one in use fails.
async fn keep_moving_on(mysql: &Mysql) {
    loop {
        tokio::time::sleep(RENEW).await;
        mysql.move_on().await;
    }
}

fn is_trusted(until: Option<Instant>) -> bool {
    until.is_some_and(|until| Instant::now() < until)
}

/// Takes and renews the lease for ever, and says until when it may be trusted.
async fn keep_the_lead(mysql: &Mysql, holder: &str, lead: &watch::Sender<Option<Instant>>) {
    let mut trouble = Trouble::default();
    loop {
        let was_leader = is_trusted(*lead.borrow());
        match leader::acquire(mysql, holder).await {
            Ok(until) => {
                trouble.end();
                if until.is_some() != was_leader {
                    tracing::info!(leads = until.is_some(), "the lead of the quota enforcer has changed");
                }
                lead.send_replace(until);
            }
            Err(error) => trouble.met(&error),
        }
        let leads = is_trusted(*lead.borrow());
        metrics::gauge!("cf_mysql_enforcer_leader").set(if leads { 1.0 } else { 0.0 });
        tokio::time::sleep(if leads { RENEW } else { POLL }).await;
    }
}

/// What keeps this process from the lease.
#[derive(Default)]
struct Trouble {
    since: Option<Instant>,
    said: String,
}

impl Trouble {
    /// Says so once it has lasted for longer than a lease, and again when it is something else.
    fn met(&mut self, error: &Error) {
        if self.since.get_or_insert_with(Instant::now).elapsed() < leader::TTL {
            tracing::debug!(%error, "the enforcer's lease could not be renewed");
            return;
        }
        metrics::counter!("cf_mysql_enforcer_failures_total").increment(1);
        let text = error.to_string();
        if self.said != text {
            tracing::warn!(%error, "this quota enforcer can neither lead nor see whether another one does: no quota is enforced by it");
            self.said = text;
        }
    }

    fn end(&mut self) {
        if !self.said.is_empty() {
            tracing::info!("the quota enforcer reaches its lease again");
        }
        *self = Self::default();
    }
}
