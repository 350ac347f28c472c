//! How the servers are called.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use rustix::process::geteuid;

use super::Options;
use super::error::{Doing as _, Error};
use super::lock;
use super::place::Place;
use super::program::{Flavor, Program, option};
use super::user::User;

/// Makes a data directory in the empty `data`, with a root that has no password, and holds the lock meanwhile.
pub(super) fn initialise(program: &Program, durable: bool, data: &Path, tmp: &Path, lock: Option<&File>) -> Result<Command, Error> {
    let mut command = program.installer().map_or_else(|| program.command(), Command::new);
    command.args(common_arguments(program, durable)).args(as_root()).arg(option("datadir", data)).arg(option("tmpdir", tmp));
    match program.flavor() {
        Flavor::MariaDb => command.args(["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]),
        Flavor::MySql => command.arg("--initialize-insecure"),
    };
    let mut command = holding(lock, command);
    set_apart(&mut command, lock)?;
    Ok(command)
}

/// Runs the server: as the user, tied to the life of the thread that starts it where the system can do that, and holding its
/// lock as long as it lives.
pub(super) fn run(
    program: &Program,
    options: &Options,
    place: &Place,
    server_lock: Option<&File>,
    port: u16,
    user: Option<&User>,
) -> Result<Command, Error> {
    let mut command = program.command();
    command
        .args(common_arguments(program, options.durable))
        .args(if user.is_none() { as_root() } else { None })
        .arg(option("datadir", &place.data))
        .arg(option("tmpdir", &place.tmp))
        .arg(option("socket", &place.socket))
        .arg(option("pid-file", &place.pid_file))
        .arg(option("log-error", &place.log))
        .arg(option("init-file", &place.init_file))
        .arg(format!("--port={port}"))
        .args(running_arguments(program, options.durable))
        .args(&options.extra_args);
    // Data to keep is worth a shutdown. Temporary data is not, and a kill ends even a paused server.
    let last_signal = if options.data_dir.is_some() { "TERM" } else { "KILL" };
    let mut command = tied(program, last_signal, user, holding(server_lock, command))?;
    set_apart(&mut command, server_lock)?;
    Ok(command)
}

fn tied(program: &Program, last_signal: &str, user: Option<&User>, command: Command) -> Result<Command, Error> {
    let Some(setpriv) = program.setpriv() else {
        return match user {
            Some(_) => Err(io::ErrorKind::NotFound.into()).doing(|| "running the server as another user needs setpriv".to_owned()),
            None => Ok(command),
        };
    };
    let mut setpriv = Command::new(setpriv);
    if let Some(user) = user {
        setpriv.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid)).arg("--init-groups");
    }
    setpriv.args(["--pdeathsig", last_signal, "--"]);
    Ok(nested(setpriv, &command))
}

fn holding(lock: Option<&File>, command: Command) -> Command {
    if lock.is_some() { nested(lock::keeper(), &command) } else { command }
}

/// `outer`, told to run `inner`. Takes over its words only: all else is to be set afterwards.
fn nested(mut outer: Command, inner: &Command) -> Command {
    outer.arg(inner.get_program()).args(inner.get_args());
    outer
}

fn set_apart(command: &mut Command, lock: Option<&File>) -> Result<(), Error> {
    command.stdin(lock::input(lock)?);
    // A terminal's Ctrl-C is for the owner, who then stops the server in its turn.
    command.process_group(0);
    // This is not the service that somebody waits for.
    command.env_remove("NOTIFY_SOCKET");
    Ok(())
}

/// What lets the servers run as root, which they refuse otherwise.
fn as_root() -> Option<&'static str> {
    geteuid().is_root().then_some("--user=root")
}

/// Arguments for initialising and for running.
fn common_arguments(program: &Program, durable: bool) -> Vec<OsString> {
    // `loose`: versions come and go that do not know one, and none of them is essential.
    let mut arguments: Vec<OsString> = vec!["--no-defaults".into()];
    arguments.extend(program.own_arguments());
    arguments.push("--innodb-buffer-pool-size=64M".into());
    match program.flavor() {
        Flavor::MariaDb => arguments.push("--innodb-log-file-size=8M".into()),
        Flavor::MySql => {
            arguments.push("--loose-innodb-redo-log-capacity=8M".into());
            // The folder compiled in need not exist, and then it would not start.
            arguments.push("--secure-file-priv=NULL".into());
        }
    }
    if !durable {
        arguments.push("--loose-innodb-flush-method=nosync".into());
        arguments.push("--innodb-doublewrite=OFF".into());
    }
    arguments
}

/// Arguments for running only.
fn running_arguments(program: &Program, durable: bool) -> Vec<String> {
    let mut arguments = ["--bind-address=127.0.0.1", "--skip-name-resolve", "--max-connections=500"].map(str::to_owned).to_vec();
    arguments.push(format!("--innodb-flush-log-at-trx-commit={}", u8::from(durable)));
    if program.flavor() == Flavor::MySql {
        // It would listen on port 33060 too.
        arguments.push("--loose-mysqlx=OFF".to_owned());
        arguments.push("--performance-schema=OFF".to_owned());
        // MariaDB has no binary log unless it is asked for one.
        arguments.push("--skip-log-bin".to_owned());
    }
    arguments
}
