//! The exact look at one database: statistics made anew, tables read, and nothing missed that happens meanwhile.

use std::time::{Duration, Instant};

use sqlx::{MySqlConnection, Row as _};

use super::{files_on, sizes, tables_on};
use crate::domain::usage::{DatabaseSizes, Exact, Looked, TableSize, names};
use crate::mysql::patience::{ONE_DATABASE, give_back, impatient, in_time};
use crate::mysql::pool::Connection;
use crate::mysql::{Dialect, Error, Mysql, Result, code, quote};

/// How long making statistics, or reading tables, may go on before another table is begun.
pub const TIME_BOX: Duration = Duration::from_secs(2);
/// How long the reading of one table may take. Seconds; what is not read by then is larger than anybody needs.
const READ_TIME: u64 = 5;
/// How long statistics of one table, or one statement's worth of tables, may take; one that takes longer counts by its file.
const MAINTENANCE: Duration = Duration::from_secs(5);

/// What an exact look found out.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// What the server says of the database afterwards.
    pub sizes: DatabaseSizes,
    /// What was looked at, in this look and those it goes on with.
    pub looked: Looked,
    /// Whether there was no time for some tables: go on with `looked`.
    pub is_unfinished: bool,
}

impl Measured {
    /// What the database uses, as far as it is known.
    pub fn exact(&self) -> Exact {
        self.sizes.exact(&self.looked)
    }
}

/// Looks at a database exactly: statistics made anew, tables read whose size the server does not tell. A table that is locked stays as
/// it is: its owner can hold the lock for ever. `before`: its [`sizes`] a moment ago. With a `time_box` the look may come to an end before it
/// is finished; the next one goes on with what this one has `looked` at.
///
/// # Errors
/// Whatever keeps the server from answering, each statement in ten seconds.
pub async fn measure(mysql: &Mysql, database: &str, before: DatabaseSizes, looked: Looked, time_box: Option<Duration>) -> Result<Measured> {
    look(mysql, database, before, looked, time_box, false).await
}

/// As [`measure`], from the beginning to the end, however long that takes.
///
/// # Errors
/// As there.
pub async fn exactly(mysql: &Mysql, database: &str) -> Result<Measured> {
    measure(mysql, database, sizes(mysql, database).await?, Looked::default(), None).await
}

/// As [`measure`], but only at tables in no file of InnoDB's view: see [`DatabaseSizes::outside_bytes`].
///
/// # Errors
/// As there.
pub async fn measure_outside(mysql: &Mysql, database: &str, looked: Looked, time_box: Option<Duration>) -> Result<Measured> {
    let before = sizes(mysql, database).await?;
    look(mysql, database, before, looked, time_box, true).await
}

async fn look(
    mysql: &Mysql,
    database: &str,
    before: DatabaseSizes,
    looked: Looked,
    time_box: Option<Duration>,
    only_outside: bool,
) -> Result<Measured> {
    let dialect = mysql.info().await?.dialect;
    let node = mysql.current_index();
    let mut connection = impatient(mysql, dialect).await?;
    let session = session_of(&mut connection).await?;
    let until = time_box.map(|time_box| Instant::now() + time_box);
    let mut look = Look { mysql, connection, session, node, dialect, database, looked, until, only_outside, has_begun: false };
    let mut is_finished = look.at_all(&before).await?;
    let DatabaseSizes { tables: known, files } = before;
    let mut sizes = DatabaseSizes { tables: tables_on(&mut look.connection, database).await?, files };
    let mut is_older = sizes.has_lost(&known);
    if is_finished && look.missed(&known, &sizes.tables).next().is_some() {
        sizes.files = files_on(&mut look.connection, dialect, database, &sizes.tables).await?;
        is_finished = look.at_all(&sizes).await?;
        let known = std::mem::replace(&mut sizes.tables, tables_on(&mut look.connection, database).await?);
        if is_finished {
            // whoever makes and renames tables all the time could do so in each look
            let missed: Vec<String> = look.missed(&known, &sizes.tables).map(str::to_owned).collect();
            look.looked.blocked.extend(missed);
        }
        is_older = sizes.has_lost(&known);
    }
    let Look { mut connection, looked, .. } = look;
    if is_older || sizes.goes_by_files(&looked) {
        // where the size of a file counts, it must be that of the table there is now
        let files = files_on(&mut connection, dialect, database, &sizes.tables).await?;
        let older = std::mem::replace(&mut sizes.files, files);
        // dropped since, or counted under its new name
        sizes.tables.retain(|table| sizes.files.contains_key(&table.name) || !older.contains_key(&table.name));
    }
    give_back(connection).await?;
    Ok(Measured { sizes, looked, is_unfinished: !is_finished })
}

