//! What the suspects of one pass share: a list of files is one of the whole server, so it is made once for all of them, after the tables
//! of each were asked for.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Enforcer;
use super::memory::SHARE;
use crate::domain::quota::Sold;
use crate::domain::usage::{DatabaseSizes, TableSize, files_of};
use crate::mysql::{Result, tablespaces, usage};

/// How long tables, and a list of files, may be used for a look at least: other databases are looked at meanwhile.
const YOUNG: Duration = Duration::from_secs(5);

/// It is forgotten when the next pass begins.
#[derive(Default)]
pub(super) struct Shared {
    /// The last list of files.
    listed: Option<Listed>,
    /// What was asked of suspects, to be used once.
    pub(super) asked: HashMap<String, Asked>,
    /// How long it took to ask them.
    asking: Duration,
    /// How long it took to make the list.
    listing: Duration,
}

struct Listed {
    /// When it was begun.
    at: Instant,
    /// By database, of those that were suspect by then.
    files: HashMap<String, Vec<(String, u64)>>,
}

/// The tables of a suspect.
pub(super) struct Asked {
    /// When the server had answered.
    pub(super) at: Instant,
    pub(super) tables: Vec<TableSize>,
}

impl Shared {
    /// Whether tables that were asked for, or a list that was begun, then are good still. To do all that again may take one tenth of the time.
    pub(super) fn is_young(&self, at: Instant) -> bool {
        at.elapsed() < YOUNG.max((self.asking + self.listing) * SHARE)
    }

    /// Notes a list that was begun `at` a time and has just come, as far as it is of these databases.
    pub(super) fn set_list<'a>(&mut self, list: &[(String, u64)], databases: impl Iterator<Item = &'a str>, at: Instant) {
        self.listing = at.elapsed();
        self.listed = Some(Listed { at, files: files_of(list, databases) });
    }
}

impl Enforcer {
    /// Asks for the tables of suspects that are going to be measured: before a list of files, so that one is good for all of them. Returns of
    /// how many the server did not tell.
    pub(super) async fn ask(&mut self, suspects: &[&Sold], time_box: Option<Duration>) -> usize {
        let began = Instant::now();
        let mut failures = 0;
        for sold in suspects {
            let memory = &self.measurements;
            let is_spared = memory.calm(sold).is_some() || (time_box.is_some() && memory.is_left_alone(&sold.database));
            if is_spared || self.shared.asked.contains_key(&sold.database) {
                continue;
            }
            let at = Instant::now();
            match self.ask_one(&sold.database).await {
                Ok(asked) => {
                    self.shared.asked.insert(sold.database.clone(), asked);
                }
                Err(error) => {
                    failures += 1;
                    self.measurements.set_failed(&sold.database, Some(at.elapsed()));
                    tracing::warn!(database = sold.database, %error, "the tables of a database could not be asked for yet");
                }
            }
        }
        self.shared.asking += began.elapsed();
        failures
    }

    /// Asks once more for the tables of all whose turn has not come yet: what was asked is too old.
    pub(super) async fn ask_again(&mut self) {
        let began = Instant::now();
        let databases: Vec<String> = self.shared.asked.drain().map(|(database, _)| database).collect();
        for database in databases {
            // what keeps the server from answering is met, and told, when it is this one's turn
            if let Ok(asked) = self.ask_one(&database).await {
                self.shared.asked.insert(database, asked);
            }
        }
        self.shared.asking = began.elapsed();
    }

    pub(super) async fn ask_one(&self, database: &str) -> Result<Asked> {
        let tables = usage::tables(&self.mysql, database).await?;
        Ok(Asked { at: Instant::now(), tables })
    }

    /// Adds the files of a suspect to its tables. From the last list, if that was made afterwards; or if it has just one file for each of them
    /// and they come to what is `needed` (bytes): as for being under that, a file may have grown since, and the free space in it.
    pub(super) async fn with_files(
        &mut self,
        database: &str,
        tables: Vec<TableSize>,
        asked_at: Instant,
        needed: u64,
    ) -> Result<DatabaseSizes> {
        if let Some(listed) = self.shared.listed.as_ref().filter(|listed| self.shared.is_young(listed.at)) {
            let is_before = listed.at < asked_at;
            match listed.files.get(database).and_then(|files| DatabaseSizes::of_list(&tables, files)) {
                Some(sizes) if !is_before || (sizes.is_one_to_one() && sizes.bound().is_some_and(|bound| bound >= needed)) => {
                    return Ok(sizes);
                }
                // only the server can tell which file belongs to which table
                None if !is_before => return usage::with_files(&self.mysql, database, tables).await,
                _ => {}
            }
        }
        let at = Instant::now();
        let list = tablespaces::list(&self.mysql).await?;
        self.shared.set_list(&list, self.measurements.suspects.iter().map(String::as_str).chain([database]), at);
        let listed = self.shared.listed.as_ref().and_then(|listed| listed.files.get(database));
        let found = listed.and_then(|files| DatabaseSizes::of_list(&tables, files));
        match found {
            Some(sizes) => Ok(sizes),
            None => usage::with_files(&self.mysql, database, tables).await,
        }
    }
}
