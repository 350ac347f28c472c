//! Taking and giving back. Every step can be repeated, and what is taken is written down first: a crash at any point is
//! repaired by the next pass.

use std::collections::BTreeSet;

use super::Enforcer;
use super::memory::Used;
use crate::domain::privileges::CALL;
use crate::domain::quota::{Sold, Spared, concerned};
use crate::domain::to_mb;
use crate::failpoint::failpoint;
use crate::mysql::revocations::{self, Revocation};
use crate::mysql::sessions::{self, Targets, Watermarks, aim};
use crate::mysql::{Error, Result, accounts, bindings};

/// What was done to one database.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Accounts whose privileges were taken.
    pub(super) revoked: usize,
    /// Accounts that have them back.
    pub(super) restored: usize,
    /// Sessions of these that were ended.
    pub(super) sessions_ended: usize,
    /// What went wrong with one account; it keeps no other waiting, and what was done is told.
    pub(super) failure: Option<Error>,
}

impl Enforcer {
    /// Sees that nobody concerned can write to a database over its quota: at the crossing, and in every pass after it (which
    /// repairs a crash in between, and a grant by somebody else). Adds the sessions to end to `targets`.
    pub(super) async fn take(&mut self, sold: &Sold, used: &Used, targets: &mut Targets) -> Result<Done> {
        let spared = self.settings.load().spared();
        let (held, is_all) = self.held(sold, &spared).await?;
        let mut noted = revocations::list(&self.mysql, &sold.database).await?;
        for revocation in &held {
            add(&mut noted, revocation.clone());
        }
        if !sold.is_over || !held.is_empty() {
            revocations::record(&self.mysql, &sold.database, &noted).await?;
        }
        let mut done = Done::default();
        let mut accounts_revoked = BTreeSet::new();
        for Revocation { account, scope, privileges } in &held {
            if !self.leads() {
                return Ok(done);
            }
            match accounts::revoke(&self.mysql, &sold.database, account, scope, privileges).await {
                Ok(()) => {
                    accounts_revoked.insert(account);
                }
                Err(error) => {
                    tracing::warn!(database = sold.database, account = account.user, %error, "write privileges could not be taken yet");
                    done.failure = Some(error);
                }
            }
        }
        done.revoked = accounts_revoked.len();
        if done.revoked > 0 {
            // whoever stood still in the middle may have come too late: what is noted somebody gives back
            revocations::record(&self.mysql, &sold.database, &noted).await?;
        }
        failpoint!("E1");
        if !sold.is_over {
            tracing::warn!(
                database = sold.database,
                used_mb = used.for_people.map(to_mb),
                disk_mb = to_mb(used.usage.disk),
                hidden_for = used.usage.hidden_for.as_secs(),
                quota_mb = to_mb(sold.quota_bytes),
                accounts = done.revoked,
                "a database is over its quota: writing is taken, reading and deleting stay"
            );
        }
        let watermarks = self.watermarks(sold, done.revoked > 0, is_all && held.is_empty()).await?;
        for revocation in noted {
            if spared.has(&revocation.account.user) {
                // put on the operator's list after it had been taken
                if let Err(error) = self.return_one(&sold.database, &revocation).await {
                    done.failure = Some(error);
                    continue;
                }
                done.restored += 1;
                if !spared.is_own(&revocation.account.user) {
                    aim(targets, &revocation.account.user, None);
                }
            } else {
                aim(targets, &revocation.account.user, Some(&watermarks));
            }
        }
        Ok(done)
    }

    /// What the accounts concerned hold that stores bytes; and whether that is all. The rights on the whole database are looked at in every
    /// pass; those on single objects, and routines that run with an operator's rights, once in a while: only an operator can add to them.
    async fn held(&mut self, sold: &Sold, spared: &Spared) -> Result<(Vec<Revocation>, bool)> {
        let mut grants = accounts::on_database(&self.mysql, &sold.database).await?;
        let is_due = !sold.is_over || self.measurements.details_due(&sold.database);
        if is_due {
            grants.extend(accounts::on_objects(&self.mysql, &sold.database).await?);
        }
        let concerned = concerned(grants.iter().map(|grant| grant.account.clone()), spared);
        if is_due {
            let own: BTreeSet<String> = concerned.iter().map(|account| format!("{}@{}", account.user, account.host)).collect();
            let lends = accounts::definers(&self.mysql, &sold.database).await?.iter().any(|definer| !own.contains(definer));
            self.measurements.set_details(&sold.database, lends);
        }
        let lends = self.measurements.lends_rights(&sold.database);
        let held = grants.into_iter().filter(|grant| concerned.contains(&grant.account)).map(|grant| {
            let mut privileges = grant.writes;
            if lends && grant.executes {
                privileges.push(CALL.to_owned());
            }
            Revocation { account: grant.account, scope: grant.scope, privileges }
        });
        Ok((held.filter(|revocation| !revocation.privileges.is_empty()).collect(), is_due))
    }

