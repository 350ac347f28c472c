//! The verbs. Wiring, no rules: nothing imports this, and only this imports clap.

mod audit;
mod capacity;
mod check_config;
mod check_credentials;
mod dev;
mod doctor;
mod instances;
mod migrate;
mod operator_accounts;
mod output;
mod quota_enforcer;
mod reclaim;
mod reconcile;
mod reload;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::local_server;
use crate::mysql;
use crate::settings::{self, Problems, Settings};

/// Sells MySQL databases on a shared server through the Open Service Broker API, and enforces their quotas.
#[derive(Parser)]
#[command(name = "cf-mysql-broker", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve the broker, with the quota enforcer as a sibling task.
    Serve(Config),
    /// Run the quota enforcer as a process of its own.
    QuotaEnforcer(quota_enforcer::Arguments),
    /// Create or upgrade the broker's own schema; take over a cf-mysql installation.
    Migrate(Config),
    /// Check the settings and print every problem at once.
    CheckConfig(Config),
    /// Print the SQL that makes the accounts of broker and enforcer, with their passwords, for an administrator to run.
    OperatorAccounts(operator_accounts::Arguments),
    /// Connect with the credentials of a binding (JSON on stdin, as `cf service-key` prints it), write, read, clean up.
    CheckCredentials,
    /// Run everything on a private database server, to try it out.
    Dev(dev::Arguments),
    /// Show where the disk went and what is left to sell.
    Capacity(Report),
    /// Rebuild the tables of an instance, so that the space of deleted rows is free again.
    Reclaim(reclaim::Arguments),
    /// List service instances, or show one.
    Instances(instances::Arguments),
    /// Check settings, server, schema and rights; say what would be right.
    Doctor(Report),
    /// Compare what is there with what the rows say; with --apply put it right.
    Reconcile(reconcile::Arguments),
    /// Show who changed what, newest first.
    Audit(audit::Arguments),
}

#[derive(Args)]
struct Config {
    /// The settings: YAML, or JSON by its extension. Keys can be set in the environment too.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Args)]
struct Report {
    #[command(flatten)]
    config: Config,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Why a verb was not done, by exit code.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// 78: the settings.
    #[error("{0}")]
    Settings(#[from] Problems),
    /// 69: something that is needed is not there.
    #[error("{0}")]
    Missing(String),
    /// 1: anything else.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
    /// 1, and everything has been said.
    #[error("")]
    Said,
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) | Self::Said => 1,
            Self::Missing(_) => 69,
            Self::Settings(_) => 78,
        }
    }
}

impl From<mysql::Error> for Failure {
    fn from(error: mysql::Error) -> Self {
        if error.is_outage() { Self::Missing(error.to_string()) } else { Self::Failed(error.into()) }
    }
}

impl From<crate::broker::OsbError> for Failure {
    fn from(error: crate::broker::OsbError) -> Self {
        match error {
            crate::broker::OsbError::Unavailable(error) => Self::Missing(error.to_string()),
            other => Self::Failed(other.into()),
        }
    }
}

impl From<local_server::Error> for Failure {
    fn from(error: local_server::Error) -> Self {
        if error.is_missing() { Self::Missing(error.to_string()) } else { Self::Failed(error.into()) }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.into())
    }
}

type Result<T> = std::result::Result<T, Failure>;

impl Config {
    fn load(&self) -> Result<Settings> {
        Ok(Settings::load(self.config.as_deref(), environment())?)
    }
}

/// What of the environment is settings.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars().filter(|(key, _)| settings::is_read(key))
}

/// Runs the verb of the command line. Exit codes: 0 done, 1 failed, 64 usage, 69 something needed is not there, 78 settings.
pub async fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // --help and --version come this way too, on stdout
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    let done = match cli.verb {
        Verb::Serve(config) => serve::run(&config).await,
        Verb::QuotaEnforcer(arguments) => quota_enforcer::run(&arguments).await,
        Verb::Migrate(config) => migrate::run(&config).await,
        Verb::CheckConfig(config) => check_config::run(&config),
        Verb::OperatorAccounts(arguments) => operator_accounts::run(&arguments),
        Verb::CheckCredentials => check_credentials::run().await,
        Verb::Dev(arguments) => dev::run(arguments).await,
        Verb::Capacity(report) => capacity::run(&report).await,
        Verb::Reclaim(arguments) => reclaim::run(&arguments).await,
        Verb::Instances(arguments) => instances::run(&arguments).await,
        Verb::Doctor(report) => doctor::run(&report).await,
        Verb::Reconcile(arguments) => reconcile::run(&arguments).await,
        Verb::Audit(arguments) => audit::run(&arguments).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, Failure::Said) {
                eprintln!("{failure}");
            }
            ExitCode::from(failure.exit_code())
        }
    }
}
