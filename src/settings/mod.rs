//! What operators set: compiled-in default, then their file, then what Cloud Foundry tells an app, then the environment. The only
//! folder that imports `config`; one section a file, each with a `check` that reports every problem it has.

mod audit;
mod bindings;
mod capacity;
mod cloud_foundry;
mod layers;
mod logging;
mod mysql;
mod quota_enforcer;
mod secret;
mod server;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;

pub use audit::AuditSettings;
pub use bindings::BindingsSettings;
pub use capacity::{CapacitySettings, Overhead};
pub use logging::{LogFormat, LogLevel, LoggingSettings};
pub use mysql::{MysqlSettings, MysqlTls, TlsMode};
pub use quota_enforcer::QuotaEnforcerSettings;
pub use server::{Credential, ServerSettings, ServerTls};

use crate::domain::catalog::{Catalog, ServiceOffering};
use crate::domain::quota::Spared;
use layers::Layers;

/// Whether a variable of the environment is read at all.
pub fn is_read(variable: &str) -> bool {
    variable.to_ascii_uppercase().starts_with(ENVIRONMENT_PREFIX) || cloud_foundry::VARIABLES.contains(&variable)
}

/// What every key of the environment begins with; sections and keys follow, separated by two underscores.
pub const ENVIRONMENT_PREFIX: &str = "CF_MYSQL_BROKER";

/// Everything an operator can set.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The HTTP side.
    pub server: ServerSettings,
    /// The database server.
    pub mysql: MysqlSettings,
    /// What can be sold of the disk.
    pub capacity: CapacitySettings,
    /// The quota enforcer.
    pub quota_enforcer: QuotaEnforcerSettings,
    /// What apps get.
    pub bindings: BindingsSettings,
    /// What is for sale.
    pub catalog: Catalog,
    /// The trail of changes.
    pub audit: AuditSettings,
    /// Logs.
    pub logging: LoggingSettings,
}

/// Settings that a reload replaces while the program runs.
pub type SharedSettings = Arc<ArcSwap<Settings>>;

/// One mistake in the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Key path such as `services[0].plans[1].max_storage_mb`.
    pub path: String,
    /// What would be right. Never a value that could be a secret.
    pub text: String,
}

/// Every mistake in the settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            let end = if i + 1 < self.0.len() { "\n" } else { "" };
            write!(f, "{}: {}{end}", problem.path, problem.text)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl Problems {
    /// Adds a problem, unless one of this key, or of what it stands in, is known already: a value that could not be read is
    /// not also missing.
    pub(crate) fn add(&mut self, path: impl Into<String>, text: impl Into<String>) {
        let path = path.into();
        if !self.0.iter().any(|known| {
            known.path == path || path.starts_with(&format!("{}.", known.path)) || path.starts_with(&format!("{}[", known.path))
        }) {
            self.0.push(Problem { path, text: text.into() });
        }
    }

    /// Adds "is required" for an empty text.
    pub(crate) fn require(&mut self, path: &str, value: &str, what: &str) {
        if value.is_empty() {
            self.add(path, format!("is required ({what})"));
        }
    }
}

impl Settings {
    /// Reads and checks all layers. The environment is passed in, so that tests need not change the process's own.
    ///
    /// # Errors
    /// Every problem at once; a file that cannot be read is one.
    pub fn load(file: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut layers = Layers::read(file, environment, &mut problems);
        let mut settings = Self {
            server: layers.section("server", &mut problems),
            mysql: layers.section("mysql", &mut problems),
            capacity: layers.section("capacity", &mut problems),
            quota_enforcer: layers.section("quota_enforcer", &mut problems),
            bindings: layers.section("bindings", &mut problems),
            catalog: Catalog { services: layers.section::<Vec<ServiceOffering>>("services", &mut problems) },
            audit: layers.section("audit", &mut problems),
            logging: layers.section("logging", &mut problems),
        };
        layers.refuse_the_rest(&mut problems);
        settings.server.check(&mut problems);
        settings.mysql.check(&mut problems);
        settings.capacity.check(&mut problems);
        settings.quota_enforcer.check(&mut problems);
        settings.check_accounts(&mut problems);
        settings.bindings.check(&mut problems);
        settings.audit.check(&mut problems);
        for (path, text) in settings.catalog.problems() {
            problems.add(format!("services{path}"), text);
        }
        if problems.0.is_empty() { Ok(settings) } else { Err(problems) }
    }

    /// Reads and checks only what names the accounts on the database server: the sections `mysql` and `quota_enforcer`. Where
    /// accounts are made, little else is known.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn load_accounts(file: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut layers = Layers::read(file, environment, &mut problems);
        let mut settings = Self {
            mysql: layers.section("mysql", &mut problems),
            quota_enforcer: layers.section("quota_enforcer", &mut problems),
            ..Self::default()
        };
        settings.mysql.check(&mut problems);
        settings.quota_enforcer.check(&mut problems);
        settings.check_accounts(&mut problems);
        if problems.0.is_empty() { Ok(settings) } else { Err(problems) }
    }

    /// The settings of the database with the quota enforcer's own account.
    pub fn enforcer_mysql(&self) -> MysqlSettings {
        let mut mysql = self.mysql.clone();
        if let Some(username) = &self.quota_enforcer.username {
            mysql.username.clone_from(username);
            mysql.password = self.quota_enforcer.password.clone();
        }
        mysql
    }

    /// Users whose rights and sessions the enforcer never touches: the operator's list, cf-mysql's `roadmin`, and the
    /// accounts of the broker and of the enforcer.
    pub fn ignored_users(&self) -> Vec<String> {
        let Spared { mut ignored, own } = self.spared();
        ignored.extend(own);
        ignored.sort();
        ignored.dedup();
        ignored
    }

    /// Whose rights and sessions the quota enforcer leaves alone.
    pub fn spared(&self) -> Spared {
        let mut ignored = self.quota_enforcer.ignored_users.clone();
        ignored.push("roadmin".to_owned());
        let mut own = vec![self.mysql.username.clone()];
        own.extend(self.quota_enforcer.username.clone());
        Spared { ignored, own }
    }

    /// Whether anybody enforces quotas, as far as these settings say: inside `serve`, or a process of its own whose account is named.
    pub fn has_enforcer(&self) -> bool {
        self.quota_enforcer.enabled || self.quota_enforcer.username.is_some()
    }

    /// Takes over from the settings in force what a process cannot change while it runs, and names what was to be another: key paths.
    pub fn keep_fixed(&mut self, old: &Self) -> Vec<&'static str> {
        let mut changed = self.server.keep_fixed(&old.server);
        changed.extend(self.mysql.keep_fixed(&old.mysql));
        changed.extend(self.quota_enforcer.keep_fixed(&old.quota_enforcer));
        if self.logging != old.logging {
            changed.push("logging");
            self.logging = old.logging;
        }
        changed
    }

    /// One account has one password.
    fn check_accounts(&self, problems: &mut Problems) {
        use secrecy::ExposeSecret as _;
        let enforcer = self.enforcer_mysql();
        if enforcer.username == self.mysql.username && enforcer.password.expose_secret() != self.mysql.password.expose_secret() {
            problems.add("quota_enforcer.password", "is not mysql.password, and both are of one account: the usernames are the same");
        }
    }
}

#[cfg(test)]
mod tests;
