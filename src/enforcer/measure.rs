//! How much databases use: as cheaply as the answer allows. Whatever costs more than a moment is done only when something has
//! changed, and in pieces.

use std::time::{Duration, Instant};

use super::Enforcer;
use super::memory::{Look, Scan, Used, writes};
use super::shared::Asked;
use crate::domain::gate::{self, Counters};
use crate::domain::quota::{Rules, Sold, Usage, is_suspect};
use crate::domain::usage::{DatabaseSizes, Exact, Looked, TableSize, by_statistics};
use crate::mysql::{Dialect, Result, tablespaces, usage};

/// How long a pass may spend on opening tables after a restart of the server.
pub(super) const TIME_BOX: Duration = Duration::from_millis(100);

impl Enforcer {
    /// Whether to look at everybody in this pass: see [`gate::opens`]. Until every database of a MariaDB has been opened, always;
    /// without a `time_box`, too.
    pub(super) async fn gate(&mut self, time_box: Option<Duration>) -> Result<Option<Counters>> {
        let counters = tablespaces::counters(&self.mysql).await?;
        let endpoint = &self.mysql.current().endpoint;
        let memory = &mut self.measurements;
        if memory.is_another(format!("{}:{}", endpoint.host, endpoint.port), counters.uptime) {
            memory.forget_server();
        }
        memory.counters = counters;
        let is_complete = memory.databases.iter().all(|database| memory.opened.contains(database) || memory.is_left_alone(database));
        let opens = memory.scan.as_ref().is_none_or(|last| gate::opens(&counters, &last.counters, last.at.elapsed(), last.took));
        Ok((opens || !is_complete || time_box.is_none()).then_some(counters))
    }

    /// Looks at the files of all databases; returns the rows the server sent. MariaDB lists only tablespaces it has opened since
    /// it started: after a restart every database is opened once, a few in each pass. `time_box`: none opens them all.
    pub(super) async fn screen(&mut self, sold: &[Sold], counters: Counters, time_box: Option<Duration>) -> Result<usize> {
        self.measurements.forget_others(sold);
        let at = Instant::now();
        self.open_databases(sold, time_box).await?;
        let listed_at = Instant::now();
        let screen = tablespaces::screen(&self.mysql, &self.measurements.databases).await?;
        let memory = &mut self.measurements;
        memory.files = screen.files;
        memory.suspects =
            sold.iter().filter(|sold| is_suspect(memory.file_bytes(&sold.database), sold)).map(|sold| sold.database.clone()).collect();
        self.shared.set_list(&screen.list, memory.suspects.iter().map(String::as_str), listed_at);
        memory.scan = Some(Scan { at, took: at.elapsed(), counters });
        Ok(screen.list.len())
    }

    async fn open_databases(&mut self, sold: &[Sold], time_box: Option<Duration>) -> Result<()> {
        let needs_opening = self.mysql.info().await?.dialect == Dialect::MariaDb;
        let started = Instant::now();
        for Sold { database, .. } in sold {
            if self.measurements.opened.contains(database) || (time_box.is_some() && self.measurements.is_left_alone(database)) {
                continue;
            }
            if needs_opening {
                if time_box.is_some_and(|time_box| started.elapsed() > time_box) {
                    break;
                }
                let began = Instant::now();
                match usage::tables(&self.mysql, database).await {
                    Ok(tables) if tables.iter().any(TableSize::may_be_outside) => self.measurements.audit.found(database),
                    Ok(_) => {}
                    Err(error) => {
                        self.measurements.set_failed(database, Some(began.elapsed()));
                        tracing::warn!(database, %error, "the tables of a database could not be opened yet");
                        continue;
                    }
                }
            }
            self.measurements.opened.insert(database.clone());
        }
        Ok(())
    }

    /// What a suspect uses: the upper bound where that is under the quota, else exactly. Statistics are made again only when something has
    /// changed or they are old, for two seconds a pass where there is a `time_box`; a database with more tables than that is looked at in
    /// instalments. One that could not be measured is left alone for a while.
    pub(super) async fn used(&mut self, sold: &Sold, rules: Rules, time_box: Option<Duration>) -> Result<Used> {
        if let Some(used) = self.measurements.calm(sold) {
            return Ok(used);
        }
        if time_box.is_some() && self.measurements.is_left_alone(&sold.database) {
            return Ok(self.unknown(sold));
        }
        let started = Instant::now();
        let used = self.measure(sold, rules, time_box).await;
        self.measurements.set_failed(&sold.database, used.is_err().then(|| started.elapsed()));
        used
    }

