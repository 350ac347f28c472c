//! A private MariaDB or MySQL server: started with nothing prepared, reachable on 127.0.0.1 only, gone when its owner is gone.
//! The `dev` verb runs on one, and so do the integration tests.
//!
//! ```no_run
//! # use cf_mysql_broker::local_server::{Error, LocalServer, Options, Program};
//! # async fn example() -> Result<(), Error> {
//! let program = Program::find(None)?;
//! let mut server = LocalServer::start(&program, Options::default()).await?;
//! println!("mysql -h {} -P {} -u root", server.host(), server.port());
//! server.stop().await
//! # }
//! ```
//!
//! What a server leaves behind:
//!
//! - It ends with its owner. [`LocalServer::stop`] shuts it down, dropping the value kills it, and when the owning process is
//!   killed the kernel ends it (`setpriv --pdeathsig`, Linux). That signal follows the *thread* that started the server, so a
//!   thread of its own starts it and lives exactly as long as the server does: [`LocalServer::start`] may be called from any
//!   thread or runtime, and these may end first.
//! - Without [`Options::data_dir`] everything is in one temporary directory, removed at the end. One left by a killed process is
//!   removed by the next start.
//! - The directory given as [`Options::data_dir`] holds `data` (renamed into place when complete), `error.log` and two locks, its
//!   owner's and the server's: nobody else can start on the data while the server runs, even after its owner was killed.

mod accounts;
mod command;
mod error;
mod initialise;
mod lock;
mod log;
mod place;
mod process;
mod program;
mod ready;
mod seed;
mod user;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use error::Doing as _;
use place::Place;
use process::Running;
use user::User;

pub use error::Error;
pub use program::{Flavor, MYSQL_ROOT_VARIABLE, Program};

/// Free ports are found by asking and letting go, so another process can take one in between.
const PORT_ATTEMPTS: usize = 3;

/// How to run a server. The default is what most tests want: a temporary directory, a free port, fast instead of durable, root
/// without a password.
#[derive(Clone, Default)]
pub struct Options {
    /// Where to keep the data for the next time: an empty or new directory, or one this module filled. Without it the data is
    /// temporary.
    pub data_dir: Option<PathBuf>,
    /// The port on 127.0.0.1; without it a free one.
    pub port: Option<u16>,
    /// Whether a commit survives a crash of the server or the machine, as the servers ship. Without it nothing is ever synced to
    /// disk. There is no binary log either way; ask for one with `--log-bin` in `extra_args`.
    pub durable: bool,
    /// A folder with prepared data directories to copy, one for each server version: much faster than initialising. What it
    /// lacks is made, once, however many processes ask at the same time.
    pub seed: Option<PathBuf>,
    /// Root's password, in force before the server greets anybody, also in a directory that had another one. Without it root has
    /// none: only for tests, as every user of the machine can reach the port.
    pub root_password: Option<String>,
    /// Whom the server runs as when root starts it; root unless given. (Galera's rsync transfer refuses root, for one.) Nobody
    /// but root can choose. The user must be able to reach the directories and the program. Not to be given as `--user` in
    /// `extra_args`: the directories would not be the user's, and the kernel would forget to end the server with its owner.
    pub user: Option<String>,
    /// Arguments after all others, so that they win.
    pub extra_args: Vec<String>,
}

impl fmt::Debug for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Options")
            .field("data_dir", &self.data_dir)
            .field("port", &self.port)
            .field("durable", &self.durable)
            .field("seed", &self.seed)
            .field("root_password", &self.root_password.as_ref().map(|_| "..."))
            .field("user", &self.user)
            .field("extra_args", &self.extra_args)
            .finish()
    }
}

/// A running server. Dropping it kills the server at once and removes what is temporary; [`LocalServer::stop`] shuts it down
/// properly.
#[derive(Debug)]
pub struct LocalServer {
    program: Program,
    options: Options,
    port: u16,
    // Dropped in this order: the server ends, then its directories go, then the locks.
    running: Option<Running>,
    place: Place,
}

