//! What `dev` must remember from one time to the next beside the data itself: its passwords. Without `--data-dir` they are new
//! each time.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::Result;
use crate::domain::credentials::Endpoint;
use crate::domain::names::random_hex;
use crate::settings::{LoggingSettings, Settings};

/// The user name of the broker's API.
pub(super) const ADMIN: &str = "admin";
/// The enforcer's account.
pub(super) const ENFORCER: &str = "quota-enforcer";
/// The offering's name.
pub(super) const SERVICE: &str = "p-mysql";
/// Ids of the offering and of its plans by name, with their sizes in MB.
pub(super) const SERVICE_ID: &str = "44b26033-1f54-4087-b7bc-da9652c2a539";
pub(super) const PLANS: [(&str, &str, u64); 3] = [
    ("10mb", "2d3f9fd1-7d7a-4c0b-8e0a-9a7f7f3f6b11", 10),
    ("100mb", "ab08f1bc-e6fc-4b56-a767-ee0fea6e3f20", 100),
    ("1gb", "5e7a6d3f-0e5c-4d8a-9a55-4ad6d7a6dc4f", 1000),
];

const FILE: &str = "dev.json";

#[derive(Clone, Serialize, Deserialize)]
struct Secrets {
    admin: String,
    root: String,
    broker: String,
    enforcer: String,
    bindings: String,
}

/// Passwords and the size of the disk.
#[derive(Clone)]
pub(super) struct State {
    secrets: Secrets,
    disk: u64,
}

impl State {
    /// Reads the passwords of the last time, or makes new ones and keeps them.
    pub(super) fn open(directory: Option<&Path>, disk: u64) -> Result<Self> {
        let new = || Secrets {
            admin: random_hex(16),
            root: random_hex(16),
            broker: random_hex(16),
            enforcer: random_hex(16),
            bindings: random_hex(32),
        };
        let Some(directory) = directory else { return Ok(Self { secrets: new(), disk }) };
        let failed = |error: &dyn std::fmt::Display| anyhow::anyhow!("{}: {error}", directory.join(FILE).display());
        std::fs::create_dir_all(directory).map_err(|error| failed(&error))?;
        let file = directory.join(FILE);
        if file.exists() {
            let text = std::fs::read_to_string(&file).map_err(|error| failed(&error))?;
            // serde's message could repeat a password
            let secrets = serde_json::from_str(&text).map_err(|_| failed(&"is not a file of `dev`; choose another directory"))?;
            return Ok(Self { secrets, disk });
        }
        let secrets = new();
        let text = serde_json::to_string_pretty(&secrets).map_err(|error| failed(&error))?;
        let mut options = std::fs::OpenOptions::new();
        let mut opened = options.create_new(true).write(true).mode(0o600).open(&file).map_err(|error| failed(&error))?;
        opened.write_all(text.as_bytes()).map_err(|error| failed(&error))?;
        Ok(Self { secrets, disk })
    }

    pub(super) fn admin_password(&self) -> &str {
        &self.secrets.admin
    }

    pub(super) fn root_password(&self) -> &str {
        &self.secrets.root
    }

    /// Machines want JSON; a demonstration is not interrupted by what is no trouble.
    pub(super) fn logging(&self, json: bool, demo: bool) -> LoggingSettings {
        use crate::settings::{LogFormat, LogLevel};
        LoggingSettings {
            format: if json { LogFormat::Json } else { LogFormat::Text },
            level: if demo && !json { LogLevel::Error } else { LogLevel::Info },
        }
    }

    /// The settings of every broker: the same file an operator would write, so that `dev` is no other product.
    pub(super) fn settings(&self, server: &Endpoint) -> Result<Settings> {
        let plans: Vec<_> = PLANS
            .iter()
            .map(|(name, id, mb)| {
                json!({"id": id, "name": name, "description": format!("{mb} MB of storage"), "max_storage_mb": mb, "max_user_connections": 20})
            })
            .collect();
        let settings = json!({
            "server": {"bind_address": "127.0.0.1", "port": 0, "credentials": [{"username": ADMIN, "password": self.secrets.admin, "platform": "dev"}]},
            "mysql": {"hosts": [format!("{}:{}", server.host, server.port)], "username": "cf-mysql-broker", "password": self.secrets.broker},
            "capacity": {"persistent_disk": self.disk, "gcache_size": 0},
            "quota_enforcer": {"username": ENFORCER, "password": self.secrets.enforcer},
            "bindings": {"secrets": [{"id": "dev", "key": self.secrets.bindings}]},
            "services": [{"id": SERVICE_ID, "name": SERVICE, "description": "MySQL databases on a private server", "tags": ["mysql"], "plans": plans}],
        });
        let mut file = tempfile::Builder::new().suffix(".json").tempfile()?;
        file.write_all(settings.to_string().as_bytes())?;
        Ok(Settings::load(Some(file.path()), [])?)
    }
}
