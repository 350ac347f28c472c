//! Tables that InnoDB's view does not list under their database: of other engines, in shared tablespaces. They are looked for once
//! in a while, and measured again and again where there are any.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Enforcer;
use super::memory::{Memory, SHARE};
use crate::domain::usage::Looked;
use crate::mysql::{Dialect, Result, tablespaces, usage};

/// How long a pass may spend on looking for tables in other engines.
const AUDIT_BOX: Duration = Duration::from_millis(20);
/// How often other engines and shared tablespaces are looked for while tables are being made.
const AUDIT: Duration = Duration::from_secs(60);
/// How often, while none are: no counter tells of what another node of a cluster has made.
const AUDIT_IDLE: Duration = Duration::from_secs(1800);
/// How often the tables that InnoDB's view does not list are measured, unless that takes long.
const OUTSIDE: Duration = Duration::from_secs(5);

/// What is known of them.
#[derive(Default)]
pub(super) struct Audit {
    /// When they were last looked for, and what the counter of definitions said.
    at: Option<(Instant, u64)>,
    /// Databases in which they are still to be looked for.
    queue: Vec<String>,
    /// Databases that have some, and what they take.
    outside: HashMap<String, Option<Outside>>,
}

struct Outside {
    at: Instant,
    took: Duration,
    bytes: u64,
    /// What was looked at, where there was no time for all: the next look goes on with it.
    rest: Option<Looked>,
}

impl Audit {
    /// What they take in a database, as far as it is known. Bytes.
    pub(super) fn bytes(&self, database: &str) -> u64 {
        self.outside.get(database).and_then(Option::as_ref).map_or(0, |outside| outside.bytes)
    }

    /// Forgets databases.
    pub(super) fn retain(&mut self, is_known: impl Fn(&str) -> bool) {
        self.outside.retain(|database, _| is_known(database));
    }

    /// Notes a database that has some; they are measured in this pass.
    pub(super) fn found(&mut self, database: &str) {
        self.outside.entry(database.to_owned()).or_default();
    }

    fn is_due(&self, definitions: u64) -> bool {
        self.queue.is_empty() && self.at.is_none_or(|(at, known)| at.elapsed() >= if known == definitions { AUDIT_IDLE } else { AUDIT })
    }

    fn to_measure(&self) -> Vec<String> {
        let is_due = |last: &Option<Outside>| last.as_ref().is_none_or(|last| last.at.elapsed() >= OUTSIDE.max(last.took * SHARE));
        let mut due: Vec<_> = self.outside.iter().filter(|(_, last)| is_due(last)).collect();
        // whoever has waited longest comes first: there may not be time for all
        due.sort_unstable_by_key(|(_, last)| last.as_ref().map(|last| last.at));
        due.into_iter().map(|(database, _)| database.clone()).collect()
    }
}

impl Enforcer {
    /// Looks for such tables (`definitions`: the counter, in a pass that looks at everybody) and measures those known. `time_box`: none looks
    /// everywhere. Returns about how many databases something failed.
    pub(super) async fn audit(&mut self, definitions: Option<u64>, time_box: Option<Duration>) -> Result<usize> {
        let is_mariadb = self.mysql.info().await?.dialect == Dialect::MariaDb;
        let mut failures = 0;
        if let Some(definitions) = definitions.filter(|definitions| self.measurements.audit.is_due(*definitions)) {
            let (found, definitions) = match tablespaces::outside(&self.mysql).await {
                Ok(found) => (found, definitions),
                Err(error) => {
                    failures += 1;
                    tracing::warn!(%error, "other engines and shared tablespaces could not be looked for yet");
                    // again in a minute, as though tables had been made
                    (self.measurements.audit.outside.keys().cloned().collect(), definitions.wrapping_sub(1))
                }
            };
            let Memory { audit, databases, .. } = &mut self.measurements;
            let is_first = audit.at.replace((Instant::now(), definitions)).is_none();
            if !is_mariadb {
                audit.outside.retain(|database, _| found.contains(database));
            } else if !is_first {
                // the first time every database is opened, which tells as much
                audit.queue.clone_from(databases);
            }
            for database in databases.iter().filter(|database| found.contains(*database)) {
                audit.found(database);
            }
        }
        let started = Instant::now();
        while time_box.is_none() || started.elapsed() < AUDIT_BOX {
            let Some(database) = self.measurements.audit.queue.pop() else { break };
            match usage::has_other_engines(&self.mysql, &database).await {
                Ok(false) => {}
                Ok(true) => self.measurements.audit.found(&database),
                Err(error) => {
                    failures += 1;
                    tracing::warn!(database, %error, "tables of other engines could not be looked for");
                }
            }
        }
        let started = Instant::now();
        for database in self.measurements.audit.to_measure() {
            if time_box.is_some() && started.elapsed() >= usage::TIME_BOX {
                break;
            }
            if let Err(error) = self.measure_outside(&database, time_box).await {
                failures += 1;
                tracing::warn!(database, %error, "tables of other engines, or in shared tablespaces, could not be measured yet");
            }
        }
        Ok(failures)
    }

    async fn measure_outside(&mut self, database: &str, time_box: Option<Duration>) -> Result<()> {
        let started = Instant::now();
        let rest = self.measurements.audit.outside.get_mut(database).and_then(Option::as_mut).and_then(|last| last.rest.take());
        let looked = rest.unwrap_or_default();
        let measured = usage::measure_outside(&self.mysql, database, looked, time_box.map(|_| usage::TIME_BOX)).await;
        let Memory { audit, suspects, .. } = &mut self.measurements;
        let took = started.elapsed();
        let Ok(measured) = measured else {
            // what was known before stays; others wait behind it, so not at once again
            let bytes = audit.bytes(database);
            audit.outside.insert(database.to_owned(), Some(Outside { at: Instant::now(), took, bytes, rest: None }));
            return measured.map(|_| ());
        };
        let has_outside = measured.sizes.has_outside();
        if has_outside {
            suspects.insert(database.to_owned());
            // where a lock hides it, what was known before is the most that is known
            let (is_hidden, is_unfinished) = (measured.exact().is_hidden, measured.is_unfinished);
            let is_known = !is_hidden && !is_unfinished;
            let bytes = measured.sizes.outside_bytes(&measured.looked).max(if is_known { 0 } else { audit.bytes(database) });
            let rest = is_unfinished.then_some(measured.looked);
            audit.outside.insert(database.to_owned(), Some(Outside { at: Instant::now(), took, bytes, rest }));
            self.measurements.set_hidden(database, is_hidden, is_unfinished);
        } else {
            audit.outside.remove(database);
            self.measurements.set_hidden(database, false, false);
        }
        Ok(())
    }
}
