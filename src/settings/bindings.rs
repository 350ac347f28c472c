//! Section `bindings`: what apps get.

use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::{Problems, secret};
use crate::domain::credentials::BindingSecret;

/// Shortest secret that passwords are derived from.
const MIN_KEY_CHARACTERS: usize = 32;

/// Section `bindings`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BindingsSettings {
    /// The first makes new credentials, the others still answer for old ones.
    secrets: Vec<SecretEntry>,
    /// Whether apps may LOCK TABLES.
    pub allow_table_locks: bool,
    /// Connections of a binding whose plan names no limit.
    pub max_user_connections_default: u32,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SecretEntry {
    id: String,
    key: SecretString,
    key_file: Option<PathBuf>,
}

impl BindingsSettings {
    /// The secret of new credentials.
    pub fn current_secret(&self) -> Option<BindingSecret> {
        self.secrets.first().map(SecretEntry::secret)
    }

    /// The secret of credentials that were made with it.
    pub fn secret(&self, id: &str) -> Option<BindingSecret> {
        self.secrets.iter().find(|entry| entry.id == id).map(SecretEntry::secret)
    }

    pub(super) fn check(&mut self, problems: &mut Problems) {
        if self.secrets.is_empty() {
            problems.add("bindings.secrets", "is required: at least one {id, key}");
        }
        let mut ids = std::collections::HashSet::new();
        for (i, entry) in self.secrets.iter_mut().enumerate() {
            let path = format!("bindings.secrets[{i}]");
            if entry.id.is_empty() || entry.id.len() > 64 {
                problems.add(format!("{path}.id"), "is required, at most 64 characters");
            } else if !ids.insert(entry.id.clone()) {
                problems.add(format!("{path}.id"), "is used twice; ids must be unique");
            }
            secret::resolve(&mut entry.key, entry.key_file.as_deref(), &format!("{path}.key"), problems);
            let length = entry.key.expose_secret().chars().count();
            if length < MIN_KEY_CHARACTERS {
                problems.add(format!("{path}.key"), format!("must be at least {MIN_KEY_CHARACTERS} characters long"));
            }
        }
        if self.max_user_connections_default == 0 {
            problems.add("bindings.max_user_connections_default", "must be at least 1");
        }
    }
}

impl SecretEntry {
    fn secret(&self) -> BindingSecret {
        BindingSecret { id: self.id.clone(), key: self.key.clone() }
    }
}
