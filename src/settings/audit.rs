//! Section `audit`: the trail of changes.

use serde::Deserialize;

use super::Problems;

/// Section `audit`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditSettings {
    /// Days for which entries are kept.
    pub retention_days: u32,
}

impl AuditSettings {
    pub(super) fn check(&self, problems: &mut Problems) {
        if !(1..=36_500).contains(&self.retention_days) {
            problems.add("audit.retention_days", "must be from 1 to 36500");
        }
    }
}
