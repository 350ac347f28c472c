//! Section `capacity`: what can be sold of the disk. MB, that is 2^20 bytes.

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::Problems;
use crate::domain::capacity::CapacityRules;
use crate::domain::{MB, mb_to_bytes};

/// Section `capacity`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CapacitySettings {
    /// What the persistent disk of the database server holds.
    pub persistent_disk: u64,
    /// Galera's write-set cache; 0 where there is no Galera.
    pub gcache_size: u64,
    /// What binary logs may take, where the server writes them.
    pub binlog_allowance: u64,
    /// MB of the server's redo log; the server is asked where it is missing.
    pub redo_log_size: Option<u64>,
    /// Computed, or a figure instead.
    pub overhead: Overhead,
    /// Added to what each instance reserves.
    pub per_instance: f64,
}

/// The fixed part of the overhead.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Overhead {
    /// Computed from what the server says.
    #[default]
    Auto,
    /// This many MB instead.
    Megabytes(f64),
}

impl<'de> Deserialize<'de> for Overhead {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AutoOrNumber;
        impl Visitor<'_> for AutoOrNumber {
            type Value = Overhead;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("auto or a number of MB")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Overhead, E> {
                match text {
                    "auto" => Ok(Overhead::Auto),
                    other => other.parse().map(Overhead::Megabytes).map_err(|_| E::invalid_type(de::Unexpected::Other("a text"), &self)),
                }
            }
            fn visit_f64<E: de::Error>(self, mb: f64) -> Result<Overhead, E> {
                Ok(Overhead::Megabytes(mb))
            }
            fn visit_u64<E: de::Error>(self, mb: u64) -> Result<Overhead, E> {
                #[expect(clippy::cast_precision_loss, reason = "no disk has 2^53 MB")]
                Ok(Overhead::Megabytes(mb as f64))
            }
            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Overhead, E> {
                Err(E::invalid_type(de::Unexpected::Other("a negative number"), &self))
            }
        }
        deserializer.deserialize_any(AutoOrNumber)
    }
}

/// More MB than any disk has, and few enough that sums in bytes never overflow.
const MOST_MB: u64 = 1 << 40;

impl CapacitySettings {
    /// The rules in bytes.
    pub fn rules(&self) -> CapacityRules {
        CapacityRules {
            persistent_disk: self.persistent_disk * MB,
            gcache: self.gcache_size * MB,
            binlog_allowance: self.binlog_allowance * MB,
            redo: self.redo_log_size.map(|mb| mb * MB),
            overhead: match self.overhead {
                Overhead::Auto => None,
                Overhead::Megabytes(mb) => Some(mb_to_bytes(mb)),
            },
            per_instance: mb_to_bytes(self.per_instance),
        }
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        if self.persistent_disk == 0 {
            problems.add("capacity.persistent_disk", "is required: the size of the database server's persistent disk in MB");
        }
        for (key, mb) in [
            ("persistent_disk", self.persistent_disk),
            ("gcache_size", self.gcache_size),
            ("binlog_allowance", self.binlog_allowance),
            ("redo_log_size", self.redo_log_size.unwrap_or(0)),
        ] {
            if mb > MOST_MB {
                problems.add(format!("capacity.{key}"), "is more MB than any disk holds; the unit is MB (2^20 bytes)");
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a power of two")]
        let sane = |mb: f64| mb.is_finite() && (0.0..=MOST_MB as f64).contains(&mb);
        if let Overhead::Megabytes(mb) = self.overhead
            && !sane(mb)
        {
            problems.add("capacity.overhead", "must be auto or a number of MB, not negative");
        }
        if !sane(self.per_instance) {
            problems.add("capacity.per_instance", "must be a number of MB, not negative");
        }
    }
}