    /// A session with an id up to the watermark of its node may have begun before the REVOKE, and keeps what it had then. The watermark of a
    /// node that has not applied the REVOKE yet, or does not answer, is taken in a later pass; until then all sessions there are ended.
    /// `anew`: something has been taken just now. With nothing left to take, what was about to be taken when somebody died has been: stale
    /// watermarks are taken anew too. Not while something is refused, or every session would be ended with every pass.
    async fn watermarks(&mut self, sold: &Sold, anew: bool, is_nothing_left: bool) -> Result<Watermarks> {
        let mut known = Watermarks::new();
        if sold.is_over && !anew {
            let (noted, is_stale) = revocations::watermarks(&self.mysql, &sold.database).await?;
            if !(is_stale && is_nothing_left) {
                known = noted;
            }
        }
        let new = sessions::watermarks(&self.mysql, &known, &mut self.measurements.silent_nodes).await?;
        if !new.is_empty() {
            let are_all_new = known.is_empty();
            known.extend(new);
            revocations::set_watermarks(&self.mysql, &sold.database, &known, are_all_new).await?;
        }
        Ok(known)
    }

    /// Gives back exactly what was taken. Sessions began without it, so they are ended: apps reconnect and can write. What was taken is
    /// forgotten last: until then whoever leads does all this again.
    pub(super) async fn give_back(&mut self, sold: &Sold, used_bytes: u64) -> Result<Done> {
        let spared = self.settings.load().spared();
        let mut done = Done::default();
        let (mut accounts_restored, mut returned, mut targets) = (BTreeSet::new(), Vec::new(), Targets::new());
        for revocation in revocations::list(&self.mysql, &sold.database).await? {
            if !self.leads() {
                return Ok(done);
            }
            match self.grant_one(&sold.database, &revocation).await {
                Ok(is_done) => {
                    if !spared.is_own(&revocation.account.user) {
                        aim(&mut targets, &revocation.account.user, None);
                    }
                    accounts_restored.insert(revocation.account.clone());
                    returned.extend(is_done.then_some(revocation));
                }
                Err(error) => {
                    tracing::warn!(database = sold.database, account = revocation.account.user, %error, "writing could not be given back yet");
                    done.failure = Some(error);
                }
            }
        }
        done.restored = accounts_restored.len();
        let is_all = done.failure.is_none();
        failpoint!("E2");
        match sessions::kill(&self.mysql, &targets).await {
            Ok(ended) => done.sessions_ended = ended,
            // a session that the server keeps alive must not end all others again and again
            Err(error) => {
                tracing::warn!(database = sold.database, %error, "not every session that is to begin anew could be ended");
                done.failure = Some(error);
            }
        }
        for revocation in &returned {
            // the end of sessions may have taken longer than the lease: what is noted by now is the next leader's
            if !self.leads() {
                return Ok(done);
            }
            revocations::forget_one(&self.mysql, &sold.database, revocation).await?;
        }
        if !is_all || !self.leads() {
            return Ok(done);
        }
        self.measurements.forget(&sold.database);
        if revocations::forget(&self.mysql, &sold.database).await? {
            tracing::info!(
                database = sold.database,
                used_mb = to_mb(used_bytes),
                quota_mb = to_mb(sold.quota_bytes),
                accounts = done.restored,
                "a database is under its quota again: writing is given back"
            );
        }
        Ok(done)
    }

    async fn return_one(&self, database: &str, revocation: &Revocation) -> Result<()> {
        if self.grant_one(database, revocation).await? {
            revocations::forget_one(&self.mysql, database, revocation).await?;
        }
        Ok(())
    }

    /// False: its account is being made without what was taken, and needs the note.
    async fn grant_one(&self, database: &str, revocation: &Revocation) -> Result<bool> {
        // asked first: an account that is made after the GRANT missed it is made without what was noted, and needs the note
        let is_being_made = bindings::is_being_made(&self.mysql, &revocation.account).await?;
        if !accounts::grant(&self.mysql, database, &revocation.account, &revocation.scope, &revocation.privileges).await? {
            tracing::debug!(
                database,
                account = revocation.account.user,
                is_being_made,
                "an account, or what it had rights on, is not there: nothing to give back"
            );
            return Ok(!is_being_made);
        }
        Ok(true)
    }
}

/// Adds to what is noted; what was noted before stays.
fn add(noted: &mut Vec<Revocation>, new: Revocation) {
    let mut privileges: BTreeSet<String> = new.privileges.iter().cloned().collect();
    if let Some(known) = noted.iter_mut().find(|known| known.account == new.account && known.scope == new.scope) {
        privileges.extend(known.privileges.drain(..));
        known.privileges = privileges.into_iter().collect();
    } else {
        noted.push(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::binding::Account;
    use crate::mysql::accounts::Scope;

    #[test]
    fn what_was_noted_stays() {
        let revocation = |user: &str, names: &[&str]| Revocation {
            account: Account::from_anywhere(user.into()),
            scope: Scope::Pattern("p".into()),
            privileges: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        let mut noted = vec![revocation("a", &["INSERT", "UPDATE"])];
        add(&mut noted, revocation("a", &["ALTER", "UPDATE"]));
        add(&mut noted, revocation("b", &["CREATE"]));
        assert_eq!(noted, [revocation("a", &["ALTER", "INSERT", "UPDATE"]), revocation("b", &["CREATE"])]);
    }
}
