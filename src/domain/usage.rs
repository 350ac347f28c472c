//! What a database uses: pure sums over what the server says of its tables and files.

use std::collections::{HashMap, HashSet};

use super::tablespace;

/// The files of a database. Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileSizes {
    /// All of them, the copies a running ALTER makes too: whoever looks like too much is only looked at more closely.
    pub all: u64,
    /// Those of full-text indexes among them, which no statistics count.
    pub full_text: u64,
}

/// Adds up tablespace files by database, spelled as the server spells it: `(tablespace name, bytes)` as InnoDB's view shows them.
pub fn file_sizes(tablespaces: &[(String, u64)]) -> HashMap<&str, FileSizes> {
    let mut sizes: HashMap<&str, FileSizes> = HashMap::new();
    for (name, bytes) in tablespaces {
        if let Some((database, table)) = tablespace::parts(name) {
            let files = sizes.entry(database).or_default();
            files.all += bytes;
            files.full_text += if tablespace::is_full_text(table) { *bytes } else { 0 };
        }
    }
    sizes
}

/// Picks the files of some databases from the same list: by database, `(table as spelled, bytes)`. Not of one whose name is spelled in another
/// way than it is: it could be taken for another.
pub fn files_of<'a>(tablespaces: &[(String, u64)], databases: impl Iterator<Item = &'a str>) -> HashMap<String, Vec<(String, u64)>> {
    let mut files: HashMap<String, Vec<_>> =
        databases.filter(|database| tablespace::is_plain(database)).map(|database| (database.to_owned(), Vec::new())).collect();
    for (name, bytes) in tablespaces {
        if let Some((database, table)) = tablespace::parts(name)
            && let Some(files) = files.get_mut(database)
        {
            files.push((table.to_owned(), *bytes));
        }
    }
    files
}

/// Adds up files by the table they belong to: `(name as spelled, without the encoding and the partition, bytes)`.
pub fn add_up<'a>(tables: &[TableSize], files: impl IntoIterator<Item = (&'a str, &'a str, u64)>) -> HashMap<String, u64> {
    let known = names(tables);
    let mut sums: HashMap<String, u64> = HashMap::new();
    for (spelled, decoded, bytes) in files {
        // a table may be called like a partition, or like a copy
        let is_itself = known.contains(spelled) || (tablespace::is_copy(spelled) && !known.contains(decoded));
        *sums.entry(if is_itself { spelled } else { decoded }.to_owned()).or_insert(0) += bytes;
    }
    sums
}

/// What a database uses, good enough to warn by: as the statistics have it, without making them anew, and never more than its files
/// without the free space in them. Bytes.
pub fn by_statistics(tables: &[TableSize], files: FileSizes) -> u64 {
    let in_statistics = tables.iter().filter(|table| table.can_be_analysed()).filter_map(|table| table.data_bytes);
    let in_statistics = in_statistics.fold(files.full_text, u64::saturating_add);
    let free = tables.iter().map(|table| table.free_bytes).fold(0, u64::saturating_add);
    let is_all_in_files = tables.iter().all(|table| table.storage() == Storage::InnoDb);
    match files.all.checked_sub(free) {
        Some(live) if is_all_in_files => in_statistics.min(live),
        // a shared tablespace has its own free space
        _ => in_statistics,
    }
}

/// Where the bytes of a table are, and who knows how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Storage {
    /// InnoDB: its view lists a file that is never smaller than the table, and statistics are made by ANALYZE.
    InnoDb,
    /// The server says how much there is, while nobody holds a lock: MyISAM, Aria, MEMORY, ARCHIVE and whatever is not known here.
    Told,
    /// The server says 0, or nothing: the table has to be read.
    Untold,
    /// Nothing of its own: the tables of a MERGE are counted by themselves, the rows of FEDERATED are on another server.
    Elsewhere,
    /// Nobody knows: a lock hides even the engine.
    Hidden,
}