impl LocalServer {
    /// Starts a server, after making or copying its data directory where that is needed. It is ready when this returns: it
    /// greets clients on its socket and its port.
    ///
    /// # Errors
    /// Every [`Error`] but those of [`Program::find`] and [`Error::Stopped`].
    pub async fn start(program: &Program, options: Options) -> Result<Self, Error> {
        if let Some(password) = &options.root_password {
            accounts::check_password(password)?;
        }
        let place = {
            let (program, options) = (program.clone(), options.clone());
            blocking("preparing a data directory", move || Place::prepare(&program, &options)).await?
        };
        let wanted = options.port.unwrap_or(0);
        let mut server = Self { program: program.clone(), port: wanted, options, running: None, place };
        let mut attempts = if wanted == 0 { PORT_ATTEMPTS } else { 1 };
        loop {
            server.port = ready::free_port(wanted)?;
            attempts -= 1;
            match server.launch().await {
                Err(Error::PortInUse(port)) if attempts > 0 => {
                    tracing::debug!(port, "somebody took the free port first, trying another");
                }
                launched => return launched.map(|()| server),
            }
        }
    }

    /// The address it listens on.
    #[must_use]
    pub const fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    /// The port it listens on.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its Unix socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.place.socket
    }

    /// The server's own data directory: inside [`Options::data_dir`] if that was given.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.place.data
    }

    /// The server's error log.
    #[must_use]
    pub fn error_log(&self) -> &Path {
        &self.place.log
    }

    /// The process, while there is one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref()?.pid()
    }

    /// Which server it is.
    #[must_use]
    pub const fn flavor(&self) -> Flavor {
        self.program.flavor()
    }

    /// Its version as it says it.
    #[must_use]
    pub fn version(&self) -> &str {
        self.program.version()
    }

    /// Shuts the server down, as long as 20 seconds, then kills it. Removes what is temporary, so that it cannot be started
    /// again.
    ///
    /// # Errors
    /// The file system.
    pub async fn stop(&mut self) -> Result<(), Error> {
        self.halt().await;
        match self.place.claim.take() {
            Some(claim) => blocking("removing a temporary directory", || claim.release()).await,
            None => Ok(()),
        }
    }

    /// Shuts the server down like [`LocalServer::stop`], but keeps everything for [`LocalServer::restart`].
    pub async fn halt(&mut self) {
        if let Some(running) = self.running.take() {
            running.shut_down().await;
        }
    }

    /// Kills the server as a crash would, and waits until it is gone. Its data stays as it is for [`LocalServer::restart`].
    pub async fn kill_hard(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill().await;
        }
    }

    /// Freezes the server: connections stay open, nothing is answered.
    pub fn pause(&self) {
        if let Some(running) = &self.running {
            running.pause();
        }
    }

    /// Lets a paused server go on.
    pub fn resume(&self) {
        if let Some(running) = &self.running {
            running.signal(Signal::CONT);
        }
    }

    /// Starts the server again, on the same port and the same data; shuts it down first if it runs.
    ///
    /// # Errors
    /// [`Error::Stopped`] after [`LocalServer::stop`]; otherwise as [`LocalServer::start`].
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.halt().await;
        self.launch().await
    }

    /// Replaces [`Options::extra_args`] for the next [`LocalServer::restart`].
    pub fn set_extra_args(&mut self, extra_args: Vec<String>) {
        self.options.extra_args = extra_args;
    }

    /// Runs the server and waits until it is ready.
    async fn launch(&mut self) -> Result<(), Error> {
        let (place, options) = (&self.place, &self.options);
        let claim = place.claim.as_ref().ok_or(Error::Stopped)?;
        ready::free_port(self.port)?;
        let user = User::wanted(options.user.as_deref())?;
        accounts::write(&place.init_file, self.program.flavor(), options)?;
        let log_from = log::end(&place.log);
        let log = log::open(&place.log)?;
        if let Some(user) = &user {
            place.hand_over(user)?;
        }
        let mut command = command::run(&self.program, options, place, claim.server_lock(), self.port, user.as_ref())?;
        // What it says before it has opened its log belongs there too.
        command.stderr(log.try_clone().doing(|| "sharing the error log".to_owned())?).stdout(log);
        let launched = match Running::spawn(command) {
            Ok(running) => ready::until_ready(self.running.insert(running), place, self.port, log_from).await,
            Err(error) => Err(error),
        };
        // The server has read it, and whoever reads the directory later need not.
        let removed = fs::remove_file(&place.init_file).doing(|| format!("removing {}", place.init_file.display()));
        let launched = launched.and(removed);
        if launched.is_err() {
            self.running = None;
        }
        launched
    }
}

/// Does what blocks where that is no harm.
async fn blocking<T: Send + 'static>(what: &str, work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other).doing(|| what.to_owned())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_do_not_show_the_password() {
        let options = Options { root_password: Some("geheim".to_owned()), ..Options::default() };
        assert!(!format!("{options:?}").contains("geheim"));
    }
}
