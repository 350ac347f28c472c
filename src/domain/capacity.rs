//! What of the persistent disk can be sold, and what each instance takes of it.

use super::MB;

/// What the broker reads from the database server to know the overhead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerFigures {
    /// MariaDB (or MySQL).
    pub mariadb: bool,
    /// Redo log in bytes (`innodb_log_file_size` x files on MariaDB, `Innodb_redo_log_capacity_resized` on MySQL).
    pub redo_bytes: u64,
    /// The binary log is on.
    pub log_bin: bool,
}

/// What the operator set; bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapacityRules {
    /// The contract: what the persistent disk holds.
    pub persistent_disk: u64,
    /// Galera's write-set cache; 0 where there is no Galera.
    pub gcache: u64,
    /// What binary logs may take, where the server writes them.
    pub binlog_allowance: u64,
    /// Replaces what the server says of its redo log.
    pub redo: Option<u64>,
    /// Replaces the computed fixed part, redo and undo.
    pub overhead: Option<u64>,
    /// Added to what each instance reserves: its directory and the first pages of its tables.
    pub per_instance: u64,
}

/// The disk, the parts of it nobody can buy, and what is left to sell. Bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    /// The disk that counts: the contract, or the real disk where that is smaller.
    pub disk: u64,
    /// Every part of the overhead by its name.
    pub overhead: Vec<(&'static str, u64)>,
}

impl Capacity {
    /// Computes the overhead. Figures measured on real servers: a fresh data directory without its redo log needs 35 MB
    /// on MariaDB and 100 MB on MySQL (system tables, temporary and doublewrite files); undo inside MariaDB's `ibdata1`
    /// grew by 64 MB and never shrinks; 50 MB are kept free.
    pub fn new(rules: &CapacityRules, server: &ServerFigures, real_disk: Option<u64>) -> Self {
        let mut overhead = match rules.overhead {
            Some(bytes) => vec![("configured", bytes)],
            None => vec![
                ("fixed", if server.mariadb { 35 * MB } else { 100 * MB }),
                ("redo", rules.redo.unwrap_or(server.redo_bytes)),
                ("undo", 64 * MB),
                ("reserve", 50 * MB),
            ],
        };
        overhead.push(("gcache", rules.gcache));
        overhead.push(("binlog", if server.log_bin { rules.binlog_allowance } else { 0 }));
        Self { disk: real_disk.map_or(rules.persistent_disk, |real| real.min(rules.persistent_disk)), overhead }
    }

    /// The sum of all parts of the overhead.
    pub fn overhead_bytes(&self) -> u64 {
        self.overhead.iter().map(|(_, bytes)| bytes).sum()
    }

    /// What may be reserved in all; 0 where the overhead is larger than the disk.
    pub fn sellable_bytes(&self) -> u64 {
        self.disk.saturating_sub(self.overhead_bytes())
    }
}

impl CapacityRules {
    /// What an instance of a plan of this size reserves.
    pub fn reservation(&self, max_storage_mb: u64) -> u64 {
        max_storage_mb.saturating_mul(MB).saturating_add(self.per_instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: CapacityRules =
        CapacityRules { persistent_disk: 1000 * MB, gcache: 0, binlog_allowance: 0, redo: None, overhead: None, per_instance: 0 };
    const MARIADB: ServerFigures = ServerFigures { mariadb: true, redo_bytes: 96 * MB, log_bin: false };

    #[test]
    fn overhead_is_the_sum_of_its_parts() {
        let capacity = Capacity::new(&RULES, &MARIADB, None);
        assert_eq!(capacity.overhead_bytes(), (35 + 96 + 64 + 50) * MB);
        assert_eq!(capacity.sellable_bytes(), 755 * MB);
        let rules = CapacityRules { redo: Some(100 * MB), ..RULES };
        assert_eq!(Capacity::new(&rules, &MARIADB, None).sellable_bytes(), 751 * MB, "a redo log of 100 MB instead of 96");
    }

    #[test]
    fn a_figure_of_the_operator_replaces_the_computed_part_only() {
        let rules = CapacityRules { overhead: Some(10 * MB), gcache: 5 * MB, binlog_allowance: 7 * MB, ..RULES };
        let server = ServerFigures { log_bin: true, ..MARIADB };
        assert_eq!(Capacity::new(&rules, &server, None).overhead_bytes(), 22 * MB);
        assert_eq!(Capacity::new(&rules, &MARIADB, None).overhead_bytes(), 15 * MB);
    }

    #[test]
    fn the_smaller_disk_counts_and_nothing_goes_below_zero() {
        assert_eq!(Capacity::new(&RULES, &MARIADB, Some(500 * MB)).disk, 500 * MB);
        assert_eq!(Capacity::new(&RULES, &MARIADB, Some(5000 * MB)).disk, 1000 * MB);
        assert_eq!(Capacity::new(&RULES, &MARIADB, Some(100 * MB)).sellable_bytes(), 0);
    }

    #[test]
    fn an_instance_reserves_its_plan_and_its_own_overhead() {
        let rules = CapacityRules { per_instance: 104_858, ..RULES };
        assert_eq!(rules.reservation(10), 10 * MB + 104_858);
        assert_eq!(rules.reservation(u64::MAX), u64::MAX);
    }
}