/// An exact look in progress.
struct Look<'a> {
    mysql: &'a Mysql,
    connection: Connection,
    /// The id of that connection, on this node.
    session: u64,
    node: usize,
    dialect: Dialect,
    database: &'a str,
    looked: Looked,
    until: Option<Instant>,
    only_outside: bool,
    has_begun: bool,
}

impl Look<'_> {
    /// Whether the time is up; never before something has been done, or it would go on for ever.
    fn is_late(&mut self) -> bool {
        std::mem::replace(&mut self.has_begun, true) && self.until.is_some_and(|until| Instant::now() >= until)
    }

    fn is_new(&self, table: &TableSize) -> bool {
        let Looked { analysed, blocked, read, .. } = &self.looked;
        !analysed.contains(&table.name) && !blocked.contains(&table.name) && !read.contains_key(&table.name)
    }

    /// Whatever has not been looked at yet. False: there was no time for all.
    async fn at_all(&mut self, before: &DatabaseSizes) -> Result<bool> {
        Ok(self.at_tables_outside(before).await? && (self.only_outside || self.at_tables_with_files(before).await?))
    }

    /// What was made, or given another name, while this look went on.
    fn missed<'a>(&'a self, before: &'a [TableSize], now: &'a [TableSize]) -> impl Iterator<Item = &'a str> {
        let known = names(before);
        let missed = now.iter().filter(move |table| !known.contains(table.name.as_str()));
        missed.filter(|table| self.is_new(table) && (table.must_be_read() || table.can_be_analysed())).map(|table| table.name.as_str())
    }

    /// Tables in no file of InnoDB's view, one by one, and with a second of patience: a busy one must not look like one that hides. False:
    /// there was no time for all.
    async fn at_tables_outside(&mut self, before: &DatabaseSizes) -> Result<bool> {
        for table in before.tables.iter().filter(|table| !before.files.contains_key(&table.name)) {
            if !self.is_new(table) || !(table.must_be_read() || table.can_be_analysed()) {
                continue;
            }
            if self.is_late() {
                return Ok(false);
            }
            if table.must_be_read() {
                self.read(&table.name).await?;
                continue;
            }
            let patience = if self.dialect == Dialect::MariaDb { "SET STATEMENT lock_wait_timeout = 1 FOR " } else { "" };
            let name = self.quoted(&table.name);
            // their figures are right whenever nobody writes to them, and CHECK FAST finds that out in no time; ANALYZE would read all keys
            let statement = match table.engine.as_deref() {
                Some("MyISAM" | "Aria") => format!("{patience}CHECK TABLE {name} FAST QUICK"),
                _ => format!("{patience}ANALYZE NO_WRITE_TO_BINLOG TABLE {name}"),
            };
            let answers = self.maintain(statement).await?;
            // none: it goes on, so it has got hold of the table. Gone, and back under its old name by the end: like a lock
            let is_blocked = answers.is_some_and(|answers| answers.iter().any(|answer| answer.is_blocked() || answer.is_gone()));
            if is_blocked { &mut self.looked.blocked } else { &mut self.looked.analysed }.insert(table.name.clone());
        }
        Ok(true)
    }

    /// Makes statistics of tables with files of their own. False: there was no time for all.
    async fn at_tables_with_files(&mut self, before: &DatabaseSizes) -> Result<bool> {
        let names: Vec<&str> = before
            .tables
            .iter()
            .filter(|table| before.files.contains_key(&table.name) && table.can_be_analysed() && self.is_new(table))
            .map(|table| table.name.as_str())
            .collect();
        let mut rest = names.as_slice();
        while !rest.is_empty() {
            if self.is_late() {
                return Ok(false);
            }
            // MySQL waits a second for each locked table, and cannot be told to wait less
            let at_once = if self.dialect == Dialect::MySql || self.looked.one_by_one { 1 } else { 50 };
            let (now, later) = rest.split_at(at_once.min(rest.len()));
            let quoted: Vec<_> = now.iter().map(|name| self.quoted(name)).collect();
            let Some(answers) = self.maintain(format!("ANALYZE NO_WRITE_TO_BINLOG TABLE {}", quoted.join(", "))).await? else {
                if let [table] = now {
                    self.looked.blocked.insert((*table).to_owned());
                    rest = later;
                }
                self.looked.one_by_one = true;
                continue;
            };
            rest = later;
            let prefix = format!("{}.", self.database);
            let done = answers.iter().filter(|answer| answer.is_done());
            self.looked.analysed.extend(done.map(|answer| answer.table.strip_prefix(&prefix).unwrap_or(&answer.table).to_owned()));
            let blocked: Vec<&str> = now.iter().copied().filter(|name| !self.looked.analysed.contains(*name)).collect();
            self.looked.blocked.extend(blocked.into_iter().map(str::to_owned));
            if self.dialect == Dialect::MySql && answers.iter().any(Answer::is_blocked) {
                // the others count as this one, or whoever locks a thousand tables is never looked at to the end
                self.looked.blocked.extend(rest.iter().map(|name| (*name).to_owned()));
                break;
            }
        }
        Ok(true)
    }

    /// Counts what a CSV file holds: every value, in quotes and with a comma. Not the backslash before each quote, backslash or end of a line:
    /// no function of both servers counts these in less than quadratic time.
    async fn read(&mut self, table: &str) -> Result<()> {
        let doing = "the reading of a table";
        let columns = sqlx::query_scalar("SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?")
            .bind(self.database)
            .bind(table)
            .fetch_all(&mut *self.connection);
        let columns: Vec<String> = in_time(doing, ONE_DATABASE, async { columns.await.map_err(Error::doing(doing)) }).await?;
        let bytes: Vec<_> =
            columns.iter().map(|column| format!("3 + COALESCE(LENGTH(CAST({} AS BINARY)), 0)", quote::identifier(column))).collect();
        if bytes.is_empty() {
            // a lock hides its columns, or it is gone
            self.looked.blocked.insert(table.to_owned());
            return Ok(());
        }
        let (before, hint) = match self.dialect {
            Dialect::MariaDb => (format!("SET STATEMENT lock_wait_timeout = 1, max_statement_time = {READ_TIME} FOR "), String::new()),
            Dialect::MySql => (String::new(), format!("/*+ MAX_EXECUTION_TIME({}) */ ", READ_TIME * 1000)),
        };
        let statement =
            format!("{before}SELECT {hint}CAST(COALESCE(SUM({}), 0) AS UNSIGNED) FROM {}", bytes.join(" + "), self.quoted(table));
        let row = sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).fetch_one(&mut *self.connection);
        let read: Result<u64> =
            in_time(doing, ONE_DATABASE, async { row.await.and_then(|row| row.try_get(0)).map_err(Error::doing(doing)) }).await;
        match read {
            Ok(bytes) => {
                self.looked.read.insert(table.to_owned(), bytes);
            }
            Err(error) if error.code().is_some() => {
                tracing::debug!(database = self.database, table, %error, "a table could not be read");
                self.looked.blocked.insert(table.to_owned());
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// ANALYZE or CHECK. A failed table is a row of the answer and no error. None: it took too long, as its owner can make it
    /// (`STATS_SAMPLE_PAGES`).
    async fn maintain(&mut self, statement: String) -> Result<Option<Vec<Answer>>> {
        let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).fetch_all(&mut *self.connection);
        let Ok(rows) = tokio::time::timeout(MAINTENANCE, rows).await else {
            self.begin_anew().await?;
            return Ok(None);
        };
        let rows = rows.map_err(Error::doing("ANALYZE"))?;
        let cell = |row: &sqlx::mysql::MySqlRow, i: usize| row.try_get::<String, _>(i).map_err(Error::doing("ANALYZE"));
        rows.iter().map(|row| Ok(Answer { table: cell(row, 0)?, text: cell(row, 3)? })).collect::<Result<_>>().map(Some)
    }

    /// Goes on with another connection, and ends the one that waits: its statement would go on in the server.
    async fn begin_anew(&mut self) -> Result<()> {
        let node = std::mem::replace(&mut self.node, self.mysql.current_index());
        self.connection = impatient(self.mysql, self.dialect).await?;
        // on another node the id is somebody else's
        if node == self.node {
            let end = crate::mysql::raw(&mut self.connection, format!("KILL CONNECTION {}", self.session));
            match in_time("KILL", ONE_DATABASE, async { end.await.map_err(Error::doing("KILL")) }).await {
                // it has come to its end by itself
                Err(error) if error.code() != Some(code::NO_SUCH_THREAD) => return Err(error),
                _ => {}
            }
        }
        self.session = session_of(&mut self.connection).await?;
        Ok(())
    }

    fn quoted(&self, table: &str) -> String {
        format!("{}.{}", quote::identifier(self.database), quote::identifier(table))
    }
}

/// A row of the answer to ANALYZE or CHECK.
struct Answer {
    table: String,
    text: String,
}

impl Answer {
    fn is_done(&self) -> bool {
        self.text == "OK" || self.text.contains("up to date") || self.text.contains("doesn't support analyze")
    }

    fn is_blocked(&self) -> bool {
        self.text.starts_with("Lock wait timeout")
    }

    fn is_gone(&self) -> bool {
        self.text.ends_with("doesn't exist")
    }
}

async fn session_of(connection: &mut MySqlConnection) -> Result<u64> {
    let doing = "a look at a connection";
    let id = sqlx::query_scalar("SELECT CONNECTION_ID()").fetch_one(connection);
    in_time(doing, ONE_DATABASE, async { id.await.map_err(Error::doing(doing)) }).await
}
