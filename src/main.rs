//! The program: one verb, one exit code.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    cf_mysql_broker::commands::run().await
}
