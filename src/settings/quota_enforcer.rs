//! Section `quota_enforcer`.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::{Problems, secret};
use crate::domain::quota::Rules;

/// Section `quota_enforcer`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuotaEnforcerSettings {
    /// Whether `serve` runs it as a sibling task.
    pub enabled: bool,
    /// Its own account; the broker's where it is missing.
    pub username: Option<String>,
    /// Its password.
    pub password: SecretString,
    /// Or a file that holds it.
    pub password_file: Option<PathBuf>,
    /// Seconds between two passes.
    pub pause: f64,
    /// Users whose rights and sessions are never touched.
    pub ignored_users: Vec<String>,
    /// Per cent of the quota at which a database is reported as nearly full.
    pub warn_at: Vec<u8>,
    /// Seconds that a database which crossed its quota stays without writes at least.
    pub minimum_dwell: f64,
    /// Per cent of the quota under which writes come back.
    pub restore_below: u8,
    /// `host:port` for the metrics of `quota-enforcer`.
    pub metrics_address: Option<String>,
}

impl QuotaEnforcerSettings {
    /// The pause between two passes.
    pub fn pause(&self) -> Duration {
        Duration::from_secs_f64(self.pause)
    }

    /// When writes come back.
    pub fn rules(&self) -> Rules {
        Rules { minimum_dwell: Duration::from_secs_f64(self.minimum_dwell), restore_below: self.restore_below }
    }

    /// See [`super::Settings::keep_fixed`].
    pub(super) fn keep_fixed(&mut self, old: &Self) -> Vec<&'static str> {
        let mut changed = Vec::new();
        if self.enabled != old.enabled {
            changed.push("quota_enforcer.enabled");
            self.enabled = old.enabled;
        }
        if self.username != old.username || self.password.expose_secret() != old.password.expose_secret() {
            changed.push("quota_enforcer.username and quota_enforcer.password");
            self.username.clone_from(&old.username);
            self.password = old.password.clone();
        }
        if self.metrics_address != old.metrics_address {
            changed.push("quota_enforcer.metrics_address");
            self.metrics_address.clone_from(&old.metrics_address);
        }
        changed
    }

    pub(super) fn check(&mut self, problems: &mut Problems) {
        match &self.username {
            Some(username) => {
                problems.require("quota_enforcer.username", username, "leave the key out for mysql.username");
                secret::resolve(&mut self.password, self.password_file.as_deref(), "quota_enforcer.password", problems);
            }
            None => {
                if self.password_file.is_some() || !self.password.expose_secret().is_empty() {
                    problems.add("quota_enforcer.username", "is required beside quota_enforcer.password");
                }
            }
        }
        if !(1.0..=86_400.0).contains(&self.pause) {
            problems.add("quota_enforcer.pause", "must be a number of seconds from 1 to 86400");
        }
        for (i, user) in self.ignored_users.iter().enumerate() {
            if user.is_empty() {
                problems.add(format!("quota_enforcer.ignored_users[{i}]"), "must not be empty");
            }
        }
        for (i, per_cent) in self.warn_at.iter().enumerate() {
            if !(1..=99).contains(per_cent) {
                problems.add(format!("quota_enforcer.warn_at[{i}]"), "must be a percentage from 1 to 99");
            }
        }
        if !(0.0..=86_400.0).contains(&self.minimum_dwell) {
            problems.add("quota_enforcer.minimum_dwell", "must be a number of seconds from 0 to 86400");
        }
        if !(1..=100).contains(&self.restore_below) {
            problems.add("quota_enforcer.restore_below", "must be a percentage from 1 to 100");
        }
        if let Some(address) = &self.metrics_address
            && address.parse::<std::net::SocketAddr>().is_err()
        {
            problems.add("quota_enforcer.metrics_address", "must be address:port such as 127.0.0.1:9104");
        }
    }
}