/// What the server says of one table. Bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct TableSize {
    /// The table's name.
    pub name: String,
    /// `InnoDB`, or another engine, whose files InnoDB's view does not show; none where a lock hides it.
    pub engine: Option<String>,
    /// `DATA_LENGTH + INDEX_LENGTH`, as the statistics have it; none where the server does not say.
    pub data_bytes: Option<u64>,
    /// Free space inside its tablespace.
    pub free_bytes: u64,
    /// When it was last written to, as the server spells it; none where it does not know.
    pub updated: Option<String>,
}

impl TableSize {
    fn storage(&self) -> Storage {
        let Some(engine) = self.engine.as_deref() else { return Storage::Hidden };
        match engine.to_ascii_uppercase().as_str() {
            "INNODB" => Storage::InnoDb,
            "MRG_MYISAM" | "BLACKHOLE" | "FEDERATED" | "SEQUENCE" => Storage::Elsewhere,
            "CSV" => Storage::Untold,
            _ if self.data_bytes.is_none() => Storage::Untold,
            _ => Storage::Told,
        }
    }

    /// Whether it is of another engine than InnoDB, or may become that: its files are not in InnoDB's view.
    pub fn may_be_outside(&self) -> bool {
        self.storage() != Storage::InnoDb
    }

    /// Whether its size is known only by reading it.
    pub fn must_be_read(&self) -> bool {
        self.storage() == Storage::Untold
    }

    /// Whether the server's figure is right once ANALYZE, or CHECK, has got hold of the table.
    pub fn can_be_analysed(&self) -> bool {
        matches!(self.storage(), Storage::InnoDb | Storage::Told)
    }
}

/// What tables are called.
pub fn names(tables: &[TableSize]) -> HashSet<&str> {
    tables.iter().map(|table| table.name.as_str()).collect()
}

/// What was looked at in an exact look, besides what the server says of every table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Looked {
    /// Tables with statistics that are good, made now or a moment ago.
    pub analysed: HashSet<String>,
    /// Tables that somebody keeps from being looked at.
    pub blocked: HashSet<String>,
    /// Bytes of tables that were read.
    pub read: HashMap<String, u64>,
    /// Whether a statement about many tables took too long.
    pub one_by_one: bool,
}

/// What a database uses, as far as it could be found out. Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exact {
    /// At least.
    pub at_least: u64,
    /// At most; the same where every table could be looked at, `u64::MAX` where the size of one is known by nothing.
    pub at_most: u64,
    /// Whether somebody keeps the size of a table from everybody.
    pub is_hidden: bool,
}

/// What the server says of one database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DatabaseSizes {
    /// Its tables.
    pub tables: Vec<TableSize>,
    /// Bytes of its files by table, partitions added up.
    pub files: HashMap<String, u64>,
}

impl DatabaseSizes {
    /// Of tables, and of files by their names as spelled (see [`files_of`]). None where the server has to be asked how one is spelled otherwise.
    pub fn of_list(tables: &[TableSize], list: &[(String, u64)]) -> Option<Self> {
        let files = list.iter().map(|(name, bytes)| (name.as_str(), tablespace::without_partition(name), *bytes));
        let known = names(tables);
        let is_clear = |(name, decoded, _)| tablespace::is_plain(decoded) || tablespace::is_copy(name) || known.contains(name);
        files.clone().all(is_clear).then(|| Self { tables: tables.to_vec(), files: add_up(tables, files) })
    }

    /// Whether there is one file for each table and nothing else.
    pub fn is_one_to_one(&self) -> bool {
        self.files.len() == self.tables.len() && self.outside().next().is_none()
    }

    /// Whether one of these tables had a file and is gone: the file would count as one of no table.
    pub fn has_lost(&self, before: &[TableSize]) -> bool {
        let known = names(&self.tables);
        before.iter().any(|table| self.files.contains_key(&table.name) && !known.contains(table.name.as_str()))
    }

    /// Whether the figures of tables that cannot be looked at go by the size of their files.
    pub fn goes_by_files(&self, looked: &Looked) -> bool {
        self.tables.iter().any(|table| table.storage() == Storage::Hidden || looked.blocked.contains(&table.name))
    }