    /// Of a database that could not be measured: the size of its files, and no more.
    pub(super) fn unknown(&self, sold: &Sold) -> Used {
        let disk = self.measurements.file_bytes(&sold.database);
        Used { usage: Usage::unknown(disk), for_people: None, is_unfinished: false }
    }

    async fn measure(&mut self, sold: &Sold, rules: Rules, time_box: Option<Duration>) -> Result<Used> {
        let database = &sold.database;
        let needed = if sold.is_over { sold.quota_bytes / 100 * u64::from(rules.restore_below) } else { sold.quota_bytes };
        // its tables alone cost nothing; its files cost a list of all files there are
        let Asked { at, tables } = match self.shared.asked.remove(database) {
            Some(asked) if self.shared.is_young(asked.at) => asked,
            Some(_) => {
                self.ask_again().await;
                self.ask_one(database).await?
            }
            None => self.ask_one(database).await?,
        };
        let (last, changed_at) = self.measurements.last_look(sold, &tables, needed);
        if let Some(used) = last {
            return Ok(used);
        }
        let started = Instant::now();
        let before = writes(&tables);
        let sizes = self.with_files(database, tables, at, needed).await?;
        if let Some(bound) = sizes.bound().filter(|bound| *bound < needed) {
            self.measurements.set_hidden(database, false, false);
            let usage = Usage { at_least: 0, at_most: bound, disk: sizes.disk(), hidden_for: Duration::ZERO };
            let for_people = by_statistics(&sizes.tables, self.measurements.files(database)).min(bound);
            let used = Used { usage, for_people: Some(for_people), is_unfinished: false };
            self.remember(database, used, &sizes, started, changed_at, None);
            self.measurements.set_calm(database, used);
            return Ok(used);
        }
        if let Some(mut used) = self.measurements.recent_look(sold) {
            used.usage.disk = sizes.disk();
            return Ok(used);
        }
        let (looked, before) = self.measurements.looked_at(database).unwrap_or((Looked::default(), before));
        let measured = usage::measure(&self.mysql, database, sizes, looked, time_box.map(|_| usage::TIME_BOX)).await?;
        let Exact { at_least, at_most, is_hidden } = measured.exact();
        self.measurements.set_hidden(database, is_hidden, measured.is_unfinished);
        let usage = Usage { at_least, at_most, disk: measured.sizes.disk(), hidden_for: self.measurements.hidden_for(database) };
        let used = Used { usage, for_people: (at_least == at_most).then_some(at_least), is_unfinished: measured.is_unfinished };
        let has_outside = measured.sizes.has_outside();
        // what was written to after its turn is not in the figures
        let changed_at = if before == writes(&measured.sizes.tables) { changed_at } else { Instant::now() };
        let rest = measured.is_unfinished.then_some((measured.looked, before));
        self.remember(database, used, &measured.sizes, started, changed_at, rest);
        if !has_outside {
            self.measurements.set_calm(database, used);
        }
        Ok(used)
    }

    fn remember(
        &mut self,
        database: &str,
        used: Used,
        sizes: &DatabaseSizes,
        started: Instant,
        changed_at: Instant,
        rest: Option<(Looked, u64)>,
    ) {
        let is_doubtful = rest.is_some() || used.usage.hidden_for > Duration::ZERO || sizes.tables.iter().any(TableSize::must_be_read);
        let signature = self.measurements.signature(database, &sizes.tables);
        let look = Look { at: Instant::now(), took: started.elapsed(), signature, changed_at, used, is_doubtful, rest };
        self.measurements.set_look(database, look);
    }

    /// What a database that is nearly full uses, in bytes, good enough to warn by.
    pub(super) async fn used_by_statistics(&self, sold: &Sold) -> Result<u64> {
        let tables = usage::tables(&self.mysql, &sold.database).await?;
        Ok(by_statistics(&tables, self.measurements.files(&sold.database)))
    }
}
