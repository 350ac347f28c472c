//! Why there is no server.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use super::program::{Flavor, MYSQL_ROOT_VARIABLE};
use super::ready::READY_TIMEOUT;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such server on this machine. The text says how to get one.
    #[error("no {flavor} server was found on this machine. {}", install_line(*flavor))]
    NotInstalled {
        /// What was looked for.
        flavor: Flavor,
    },
    /// [`MYSQL_ROOT_VARIABLE`] names something that is no unpacked MySQL.
    #[error("{MYSQL_ROOT_VARIABLE} is {}, where there is no MySQL that runs. {}", root.display(), install_line(Flavor::MySql))]
    MySqlRoot {
        /// The folder it names.
        root: PathBuf,
    },
    /// `mariadb-install-db` is not where MariaDB is.
    #[error("mariadb-install-db was not found. {}", install_line(Flavor::MariaDb))]
    NoInstaller,
    /// The file system, or a program that would not start.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What came of it.
        source: io::Error,
    },
    /// A new data directory could not be made.
    #[error("could not initialise a data directory with {program} ({status}):\n{output}")]
    Initialise {
        /// The program that was to do it.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said.
        output: String,
    },
    /// The server ended before it was ready.
    #[error("the server ended before it was ready ({status}). The end of its log:\n{log}")]
    Exited {
        /// How it ended.
        status: String,
        /// The last lines of its error log.
        log: String,
    },
    /// The server did not greet anybody in time.
    #[error("the server was not ready after {} seconds. The end of its log:\n{log}", READY_TIMEOUT.as_secs())]
    NotReady {
        /// The last lines of its error log.
        log: String,
    },
    /// Another live server or process uses the directory.
    #[error("{} is in use by {owner}: stop that first, or name another directory", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// Who uses it, as far as is known.
        owner: String,
    },
    /// The directory holds something else.
    #[error("{} is neither empty nor made by cf-mysql-broker: name another directory", dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory was made by the other server.
    #[error("{} holds the data of {found}, but this server is {wanted}", dir.display())]
    OtherFlavor {
        /// The directory.
        dir: PathBuf,
        /// Whose data it holds.
        found: String,
        /// The server that was to use it.
        wanted: Flavor,
    },
    /// The port asked for is taken.
    #[error("port {0} is in use on this machine")]
    PortInUse(u16),
    /// [`LocalServer::restart`](super::LocalServer::restart) after [`LocalServer::stop`](super::LocalServer::stop).
    #[error("the server was stopped for good: what it needs to start again is gone")]
    Stopped,
    /// The root password cannot be written as an SQL string under every SQL mode.
    #[error("the root password must be printable ASCII without quotes and backslashes")]
    Password,
}

impl Error {
    /// Whether something that is needed is not on this machine, and installing it would help.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::NotInstalled { .. } | Self::MySqlRoot { .. } | Self::NoInstaller)
    }
}

/// The one line that gets a server.
const fn install_line(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::MariaDb => "Install it: apt-get install mariadb-server",
        Flavor::MySql => "Install it: export CF_MYSQL_BROKER_MYSQL_ROOT=$(scripts/install-mysql)",
    }
}

/// Gives an I/O error the sentence it lacks.
pub(super) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io { what: what(), source })
    }
}

/// Success too where there was nothing to remove or to rename.
pub(super) fn if_there(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_says_what_to_install() {
        let error = Error::NotInstalled { flavor: Flavor::MariaDb };
        assert!(error.is_missing());
        assert!(error.to_string().contains("apt-get install mariadb-server"));
        assert!(!Error::Stopped.is_missing());
    }
}
