//! `operator-accounts`: the statements an administrator of the database server runs once.

use super::{Config, Result};
use crate::mysql::operator_accounts::{self, OperatorAccounts};
use crate::settings::Settings;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: Config,
    /// What `SELECT VERSION()` says on the server.
    #[arg(long, value_name = "VERSION")]
    server_version: String,
    /// The server's variable `partial_revokes` is ON.
    #[arg(long)]
    partial_revokes: bool,
}

/// Prints them; of the settings only the sections `mysql` and `quota_enforcer` are read.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let settings = Settings::load_accounts(arguments.config.config.as_deref(), super::environment())?;
    let enforcer = settings.enforcer_mysql();
    let accounts = OperatorAccounts {
        broker: (&settings.mysql.username, &settings.mysql.password),
        enforcer: (&enforcer.username, &enforcer.password),
        database: &settings.mysql.database,
    };
    for statement in operator_accounts::sql(&arguments.server_version, arguments.partial_revokes, &accounts, settings.has_enforcer()) {
        println!("{statement};");
    }
    Ok(())
}
