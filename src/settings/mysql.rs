//! Section `mysql`: the database server.

use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::{Problems, secret};
use crate::domain::credentials::Endpoint;

/// Section `mysql`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MysqlSettings {
    /// The single-host spelling of `hosts`.
    pub host: Option<String>,
    /// `host` or `host:port`; the first that works is used.
    pub hosts: Vec<String>,
    /// Port of hosts that name none.
    pub port: u16,
    /// The broker's account.
    pub username: String,
    /// Its password.
    pub password: SecretString,
    /// Or a file that holds it.
    pub password_file: Option<PathBuf>,
    /// The broker's own database.
    pub database: String,
    /// Connections the broker keeps at most.
    pub max_connections: u32,
    /// What bindings carry; `hosts` where it is empty.
    pub advertised_hosts: Vec<String>,
    /// TLS to the server.
    pub tls: MysqlTls,
    /// Whether `serve` brings the schema up to date when it starts.
    pub migrate: bool,
    #[serde(skip)]
    ca_certificate: Option<String>,
}

/// `mysql.tls`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MysqlTls {
    /// How much TLS.
    pub mode: TlsMode,
    /// PEM certificates of the authority; bindings carry them as `ca_certificate`.
    pub ca_file: Option<PathBuf>,
}

/// How much TLS, as in MySQL's `--ssl-mode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsMode {
    /// None.
    Disabled,
    /// If the server has it; any certificate.
    #[default]
    Preferred,
    /// Or no connection; any certificate.
    Required,
    /// The certificate must be signed by `ca_file`.
    VerifyCa,
    /// And carry the host's name.
    VerifyIdentity,
}

impl MysqlSettings {
    /// Where the broker connects.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.parse_all(&self.hosts)
    }

    /// Where apps connect.
    pub fn advertised(&self) -> Vec<Endpoint> {
        self.parse_all(if self.advertised_hosts.is_empty() { &self.hosts } else { &self.advertised_hosts })
    }

    /// What bindings carry as `ca_certificate`.
    pub fn ca_certificate(&self) -> Option<&str> {
        self.ca_certificate.as_deref()
    }

    fn parse_all(&self, hosts: &[String]) -> Vec<Endpoint> {
        hosts.iter().filter_map(|host| parse(host, self.port)).collect()
    }

    /// See [`super::Settings::keep_fixed`]: connections are made once. What bindings carry may change.
    pub(super) fn keep_fixed(&mut self, old: &Self) -> Option<&'static str> {
        let is_same = self.hosts == old.hosts
            && self.port == old.port
            && self.username == old.username
            && self.password.expose_secret() == old.password.expose_secret()
            && self.database == old.database
            && self.max_connections == old.max_connections
            && self.tls == old.tls;
        if is_same {
            return None;
        }
        let advertised_hosts = std::mem::take(&mut self.advertised_hosts);
        *self = Self { advertised_hosts, ..old.clone() };
        Some("mysql")
    }

    pub(super) fn check(&mut self, problems: &mut Problems) {
        if let Some(host) = self.host.take() {
            self.hosts = vec![host];
        }
        if self.hosts.is_empty() {
            problems.add("mysql.hosts", "is required: at least one host or host:port");
        }
        for (key, hosts) in [("hosts", &self.hosts), ("advertised_hosts", &self.advertised_hosts)] {
            for (i, host) in hosts.iter().enumerate() {
                if parse(host, self.port).is_none() {
                    problems.add(format!("mysql.{key}[{i}]"), "must be host, host:port or [IPv6 address]:port");
                }
            }
        }
        if self.port == 0 {
            problems.add("mysql.port", "must be from 1 to 65535");
        }
        problems.require("mysql.username", &self.username, "the broker's account on the database server");
        secret::resolve(&mut self.password, self.password_file.as_deref(), "mysql.password", problems);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if self.database.is_empty() || self.database.len() > 64 || !self.database.chars().all(is_name) {
            problems.add("mysql.database", "must be 1 to 64 of letters, digits and '_'");
        }
        if !(2..=1000).contains(&self.max_connections) {
            problems.add("mysql.max_connections", "must be from 2 to 1000");
        }
        match (&self.tls.ca_file, self.tls.mode) {
            (None, TlsMode::VerifyCa | TlsMode::VerifyIdentity) => {
                problems.add("mysql.tls.ca_file", "is required with mysql.tls.mode verify_ca and verify_identity");
            }
            (Some(file), _) => match std::fs::read_to_string(file) {
                Ok(text) => self.ca_certificate = Some(text),
                Err(error) => problems.add("mysql.tls.ca_file", format!("cannot be read: {error}")),
            },
            (None, _) => {}
        }
    }
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`, or a bare IPv6 address.
fn parse(text: &str, default_port: u16) -> Option<Endpoint> {
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Some(Endpoint { host: text.to_owned(), port: default_port });
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port > 0)?,
        None => default_port,
    };
    let is_host = !host.is_empty() && (text.starts_with('[') || url::Host::parse(host).is_ok());
    is_host.then(|| Endpoint { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let parsed = |text| parse(text, 3306).map(|e| (e.host, e.port));
        assert_eq!(parsed("db"), Some(("db".to_owned(), 3306)));
        assert_eq!(parsed("db:3307"), Some(("db".to_owned(), 3307)));
        assert_eq!(parsed("::1"), Some(("::1".to_owned(), 3306)));
        assert_eq!(parsed("[::1]:3307"), Some(("::1".to_owned(), 3307)));
        for wrong in ["", ":3306", "db:", "db:x", "db:0", "a b", "[::1", "[x]:1", "http://db"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
