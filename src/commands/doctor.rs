//! `doctor`: what is wrong between the settings and the server, and what would be right.

use std::time::Duration;

use serde::Serialize;

use super::{Failure, Report, Result, output};
use crate::domain::grants::{Grant, missing};
use crate::mysql::doctor::{Examined, examine, needed};
use crate::mysql::operator_accounts::OperatorAccounts;
use crate::mysql::{Mysql, ServerInfo};
use crate::settings::{MysqlSettings, Settings, TlsMode};
use crate::telemetry;

/// How long an advertised host may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Serialize)]
struct Check {
    check: String,
    ok: bool,
    found: String,
    /// What would be right; empty where it is.
    wanted: String,
}

#[derive(Serialize)]
struct Checks {
    checks: Vec<Check>,
}

impl Checks {
    fn add(&mut self, check: impl Into<String>, ok: bool, found: impl Into<String>, wanted: impl Into<String>) {
        let wanted = if ok { String::new() } else { wanted.into() };
        self.checks.push(Check { check: check.into(), ok, found: found.into(), wanted });
    }

    fn result(&mut self, check: String, result: &crate::mysql::Result<()>, wanted: &str) {
        match result {
            Ok(()) => self.add(check, true, "yes", ""),
            Err(error) => self.add(check, false, error.to_string(), wanted),
        }
    }
}

/// Exit code 0 when everything is right, 1 when something is not, 78 for settings that cannot be read.
pub(super) async fn run(report: &Report) -> Result<()> {
    let settings = report.config.load()?;
    telemetry::init_logs(settings.logging);
    let mut checks = Checks { checks: Vec::new() };
    checks.add("settings", true, "complete", "");
    let enforcer = settings.enforcer_mysql();
    let shares_an_account = enforcer.username == settings.mysql.username;
    let who = if shares_an_account && settings.has_enforcer() { "broker and quota enforcer" } else { "broker" };
    examine_account(&mut checks, &settings, who, &settings.mysql).await;
    if !shares_an_account {
        examine_account(&mut checks, &settings, "quota enforcer", &enforcer).await;
    }
    for endpoint in settings.mysql.advertised() {
        let name = format!("{}:{}", endpoint.host, endpoint.port);
        let connected = tokio::time::timeout(PATIENCE, tokio::net::TcpStream::connect((endpoint.host.as_str(), endpoint.port))).await;
        let found = match &connected {
            Ok(Ok(_)) => "reachable from here".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        let wanted = "an address where apps reach the server (mysql.advertised_hosts); from here it need not be reachable";
        checks.add(format!("advertised host {name}"), matches!(connected, Ok(Ok(_))), found, wanted);
    }
    let is_well = checks.checks.iter().all(|check| check.ok);
    if report.json {
        output::json(&checks)?;
    } else {
        let word = |ok| if ok { "ok" } else { "wrong" }.to_owned();
        let rows = checks.checks.iter().map(|check| [check.check.clone(), word(check.ok), check.found.clone()]);
        output::table(&["check", "", "found"], rows);
        // below the table, where a long statement can be copied
        for check in checks.checks.iter().filter(|check| !check.ok) {
            println!("\n{}: what would be right:\n  {}", check.check, check.wanted);
        }
    }
    if is_well { Ok(()) } else { Err(Failure::Said) }
}

async fn examine_account(checks: &mut Checks, settings: &Settings, who: &str, account: &MysqlSettings) {
    let enforcer = settings.enforcer_mysql();
    let accounts = OperatorAccounts {
        broker: (&settings.mysql.username, &settings.mysql.password),
        enforcer: (&enforcer.username, &enforcer.password),
        database: &settings.mysql.database,
    };
    for node in examine(&Mysql::new(account)).await {
        let rights = |info: &ServerInfo| needed(info, &accounts, settings.has_enforcer(), &account.username);
        examine_node(checks, who, account, rights, node);
    }
}

/// `rights`: the GRANT statements the account needs on a server.
fn examine_node(checks: &mut Checks, who: &str, account: &MysqlSettings, rights: impl Fn(&ServerInfo) -> Vec<String>, node: Examined) {
    let at = |what: &str| format!("{who} at {}: {what}", node.node);
    let info = match node.info {
        Ok(info) => info,
        Err(error) => {
            let wanted = "a server that answers and accepts mysql.username with its password (quota_enforcer.username with its own)";
            return checks.add(at("connection"), false, error.to_string(), wanted);
        }
    };
    checks.add(at("connection"), true, format!("{} {}", info.dialect.name(), info.version), "");
    let minimum = info.too_old();
    checks.add(at("version"), minimum.is_none(), &info.version, minimum.map(|minimum| minimum.to_string()).unwrap_or_default());
    let tls_is_right = node.cipher.is_some() || matches!(account.tls.mode, TlsMode::Disabled | TlsMode::Preferred);
    checks.add(at("TLS"), tls_is_right, node.cipher.unwrap_or_else(|| "none".to_owned()), "a server with a certificate");
    checks.result(at("takes writes"), &node.writable, "read_only off, and on a cluster wsrep_ready on");
    checks.result(at("schema"), &node.schema, "run `migrate`, or `serve` with mysql.migrate: true");
    let held: Vec<Grant> = match &node.grants {
        Ok(lines) => lines.iter().filter_map(|line| Grant::parse(line)).collect(),
        Err(error) => return checks.add(at("rights"), false, error.to_string(), "SHOW GRANTS that answers"),
    };
    let mut is_complete = true;
    for statement in rights(&info) {
        let lacking = Grant::parse(&statement).map(|grant| missing(&grant, &held)).unwrap_or_default();
        if !lacking.is_empty() {
            is_complete = false;
            checks.add(at("rights"), false, format!("missing: {}", lacking.join(", ")), statement);
        }
    }
    if is_complete {
        checks.add(at("rights"), true, "complete", "");
    }
}