    /// An upper bound of what a database uses: the files of its tables without their free space. None where a table is in no
    /// file of its own: the owner of a table in a shared tablespace can freeze its statistics, and who writes to a table of
    /// another engine hides from others what has come to it until the statement, or the lock, ends.
    pub fn bound(&self) -> Option<u64> {
        let tables = self.tables.iter().map(|table| match table.storage() {
            Storage::Elsewhere => Some(0),
            _ => self.live_of(table),
        });
        // files without a table of that name (full-text indexes, tables that are being made, copies of an ALTER) count in full
        tables.chain(self.of_no_table().map(|(_, bytes)| Some(bytes))).try_fold(0_u64, |sum, bytes| Some(sum.saturating_add(bytes?)))
    }

    /// What the database uses exactly: the statistics of tables whose statistics are good, what was read of those that were read,
    /// and the files of full-text indexes and of tables that are being made. A table that is blocked counts with its file without
    /// its free space, because its owner can keep it so for ever; where there is no such file, nobody knows. A table that was
    /// not reached is somewhere between nothing and that.
    pub fn exact(&self, looked: &Looked) -> Exact {
        let mut exact = Exact::default();
        let mut add = |at_least: u64, at_most: u64| {
            exact.at_least = exact.at_least.saturating_add(at_least);
            exact.at_most = exact.at_most.saturating_add(at_most);
        };
        for table in &self.tables {
            let figure = table.data_bytes.unwrap_or(0);
            let is_blocked = looked.blocked.contains(&table.name);
            match (table.storage(), self.live_of(table)) {
                (Storage::Elsewhere, _) => {}
                (Storage::InnoDb | Storage::Told, _) if looked.analysed.contains(&table.name) => add(figure, figure),
                (Storage::Untold, _) => match looked.read.get(&table.name) {
                    Some(read) => add(*read, *read),
                    None => add(0, u64::MAX),
                },
                (Storage::Hidden, Some(live)) => add(live, live),
                (Storage::InnoDb | Storage::Told, Some(live)) if is_blocked => add(live, live),
                (Storage::InnoDb | Storage::Told, Some(live)) => add(0, live),
                // frozen at worst, and never more than there is
                (Storage::Told, None) if is_blocked => add(figure, u64::MAX),
                (Storage::InnoDb | Storage::Told | Storage::Hidden, None) => add(0, u64::MAX),
            }
        }
        // `?`: MySQL's view shows letters outside the basic plane so; that table is counted by its statistics
        for (_, bytes) in self.of_no_table().filter(|(name, _)| !tablespace::is_copy(name) && !name.contains('?')) {
            add(bytes, bytes);
        }
        exact.is_hidden = self.tables.iter().any(|table| self.is_hidden(table, looked));
        exact
    }

    fn is_hidden(&self, table: &TableSize, looked: &Looked) -> bool {
        let is_known =
            self.files.contains_key(&table.name) || looked.analysed.contains(&table.name) || looked.read.contains_key(&table.name);
        !is_known && (table.storage() == Storage::Hidden || looked.blocked.contains(&table.name))
    }

    /// What is on the disk, free or not: the files of its tables, or, where they are larger, the copies that are being made of them. A
    /// copy takes what a table takes, for as long as an ALTER runs; so the two are not added.
    pub fn disk(&self) -> u64 {
        let copies = self.of_no_table().filter(|(name, _)| tablespace::is_copy(name)).map(|(_, bytes)| bytes).fold(0, u64::saturating_add);
        let all = self.files.values().copied().fold(0, u64::saturating_add);
        copies.max(all - copies)
    }

    /// Whether a table is in no file of InnoDB's view under this database: of another engine, or in a shared tablespace.
    pub fn has_outside(&self) -> bool {
        self.outside().any(|table| table.storage() != Storage::Elsewhere)
    }

