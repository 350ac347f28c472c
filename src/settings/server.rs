//! Section `server`: the HTTP side.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

use super::{Problems, secret};

/// Section `server`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// Address to listen on.
    pub bind_address: String,
    /// Port to listen on; 0 takes a free one.
    pub port: u16,
    /// Host of dashboard and registration URLs.
    pub external_host: String,
    /// Whether those URLs are https.
    pub ssl_enabled: bool,
    /// Serve TLS ourselves.
    pub tls: Option<ServerTls>,
    /// Every pair is accepted.
    pub credentials: Vec<Credential>,
    /// Status for a missing `X-Broker-API-Version`: 400 or 412.
    pub missing_api_version_status: u16,
    /// Seconds before work that is not done is answered with 202, if the platform accepts that.
    pub sync_wait: f64,
    /// Seconds after which another broker may finish or undo what a dead one began.
    pub operation_lease: f64,
    /// Requests worked on at once; more are 429.
    pub max_operations: usize,
    /// Of one address; more are 429.
    pub failed_logins_per_minute: u32,
    /// Whether `/metrics` and `/info` ask for the broker's credentials.
    pub protect_operator_endpoints: bool,
}

/// `server.tls`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerTls {
    /// PEM chain, leaf first.
    pub certificate_file: Option<PathBuf>,
    /// PEM key.
    pub private_key_file: Option<PathBuf>,
}

/// One pair of credentials a platform may use.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Credential {
    /// User name, without a colon.
    pub username: String,
    /// Password.
    pub password: SecretString,
    /// Or a file that holds it.
    pub password_file: Option<PathBuf>,
    /// Which platform uses it: written to the logs.
    pub platform: Option<String>,
}

impl ServerSettings {
    /// How long work may take before it is answered with 202.
    pub fn sync_wait(&self) -> Duration {
        Duration::from_secs_f64(self.sync_wait)
    }

    /// The lease of an operation.
    pub fn lease(&self) -> Duration {
        Duration::from_secs_f64(self.operation_lease)
    }

    /// See [`super::Settings::keep_fixed`].
    pub(super) fn keep_fixed(&mut self, old: &Self) -> Vec<&'static str> {
        let mut changed = Vec::new();
        if (&self.bind_address, self.port) != (&old.bind_address, old.port) {
            changed.push("server.bind_address and server.port");
            self.bind_address.clone_from(&old.bind_address);
            self.port = old.port;
        }
        // other certificates are no other listener
        if self.tls.is_some() != old.tls.is_some() {
            changed.push("server.tls");
            self.tls.clone_from(&old.tls);
        }
        if self.max_operations != old.max_operations {
            changed.push("server.max_operations");
            self.max_operations = old.max_operations;
        }
        changed
    }

    pub(super) fn check(&mut self, problems: &mut Problems) {
        if self.bind_address.parse::<std::net::IpAddr>().is_err() {
            problems.add("server.bind_address", "must be an IP address such as 0.0.0.0 or ::");
        }
        let is_host = !self.external_host.is_empty() && url::Host::parse(&self.external_host).is_ok();
        if !is_host {
            problems.add("server.external_host", "must be a host name without scheme, port and path");
        }
        if let Some(tls) = &self.tls {
            for (key, file) in [("certificate_file", &tls.certificate_file), ("private_key_file", &tls.private_key_file)] {
                let path = format!("server.tls.{key}");
                match file {
                    None => problems.add(path, "is required in server.tls"),
                    Some(file) => {
                        if let Err(error) = std::fs::File::open(file) {
                            problems.add(path, format!("cannot be read: {error}"));
                        }
                    }
                }
            }
        }
        if self.credentials.is_empty() {
            problems.add("server.credentials", "is required: at least one pair of username and password");
        }
        for (i, credential) in self.credentials.iter_mut().enumerate() {
            let path = format!("server.credentials[{i}]");
            if credential.username.is_empty() || credential.username.contains(':') {
                problems.add(format!("{path}.username"), "is required and must not contain ':'");
            }
            secret::resolve(&mut credential.password, credential.password_file.as_deref(), &format!("{path}.password"), problems);
        }
        if ![400, 412].contains(&self.missing_api_version_status) {
            problems.add("server.missing_api_version_status", "must be 400 or 412");
        }
        if !(0.0..=50.0).contains(&self.sync_wait) {
            problems.add("server.sync_wait", "must be a number of seconds from 0 to 50");
        }
        if !(1..=100_000).contains(&self.max_operations) {
            problems.add("server.max_operations", "must be from 1 to 100000");
        }
        if self.failed_logins_per_minute == 0 {
            problems.add("server.failed_logins_per_minute", "must be at least 1");
        }
        if !(1.0..=3600.0).contains(&self.operation_lease) {
            problems.add("server.operation_lease", "must be a number of seconds from 1 to 3600");
        }
    }
}