    /// Of an exact look, what is in no file of the view.
    pub fn outside_bytes(&self, looked: &Looked) -> u64 {
        let tables = self.outside().cloned().collect();
        DatabaseSizes { tables, files: HashMap::new() }.exact(looked).at_least
    }

    fn outside(&self) -> impl Iterator<Item = &TableSize> {
        self.tables.iter().filter(|table| !self.files.contains_key(&table.name))
    }

    fn live_of(&self, table: &TableSize) -> Option<u64> {
        self.files.get(&table.name).map(|file| file.saturating_sub(table.free_bytes))
    }

    fn of_no_table(&self) -> impl Iterator<Item = (&str, u64)> {
        let known = names(&self.tables);
        self.files.iter().filter(move |(name, _)| !known.contains(name.as_str())).map(|(name, bytes)| (name.as_str(), *bytes))
    }
}

/// The smallest file whose table is worth rebuilding. Bytes.
const WORTH: u64 = 1 << 20;

/// Tables that a rebuild can make smaller, with the bytes of their files: the one with the most free space first, then the
/// largest. How full the pages of a table are no figure of the server says, so every file that is not small is worth it.
pub fn worth_rebuilding(sizes: &DatabaseSizes) -> Vec<(String, u64)> {
    let mut found: Vec<(u64, u64, &str)> = sizes
        .tables
        .iter()
        .filter_map(|table| Some((table.free_bytes, *sizes.files.get(&table.name)?, table.name.as_str())))
        .filter(|(_, file, _)| *file >= WORTH)
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, file, name)| (name.to_owned(), file)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::MB;

    #[test]
    fn files_are_added_up_by_database() {
        let list = list(&[
            ("cf_x/a", 10),
            ("cf_x/b#P#p0", 5),
            ("cf_x/#sql-alter-1", 100),
            ("cf_x/fts_1", 3),
            ("innodb_system", 7),
            ("a@002db/t", 1),
        ]);
        let found = HashMap::from([("cf_x", FileSizes { all: 118, full_text: 3 }), ("a@002db", FileSizes { all: 1, full_text: 0 })]);
        assert_eq!(file_sizes(&list), found);
        let files = self::list(&[("a", 10), ("b#P#p0", 5), ("#sql-alter-1", 100), ("fts_1", 3)]);
        let found = HashMap::from([("cf_x".to_owned(), files), ("empty".to_owned(), Vec::new())]);
        assert_eq!(files_of(&list, ["cf_x", "a@002db", "empty"].into_iter()), found);
    }

    fn list(files: &[(&str, u64)]) -> Vec<(String, u64)> {
        files.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect()
    }

    #[test]
    fn files_are_added_up_by_table() {
        let tables = [table("a", 40, 10), table("b", 20, 0)];
        let of = |files: &[(&str, u64)]| DatabaseSizes::of_list(&tables, &list(files));
        let partitions = of(&[("a", 50), ("b#P#p0", 10), ("b#P#p1", 20)]).unwrap();
        assert_eq!(partitions.files, HashMap::from([("a".to_owned(), 50), ("b".to_owned(), 30)]));
        assert!(partitions.is_one_to_one());
        assert!(!of(&[("a", 50)]).unwrap().is_one_to_one(), "made since, or in no file of its own");
        for other in ["dropped", "fts_1", "#sql-ib1"] {
            let sizes = of(&[("a", 50), ("b", 30), (other, 1)]).unwrap();
            assert!(sizes.files[other] == 1 && !sizes.is_one_to_one(), "{other}");
        }
        assert_eq!(of(&[("a", 50), ("b@002dc", 1)]), None, "only the server decodes it");
        let decoded = add_up(&[table("é-", 1, 0)], [("@1o@002d", "é-", 7), ("#sql-x", "", 3)]);
        assert_eq!(decoded, HashMap::from([("é-".to_owned(), 7), ("#sql-x".to_owned(), 3)]));
    }

    #[test]
    fn figures_go_by_files_where_a_table_cannot_be_looked_at() {
        let sizes = sizes(&[table("a", 1, 0)], &[("a", 9)]);
        assert!(!sizes.goes_by_files(&analysed(&["a"])));
        assert!(sizes.goes_by_files(&Looked { blocked: set(&["a"]), ..Looked::default() }));
        let made = TableSize { name: "made".into(), ..TableSize::default() };
        assert!(self::sizes(&[made], &[("made", 9)]).goes_by_files(&Looked::default()));
    }

    #[test]
    fn people_are_warned_by_statistics_and_by_no_more_than_the_files_hold() {
        let files = FileSizes { all: 110, full_text: 10 };
        assert_eq!(by_statistics(&[table("a", 40, 10), table("b", 20, 0)], files), 70);
        assert_eq!(by_statistics(&[table("grown", 500, 10)], files), 100, "old statistics of a table that has shrunk");
        assert_eq!(by_statistics(&[table("a", 40, 90), of("MyISAM", table("m", 30, 0))], files), 80, "outside these files");
    }

    fn table(name: &str, data_bytes: u64, free_bytes: u64) -> TableSize {
        TableSize { name: name.into(), engine: Some("InnoDB".into()), data_bytes: Some(data_bytes), free_bytes, updated: None }
    }

    fn of(engine: &str, table: TableSize) -> TableSize {
        TableSize { engine: Some(engine.into()), ..table }
    }

    fn sizes(tables: &[TableSize], files: &[(&str, u64)]) -> DatabaseSizes {
        DatabaseSizes { tables: tables.to_vec(), files: files.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect() }
    }

    fn set(names: &[&str]) -> HashSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn analysed(tables: &[&str]) -> Looked {
        Looked { analysed: set(tables), ..Looked::default() }
    }

    fn bounds(exact: Exact) -> (u64, u64, bool) {
        (exact.at_least, exact.at_most, exact.is_hidden)
    }

    #[test]
    fn only_a_file_of_its_own_is_a_bound() {
        let own = || table("own", 40, 60);
        let files = [("own", 100), ("FTS_1", 30)];
        assert_eq!(sizes(&[own()], &files).bound(), Some(70));
        assert_eq!(sizes(&[own(), table("shared", 25, 9000)], &files).bound(), None, "its owner can freeze its statistics");
        assert_eq!(sizes(&[own(), of("MyISAM", table("m", 7, 1))], &files).bound(), None, "a statement hides what it has written so far");
        assert_eq!(sizes(&[own(), of("MRG_MYISAM", table("m", 7, 1))], &files).bound(), Some(70), "it has nothing of its own");
    }

    #[test]
    fn a_shared_tablespace_counts_by_statistics_and_its_free_space_is_nobodys() {
        let sizes = sizes(&[table("own", 40, 60), table("shared", 25, 9000)], &[("own", 100)]);
        assert_eq!(bounds(sizes.exact(&analysed(&["own", "shared"]))), (65, 65, false));
        assert_eq!(sizes.outside_bytes(&analysed(&["own", "shared"])), 25);
    }

    #[test]
    fn what_a_lock_keeps_from_us_is_neither_nothing_nor_enough_to_give_back() {
        let frozen = Looked { blocked: set(&["m"]), ..analysed(&["own"]) };
        let with = |table| sizes(&[self::table("own", 40, 60), table], &[("own", 100)]);
        assert_eq!(bounds(with(of("MyISAM", table("m", 7, 0))).exact(&frozen)), (47, u64::MAX, true));
        assert_eq!(bounds(with(table("m", 7, 0)).exact(&frozen)), (40, u64::MAX, true), "in a shared tablespace");
        assert_eq!(bounds(with(of("CSV", table("m", 0, 0))).exact(&frozen)), (40, u64::MAX, true));
        assert_eq!(bounds(with(TableSize { name: "m".into(), ..TableSize::default() }).exact(&analysed(&["own"]))), (40, u64::MAX, true));
    }

    #[test]
    fn what_was_not_reached_is_not_known_and_not_hidden() {
        let sizes = sizes(&[table("a", 10, 0), table("b", 10, 5)], &[("a", 20), ("b", 100)]);
        assert_eq!(bounds(sizes.exact(&analysed(&["a"]))), (10, 105, false));
    }

    #[test]
    fn a_table_whose_size_nobody_tells_is_read() {
        let silent = TableSize { data_bytes: None, ..of("Odd", table("odd", 0, 0)) };
        let sizes = sizes(&[of("CSV", table("c", 0, 0)), silent], &[]);
        let read = HashMap::from([("c".to_owned(), 70), ("odd".to_owned(), 5)]);
        assert_eq!(bounds(sizes.exact(&Looked { read, ..Looked::default() })), (75, 75, false));
        assert!(sizes.tables.iter().all(|table| table.must_be_read() && !table.can_be_analysed()));
    }

    #[test]
    fn a_copy_counts_for_the_disk_and_is_not_added_to_what_it_copies() {
        let files = |copy| sizes(&[table("t", 90, 0)], &[("t", 100), ("FTS_1", 5), ("#sql-ib1", copy)]).disk();
        assert_eq!((files(100), files(400)), (105, 400));
    }

    #[test]
    fn what_is_small_or_shared_is_not_worth_a_rebuild() {
        let tables = [table("small", 1, 0), table("full", 9 * MB, 0), table("holes", MB, 3 * MB), table("shared", 9 * MB, 9 * MB)];
        let sizes = sizes(&tables, &[("small", 65536), ("full", 9 * MB), ("holes", 4 * MB), ("FTS_1", 9 * MB)]);
        assert_eq!(worth_rebuilding(&sizes), [("holes".to_owned(), 4 * MB), ("full".to_owned(), 9 * MB)]);
    }

    #[test]
    fn a_lock_makes_nothing_smaller() {
        let hidden = TableSize { name: "made".into(), ..TableSize::default() };
        let sizes = sizes(&[table("frozen", 1, 10), hidden], &[("frozen", 100), ("made", 50), ("FTS_1", 30), ("#sql-copy", 99)]);
        assert_eq!(bounds(sizes.exact(&analysed(&["frozen"]))), (81, 81, false));
        let blocked = Looked { blocked: set(&["frozen"]), ..Looked::default() };
        assert_eq!(bounds(sizes.exact(&blocked)), (170, 170, false));
    }

    #[test]
    fn a_tenants_table_with_the_name_of_a_copy_counts() {
        let sizes = sizes(&[table("#sql-mine", 70, 0)], &[("#sql-mine", 100)]);
        assert_eq!((sizes.bound(), sizes.disk()), (Some(100), 100));
    }

    proptest::proptest! {
        #[test]
        fn a_closer_look_stays_between_the_bounds(
            tables in proptest::collection::vec((0_u64..1000, 0_u64..100, 0_u64..2000, 0_usize..4, 0_u8..3), 0..8)
        ) {
            let mut all = DatabaseSizes::default();
            let (mut some, mut every) = (Looked::default(), Looked::default());
            for (number, (data, free, more, engine, state)) in tables.into_iter().enumerate() {
                let name = number.to_string();
                let table = of(["InnoDB", "MyISAM", "CSV", "BLACKHOLE"][engine], table(&name, data, free));
                if engine == 0 {
                    all.files.insert(name.clone(), data + free + more);
                }
                for looked in [(state == 0).then_some(&mut some), Some(&mut every)].into_iter().flatten() {
                    if engine == 2 { looked.read.insert(name.clone(), data); } else { looked.analysed.insert(name.clone()); }
                }
                all.tables.push(table);
            }
            let (partial, exact) = (all.exact(&some), all.exact(&every));
            proptest::prop_assert_eq!(exact.at_least, exact.at_most);
            proptest::prop_assert!(partial.at_least <= exact.at_least && exact.at_most <= partial.at_most);
            if let Some(bound) = all.bound() {
                proptest::prop_assert!(exact.at_most <= bound && bound <= all.disk());
            }
        }
    }
}
