//! A private MariaDB or MySQL server: started with nothing prepared, reachable on 127.0.0.1 only,
//! gone when its owner is gone. The `dev` verb runs on one, and so do the integration tests.
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
//! - It ends with its owner. [`LocalServer::stop`] shuts it down, dropping the value kills it, and
//!   when the owning process is killed the kernel ends it (`setpriv --pdeathsig`, Linux). That
//!   signal follows the *thread* that started the server, so a thread of its own starts it and
//!   lives exactly as long as the server does: [`LocalServer::start`] may be called from any
//!   thread or runtime, and these may end first.
//! - Without [`Options::data_dir`] everything is in one temporary directory, removed at the end.
//!   One left by a killed process is removed by the next start.
//! - The directory given as [`Options::data_dir`] holds `data` (renamed into place when complete),
//!   `error.log` and two locks, its owner's and the server's: nobody else can start on the data
//!   while the server runs, even after its owner was killed.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, geteuid, kill_process, waitid};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;

/// The environment variable that names a folder of unpacked MySQL packages, as
/// `scripts/install-mysql` makes it. It is preferred to an installed MySQL.
pub const MYSQL_ROOT_VARIABLE: &str = "CF_MYSQL_BROKER_MYSQL_ROOT";

/// How long a server may take from its start to its first greeting.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a server may take to shut down before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// How long to wait for the server of a killed owner to let go of its data.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(25);
/// `sockaddr_un` has 108 bytes, the last of them a NUL; the servers refuse a longer path.
const SOCKET_PATH_MAX: usize = 107;
/// How the temporary directories are named: short, for the socket in them.
const TEMP_PREFIX: &str = "cfmb-";
/// Free ports are found by asking and letting go, so another process can take one in between.
const PORT_ATTEMPTS: usize = 3;
/// Part of a seed's name: change it when the way data directories are initialised changes.
const SEED_FORMAT: u32 = 1;

const LOCK_FILE: &str = "cf-mysql-broker.lock";
/// Held by the server itself, beside [`LOCK_FILE`], which is its owner's.
const SERVER_LOCK_FILE: &str = "cf-mysql-broker.server.lock";
/// Run by the shell before a program that shall hold a lock: keeps it open beside the input, which
/// the servers close. The shell becomes the program, so the process stays the same; and no other
/// child of ours gets the file, as it would if it were simply inheritable.
const KEEP_LOCK: [&str; 4] = ["/bin/sh", "-c", "exec 9<&0 </dev/null && exec \"$@\"", "sh"];

const FLAVOR_FILE: &str = "cf-mysql-broker.flavor";
const SOCKET_FILE: &str = "s.sock";

/// Which of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavor {
    /// MariaDB.
    MariaDb,
    /// Oracle's MySQL.
    MySql,
}

impl Flavor {
    const fn word(self) -> &'static str {
        match self {
            Self::MariaDb => "mariadb",
            Self::MySql => "mysql",
        }
    }
}

impl fmt::Display for Flavor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::MariaDb => "MariaDB",
            Self::MySql => "MySQL",
        })
    }
}

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
    #[error(
        "{MYSQL_ROOT_VARIABLE} is {}, where there is no MySQL that runs. {}",
        root.display(),
        install_line(Flavor::MySql)
    )]
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
    #[error(
        "the server was not ready after {} seconds. The end of its log:\n{log}",
        READY_TIMEOUT.as_secs()
    )]
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
    /// [`LocalServer::restart`] after [`LocalServer::stop`].
    #[error("the server was stopped for good: what it needs to start again is gone")]
    Stopped,
    /// The root password cannot be written as an SQL string under every SQL mode.
    #[error("the root password must be printable ASCII without quotes and backslashes")]
    Password,
}

/// The one line that gets a server.
const fn install_line(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::MariaDb => "Install it: apt-get install mariadb-server",
        Flavor::MySql => "Install it: export CF_MYSQL_BROKER_MYSQL_ROOT=$(scripts/install-mysql)",
    }
}

/// Gives an I/O error the sentence it lacks.
trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io { what: what(), source })
    }
}

/// A server program found on this machine.
#[derive(Clone, Debug)]
pub struct Program {
    flavor: Flavor,
    version: String,
    path: PathBuf,
    /// What runs it: the program, or the unpacked packages' loader and the program.
    words: Vec<OsString>,
    /// Arguments of every run: where an unpacked server finds its parts.
    base: Vec<OsString>,
    /// `mariadb-install-db`; MySQL initialises itself.
    installer: Option<PathBuf>,
    /// What ties a server's life to its owner's, where there is such a thing.
    setpriv: Option<PathBuf>,
}

impl Program {
    /// Finds a server: on the `PATH` and where distributions put servers, and an unpacked MySQL
    /// where [`MYSQL_ROOT_VARIABLE`] says. Without a wish it is MariaDB if there is one, otherwise
    /// MySQL.
    ///
    /// Runs what it finds with `--version`, a few milliseconds each: Debian's MariaDB has a
    /// `mysqld` too, so a name proves nothing.
    pub fn find(flavor: Option<Flavor>) -> Result<Self, Error> {
        match flavor {
            Some(Flavor::MariaDb) => Self::find_mariadb(),
            Some(Flavor::MySql) => Self::find_mysql(),
            None => match Self::find_mariadb() {
                Err(none @ Error::NotInstalled { .. }) => match Self::find_mysql() {
                    // Neither is there: name the one that is easier to install.
                    Err(Error::NotInstalled { .. }) => Err(none),
                    found => found,
                },
                found => found,
            },
        }
    }

    fn find_mariadb() -> Result<Self, Error> {
        let (path, version) = find_installed(&["mariadbd", "mysqld"], Flavor::MariaDb)?;
        let installer = find_installer(&path).ok_or(Error::NoInstaller)?;
        Ok(Self {
            flavor: Flavor::MariaDb,
            version,
            words: vec![path.clone().into()],
            path,
            base: Vec::new(),
            installer: Some(installer),
            setpriv: find_setpriv(),
        })
    }

    fn find_mysql() -> Result<Self, Error> {
        if let Some(root) = std::env::var_os(MYSQL_ROOT_VARIABLE).filter(|root| !root.is_empty()) {
            let root = PathBuf::from(root);
            return Self::unpacked(&root).ok_or(Error::MySqlRoot { root });
        }
        let (path, version) = find_installed(&["mysqld"], Flavor::MySql)?;
        Ok(Self {
            flavor: Flavor::MySql,
            version,
            words: vec![path.clone().into()],
            path,
            base: Vec::new(),
            installer: None,
            setpriv: find_setpriv(),
        })
    }

    /// Packages unpacked under `root` run by their own loader, with their own libraries: the
    /// machine's may be older than what they were built for.
    fn unpacked(root: &Path) -> Option<Self> {
        let root = fs::canonicalize(root).ok()?;
        let path = root.join("usr/sbin/mysqld");
        let (loader, libraries) = find_loader(&root.join("usr/lib"))?;
        let words = vec![loader.into(), "--library-path".into(), libraries.clone().into(), path.clone().into()];
        let (Flavor::MySql, version) = identify(&words)? else {
            return None;
        };
        let plugins = [root.join("usr/lib/mysql/plugin"), libraries.join("mysql/plugin")].into_iter().find(|folder| folder.is_dir());
        let mut base = vec![option("basedir", root.join("usr")), option("lc-messages-dir", root.join("usr/share/mysql"))];
        base.extend(plugins.map(|folder| option("plugin-dir", folder)));
        Some(Self { flavor: Flavor::MySql, version, path, words, base, installer: None, setpriv: find_setpriv() })
    }

    /// Which server it is.
    #[must_use]
    pub const fn flavor(&self) -> Flavor {
        self.flavor
    }

    /// Its version as it says it, such as `10.11.19-MariaDB-0+deb12u1` or `9.7.4-2`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where the program is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The folders of the `PATH`, then those an ordinary user's `PATH` lacks.
fn search_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    folders.retain(|folder| folder.is_absolute());
    folders.extend(["/usr/sbin", "/usr/libexec", "/usr/local/sbin", "/usr/bin"].map(PathBuf::from));
    folders
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The first program of one of these names that says it is the flavor.
fn find_installed(names: &[&str], flavor: Flavor) -> Result<(PathBuf, String), Error> {
    let folders = search_folders();
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .filter(|path| is_executable(path))
        .find_map(|path| match identify(&[path.clone().into()]) {
            Some((found, version)) if found == flavor => Some((path, version)),
            _ => None,
        })
        .ok_or(Error::NotInstalled { flavor })
}

/// What a program says it is.
fn identify(words: &[OsString]) -> Option<(Flavor, String)> {
    let (program, arguments) = words.split_first()?;
    let output = Command::new(program).args(arguments).args(["--no-defaults", "--version"]).stdin(Stdio::null()).output().ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout)).filter(|_| output.status.success())
}

/// Reads `mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))`.
fn parse_version(text: &str) -> Option<(Flavor, String)> {
    let mut words = text.split_whitespace().skip_while(|word| *word != "Ver");
    let version = words.nth(1)?.to_owned();
    let flavor = if text.contains("MariaDB") { Flavor::MariaDb } else { Flavor::MySql };
    Some((flavor, version))
}

/// `mariadb-install-db`, preferably the one that belongs to the server at `server`.
fn find_installer(server: &Path) -> Option<PathBuf> {
    let prefix = server.parent().and_then(Path::parent);
    let own = prefix.into_iter().flat_map(|prefix| [prefix.join("bin"), prefix.join("scripts")]);
    let folders: Vec<PathBuf> = own.chain(search_folders()).collect();
    ["mariadb-install-db", "mysql_install_db"]
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|path| is_executable(path))
}

/// `setpriv`, where it can do what we need of it: not every build of it has this option.
fn find_setpriv() -> Option<PathBuf> {
    search_folders().into_iter().map(|folder| folder.join("setpriv")).find(|path| {
        is_executable(path)
            && Command::new(path)
                .args(["--pdeathsig", "TERM", "--", "true"])
                .stdin(Stdio::null())
                .output()
                .is_ok_and(|output| output.status.success())
    })
}

/// The dynamic loader in `lib/<architecture>/`, and that folder.
fn find_loader(lib: &Path) -> Option<(PathBuf, PathBuf)> {
    fs::read_dir(lib).ok()?.flatten().find_map(|folder| {
        let folder = folder.path();
        let loader = fs::read_dir(&folder).ok()?.flatten().find(|file| {
            let name = file.file_name();
            let name = name.to_string_lossy();
            name.starts_with("ld-linux") && name.contains(".so")
        })?;
        Some((loader.path(), folder))
    })
}

/// `--name=value`, for a value that need not be UTF-8.
fn option(name: &str, value: impl AsRef<OsStr>) -> OsString {
    let mut argument = OsString::from(format!("--{name}="));
    argument.push(value);
    argument
}

/// How to run a server. The default is what most tests want: a temporary directory, a free port,
/// fast instead of durable, root without a password.
#[derive(Clone, Default)]
pub struct Options {
    /// Where to keep the data for the next time: an empty or new directory, or one this module
    /// filled. Without it the data is temporary.
    pub data_dir: Option<PathBuf>,
    /// The port on 127.0.0.1; without it a free one.
    pub port: Option<u16>,
    /// Whether a commit survives a crash of the server or the machine, as the servers ship. Without
    /// it nothing is ever synced to disk. There is no binary log either way; ask for one with
    /// `--log-bin` in `extra_args`.
    pub durable: bool,
    /// A folder with prepared data directories to copy, one for each server version: much faster
    /// than initialising. What it lacks is made, once, however many processes ask at the same time.
    pub seed: Option<PathBuf>,
    /// Root's password, in force before the server greets anybody, also in a directory that had
    /// another one. Without it root has none: only for tests, as every user of the machine can reach
    /// the port.
    pub root_password: Option<String>,
    /// Whom the server runs as when root starts it; root unless given. (Galera's rsync transfer
    /// refuses root, for one.) Nobody but root can choose. The user must be able to reach the
    /// directories and the program. Not to be given as `--user` in `extra_args`: the directories would
    /// not be the user's, and the kernel would forget to end the server with its owner.
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

/// A running server. Dropping it kills the server at once and removes what is temporary;
/// [`LocalServer::stop`] shuts it down properly.
#[derive(Debug)]
pub struct LocalServer {
    program: Program,
    options: Options,
    port: u16,
    // Dropped in this order: the server ends, then its directories go, then the lock.
    running: Option<Running>,
    place: Place,
}

impl LocalServer {
    /// Starts a server, after making or copying its data directory where that is needed. It is
    /// ready when this returns: it greets clients on its socket and its port.
    pub async fn start(program: &Program, options: Options) -> Result<Self, Error> {
        if let Some(password) = &options.root_password {
            check_password(password)?;
        }
        let place = {
            let (program, options) = (program.clone(), options.clone());
            tokio::task::spawn_blocking(move || Place::prepare(&program, &options))
                .await
                .map_err(io::Error::other)
                .doing(|| "preparing a data directory".to_owned())??
        };
        let mut server = Self { program: program.clone(), port: 0, options, running: None, place };
        let mut attempts = 1;
        loop {
            server.port = match server.options.port {
                Some(port) => port,
                None => free_port()?,
            };
            match server.launch().await {
                Err(Error::PortInUse(port)) if server.options.port.is_none() && attempts < PORT_ATTEMPTS => {
                    tracing::debug!(port, "somebody took the free port first, trying another");
                    attempts += 1;
                }
                Err(error) => return Err(error),
                Ok(()) => return Ok(server),
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
        let pid = self.running.as_ref()?.pid()?;
        u32::try_from(pid.as_raw_nonzero().get()).ok()
    }

    /// Which server it is.
    #[must_use]
    pub const fn flavor(&self) -> Flavor {
        self.program.flavor
    }

    /// Its version as it says it.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.program.version
    }

    /// Shuts the server down, as long as 20 seconds, then kills it. Removes what is temporary, so
    /// that it cannot be started again.
    pub async fn stop(&mut self) -> Result<(), Error> {
        self.halt().await;
        if let Some(temporary) = self.place.temporary.take() {
            let path = temporary.path().to_owned();
            tokio::task::spawn_blocking(move || temporary.close())
                .await
                .map_err(io::Error::other)
                .flatten()
                .doing(|| format!("removing {}", path.display()))?;
        }
        self.place.release();
        Ok(())
    }

    /// Shuts the server down like [`LocalServer::stop`], but keeps everything for
    /// [`LocalServer::restart`].
    pub async fn halt(&mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        running.signal(Signal::TERM);
        // A stopped process does nothing about it before it may go on.
        running.signal(Signal::CONT);
        if tokio::time::timeout(STOP_TIMEOUT, running.ended()).await.is_err() {
            tracing::warn!("the private server did not shut down in time and is killed");
            running.signal(Signal::KILL);
            running.ended().await;
        }
    }

    /// Kills the server as a crash would, and waits until it is gone. Its data stays as it is for
    /// [`LocalServer::restart`].
    pub async fn kill_hard(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.signal(Signal::KILL);
            running.ended().await;
        }
    }

    /// Freezes the server: connections stay open, nothing is answered.
    pub fn pause(&self) {
        if let Some(running) = &self.running {
            running.signal(Signal::STOP);
        }
    }

    /// Lets a paused server go on.
    pub fn resume(&self) {
        if let Some(running) = &self.running {
            running.signal(Signal::CONT);
        }
    }

    /// Starts the server again, on the same port and the same data; shuts it down first if it
    /// runs.
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
        if self.place.temporary.is_none() {
            return Err(Error::Stopped);
        }
        if !port_is_free(self.port) {
            return Err(Error::PortInUse(self.port));
        }
        let password = self.options.root_password.as_deref().unwrap_or_default();
        let statements = account_statements(self.program.flavor, password, &self.options);
        write_secret(&self.place.init_file, &statements)?;
        let user = match &self.options.user {
            Some(name) if geteuid().is_root() => {
                let user = User::find(name)?;
                self.place.hand_over(&user)?;
                Some(user)
            }
            _ => None,
        };
        let log_from = fs::metadata(&self.place.log).map_or(0, |meta| meta.len());
        let result = match Running::spawn(self.command(user.as_ref())?) {
            Ok(running) => {
                let running = self.running.insert(running);
                until_ready(running, &self.place, self.port, log_from).await
            }
            Err(error) => Err(error),
        };
        // The server has read it, and whoever reads the directory later need not.
        let removed = fs::remove_file(&self.place.init_file).doing(|| format!("removing {}", self.place.init_file.display()));
        let result = result.and(removed);
        if result.is_err() {
            self.running = None;
        }
        result
    }

    fn command(&self, user: Option<&User>) -> Result<Command, Error> {
        let place = &self.place;
        let mut command = self.program_command(user)?;
        command
            .args(common_arguments(&self.program, &self.options))
            .args(if user.is_none() { as_root() } else { None })
            .arg(option("datadir", &place.data))
            .arg(option("tmpdir", &place.tmp))
            .arg(option("socket", &place.socket))
            .arg(option("pid-file", &place.pid_file))
            .arg(option("log-error", &place.log))
            .arg(option("init-file", &place.init_file))
            .arg(format!("--port={}", self.port))
            .args(running_arguments(&self.program, &self.options))
            .args(&self.options.extra_args);

        let log = OpenOptions::new().create(true).append(true).open(&place.log).doing(|| format!("opening {}", place.log.display()))?;
        if let Some(user) = user {
            fchown(&log, Some(user.uid), Some(user.gid)).doing(|| format!("changing the owner of {}", place.log.display()))?;
        }
        // What it says before it has opened its log belongs there too.
        let errors = log.try_clone().doing(|| "sharing the error log".to_owned())?;
        command.stdout(log).stderr(errors);
        // As long as it lives it holds the lock.
        match &place.server_lock {
            Some(lock) => command.stdin(lock.try_clone().doing(|| "sharing the directory's lock".to_owned())?),
            None => command.stdin(Stdio::null()),
        };
        // A terminal's Ctrl-C is for the owner, who then stops the server in its turn.
        command.process_group(0);
        // This is not the service that somebody waits for.
        command.env_remove("NOTIFY_SOCKET");
        Ok(command)
    }

    /// The program, as the user and tied to this process's life, where the system can do that.
    fn program_command(&self, user: Option<&User>) -> Result<Command, Error> {
        let mut words: Vec<OsString> = Vec::new();
        match (&self.program.setpriv, user) {
            (Some(setpriv), user) => {
                words.push(setpriv.into());
                if let Some(user) = user {
                    words.push(format!("--reuid={}", user.uid).into());
                    words.push(format!("--regid={}", user.gid).into());
                    words.push("--init-groups".into());
                }
                // Data to keep is worth a shutdown. Temporary data is not, and a kill ends even a
                // paused server.
                let signal = if self.options.data_dir.is_some() { "TERM" } else { "KILL" };
                words.extend(["--pdeathsig", signal, "--"].map(OsString::from));
            }
            (None, Some(_)) => {
                return Err(io::Error::from(io::ErrorKind::NotFound))
                    .doing(|| "running the server as another user needs setpriv".to_owned());
            }
            (None, None) => {}
        }
        if self.place.server_lock.is_some() {
            words.extend(KEEP_LOCK.map(OsString::from));
        }
        words.extend(self.program.words.iter().cloned());
        Ok(command_of(words, &self.program.path))
    }
}

/// The command these words make, the first of them the program; without any, the program alone.
fn command_of(words: Vec<OsString>, program: &Path) -> Command {
    let mut words = words.into_iter();
    let mut command = Command::new(words.next().unwrap_or_else(|| program.into()));
    command.args(words);
    command
}

/// Another user of the machine.
#[derive(Debug)]
struct User {
    uid: u32,
    gid: u32,
}

impl User {
    fn find(name: &str) -> Result<Self, Error> {
        let ask = |what: &str| {
            let output = Command::new("id").args([what, "--", name]).output()?;
            String::from_utf8_lossy(&output.stdout).trim().parse().map_err(|_| io::Error::new(io::ErrorKind::NotFound, "no such user"))
        };
        ask("-u").and_then(|uid| Ok(Self { uid, gid: ask("-g")? })).doing(|| format!("looking for the user {name}"))
    }

    /// Gives the user a file or a directory, and what is in it.
    fn give(&self, path: &Path) -> io::Result<()> {
        lchown(path, Some(self.uid), Some(self.gid))?;
        if fs::symlink_metadata(path)?.is_dir() {
            for entry in fs::read_dir(path)? {
                self.give(&entry?.path())?;
            }
        }
        Ok(())
    }
}

/// Arguments for initialising and for running.
fn common_arguments(program: &Program, options: &Options) -> Vec<OsString> {
    // `loose`: versions come and go that do not know one, and none of them is essential.
    let mut arguments: Vec<OsString> = vec!["--no-defaults".into()];
    arguments.extend(program.base.iter().cloned());
    arguments.push("--innodb-buffer-pool-size=64M".into());
    match program.flavor {
        Flavor::MariaDb => arguments.push("--innodb-log-file-size=8M".into()),
        Flavor::MySql => {
            arguments.push("--loose-innodb-redo-log-capacity=8M".into());
            // The folder compiled in need not exist, and then it would not start.
            arguments.push("--secure-file-priv=NULL".into());
        }
    }
    if !options.durable {
        arguments.push("--loose-innodb-flush-method=nosync".into());
        arguments.push("--innodb-doublewrite=OFF".into());
    }
    arguments
}

/// What lets the servers run as root, which they refuse otherwise.
fn as_root() -> Option<&'static str> {
    geteuid().is_root().then_some("--user=root")
}

/// Arguments for running only.
fn running_arguments(program: &Program, options: &Options) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec![
        "--bind-address=127.0.0.1".into(),
        "--skip-name-resolve".into(),
        "--max-connections=500".into(),
        format!("--innodb-flush-log-at-trx-commit={}", u8::from(options.durable)).into(),
    ];
    if program.flavor == Flavor::MySql {
        // It would listen on port 33060 too.
        arguments.push("--loose-mysqlx=OFF".into());
        arguments.push("--performance-schema=OFF".into());
        // MariaDB has no binary log unless it is asked for one.
        arguments.push("--skip-log-bin".into());
    }
    arguments
}

/// The accounts, as the server shall have them before it greets anybody: root with the password,
/// by TCP and by the socket, and nobody else without one.
fn account_statements(flavor: Flavor, password: &str, options: &Options) -> String {
    let mut statements = String::new();
    if options.extra_args.iter().any(|arg| arg.starts_with("--wsrep")) {
        // Each node sets its own accounts: at this point it cannot speak to the cluster.
        statements.push_str("SET SESSION wsrep_on = OFF;\n");
    }
    statements.push_str("SET SESSION sql_log_bin = 0;\n");
    for host in ["localhost", "127.0.0.1"] {
        let account = format!("'root'@'{host}'");
        statements.push_str(&format!(
            "CREATE USER IF NOT EXISTS {account} IDENTIFIED BY '{password}';\n\
             ALTER USER {account} IDENTIFIED BY '{password}';\n\
             GRANT ALL PRIVILEGES ON *.* TO {account} WITH GRANT OPTION;\n"
        ));
    }
    if flavor == Flavor::MariaDb {
        // mariadb-install-db made some for the machine's other names, without a password.
        statements.push_str(
            "DELETE FROM mysql.global_priv WHERE User = 'root' \
             AND Host NOT IN ('localhost', '127.0.0.1') \
             AND COALESCE(JSON_VALUE(Priv, '$.authentication_string'), '') = '';\n\
             FLUSH PRIVILEGES;\n",
        );
    }
    statements
}

/// Whether a password can stand between quotes whatever the SQL mode says of backslashes.
fn check_password(password: &str) -> Result<(), Error> {
    let good = |byte: u8| (b' '..=b'~').contains(&byte) && !matches!(byte, b'\'' | b'"' | b'\\');
    if password.bytes().all(good) { Ok(()) } else { Err(Error::Password) }
}

/// Where a server lives: its directories, and the claim to them.
#[derive(Debug)]
struct Place {
    data: PathBuf,
    log: PathBuf,
    tmp: PathBuf,
    socket: PathBuf,
    pid_file: PathBuf,
    init_file: PathBuf,
    /// Everything of a temporary server; of one whose data is kept only what lives as long as the
    /// process, as the path to a kept directory may be too long for a socket.
    temporary: Option<TempDir>,
    /// What the server holds too.
    server_lock: Option<File>,
    /// What only we hold: the kept directory, and the temporary one against its removal as a
    /// leftover.
    owner_locks: Vec<File>,
}

impl Place {
    /// Claims the directory and makes sure there is a data directory in it. Blocks: it may
    /// initialise one, which takes seconds.
    fn prepare(program: &Program, options: &Options) -> Result<Self, Error> {
        remove_leftovers();
        let temporary = temporary_directory()?;
        let run = temporary.path().to_owned();
        let tmp = run.join("tmp");
        fs::create_dir(&tmp).doing(|| format!("creating {}", tmp.display()))?;
        let run_lock = open_lock(&run.join(LOCK_FILE))?;
        // Nobody knows of it yet.
        run_lock.try_lock().map_err(io::Error::from).doing(|| format!("locking {}", run.display()))?;

        let mut owner_locks = vec![run_lock];
        let (home, server_lock) = match &options.data_dir {
            Some(dir) => {
                let (home, owner_lock, server_lock) = claim(dir)?;
                owner_locks.push(owner_lock);
                (home, Some(server_lock))
            }
            None => (run.clone(), None),
        };
        let place = Self {
            data: home.join("data"),
            log: home.join("error.log"),
            tmp,
            socket: run.join(SOCKET_FILE),
            pid_file: run.join("pid"),
            init_file: run.join("init.sql"),
            temporary: Some(temporary),
            server_lock,
            owner_locks,
        };
        if place.data.exists() {
            check_flavor(&place.data, program.flavor)?;
        } else {
            place.fill(program, options)?;
        }
        // One log for each start, and the one before.
        match fs::rename(&place.log, home.join("error.log.1")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).doing(|| format!("renaming {}", place.log.display()))?;
            }
            _ => {}
        }
        Ok(place)
    }

    /// Gives the user what the server writes and reads, and the way there; not our locks.
    fn hand_over(&self, user: &User) -> Result<(), Error> {
        for path in [&self.data, &self.tmp, &self.init_file] {
            user.give(path).doing(|| format!("changing the owner of {}", path.display()))?;
        }
        for folder in [self.data.parent(), self.socket.parent()].into_iter().flatten() {
            lchown(folder, Some(user.uid), Some(user.gid)).doing(|| format!("changing the owner of {}", folder.display()))?;
        }
        Ok(())
    }

    /// Lets others have the directory.
    fn release(&mut self) {
        self.server_lock = None;
        self.owner_locks.clear();
    }

    /// Makes the data directory beside its place and renames it into it: what has the name is
    /// complete, whatever was interrupted before.
    fn fill(&self, program: &Program, options: &Options) -> Result<(), Error> {
        let new = self.data.with_extension("new");
        remove_if_there(&new)?;
        match &options.seed {
            Some(seeds) => {
                let name = format!("{}-{}-{SEED_FORMAT}", program.flavor.word(), program.version);
                copy_seed(program, &seeds.join(name), &new, &self.tmp)?;
            }
            None => initialise(program, options, &new, &self.tmp, self.server_lock.as_ref())?,
        }
        fs::rename(&new, &self.data).doing(|| format!("renaming {}", new.display()))
    }
}

/// A new directory of our own whose path leaves room for a socket's name.
fn temporary_directory() -> Result<TempDir, Error> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMP_PREFIX);
    let usual = std::env::temp_dir();
    // The random part of the name has six characters.
    let longest = usual.as_os_str().len() + TEMP_PREFIX.len() + SOCKET_FILE.len() + 8;
    let parent = if usual.is_absolute() && longest <= SOCKET_PATH_MAX { usual } else { PathBuf::from("/tmp") };
    builder.tempdir_in(&parent).doing(|| format!("creating a directory in {}", parent.display()))
}

/// Removes temporary directories whose owner was killed: those of ours whose lock nobody holds.
/// Their servers are killed with it, so nobody misses them.
/// Failing is no reason not to start.
fn remove_leftovers() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(TEMP_PREFIX) {
            continue;
        }
        let path = entry.path();
        let old_and_ours = fs::symlink_metadata(path.join(LOCK_FILE)).is_ok_and(|meta| {
            // One that is new may be about to be locked.
            let old = meta.modified().is_ok_and(|time| time.elapsed().is_ok_and(|age| age.as_secs() > 60));
            old && meta.is_file() && meta.uid() == geteuid().as_raw()
        });
        if !old_and_ours {
            continue;
        }
        let Ok(lock) = File::open(path.join(LOCK_FILE)) else {
            continue;
        };
        if lock.try_lock().is_ok() {
            tracing::debug!(path = %path.display(), "removing what a killed process left");
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Opens a lock file, making it if need be.
fn open_lock(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .doing(|| format!("opening {}", path.display()))
}

/// Takes possession of a directory to keep data in: returns its full path, its owner's lock and its
/// server's.
fn claim(dir: &Path) -> Result<(PathBuf, File, File), Error> {
    if !dir.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).doing(|| format!("creating {}", dir.display()))?;
    }
    let dir = fs::canonicalize(dir).doing(|| format!("finding {}", dir.display()))?;
    let mut entries = fs::read_dir(&dir).doing(|| format!("reading {}", dir.display()))?;
    // The lock file is the first thing ever made in a directory of ours.
    if !dir.join(LOCK_FILE).exists() && entries.next().is_some() {
        return Err(Error::NotEmpty { dir });
    }
    let mut lock = open_lock(&dir.join(LOCK_FILE))?;
    // A process that is just being started from this one has a copy for an instant.
    if !lock_within(&lock, Duration::from_millis(200))? {
        let owner = match read_pid(&mut lock) {
            Some(pid) => format!("process {pid}"),
            None => "another process".to_owned(),
        };
        return Err(Error::InUse { dir, owner });
    }
    let pid = std::process::id();
    lock.set_len(0)
        .and_then(|()| lock.seek(SeekFrom::Start(0)))
        .and_then(|_| writeln!(lock, "{pid}"))
        .doing(|| format!("writing the lock of {}", dir.display()))?;
    // Where the last owner was killed, its server may still be shutting down.
    let server_lock = open_lock(&dir.join(SERVER_LOCK_FILE))?;
    if !lock_within(&server_lock, ORPHAN_TIMEOUT)? {
        let owner = "a server that outlived its owner".to_owned();
        return Err(Error::InUse { dir, owner });
    }
    Ok((dir, lock, server_lock))
}

/// Whether the lock could be had in that time.
fn lock_within(lock: &File, time: Duration) -> Result<bool, Error> {
    let give_up = Instant::now() + time;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => {
                return Err(error).doing(|| "locking a directory".to_owned());
            }
            Err(TryLockError::WouldBlock) if Instant::now() > give_up => return Ok(false),
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// The process that wrote itself into a lock file.
fn read_pid(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.seek(SeekFrom::Start(0)).ok()?;
    lock.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Whose data it is: neither server can use, nor always recognise, the other's.
fn check_flavor(data: &Path, wanted: Flavor) -> Result<(), Error> {
    let path = data.join(FLAVOR_FILE);
    let found = fs::read_to_string(&path).doing(|| format!("reading {}", path.display()))?;
    if found.split_whitespace().next() == Some(wanted.word()) {
        Ok(())
    } else {
        Err(Error::OtherFlavor { dir: data.to_owned(), found: found.trim().to_owned(), wanted })
    }
}

/// Copies the seed at `seed` to `new`, making the seed first if it is not there.
fn copy_seed(program: &Program, seed: &Path, new: &Path, tmp: &Path) -> Result<(), Error> {
    if !seed.exists() {
        let parent = seed.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent).doing(|| format!("creating {}", parent.display()))?;
        let beside = |ending: &str| {
            let mut name = seed.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        let (unfinished, lock_path) = (beside(".new"), beside(".lock"));
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .doing(|| format!("opening {}", lock_path.display()))?;
        // All but the first wait here, and find the seed made.
        lock.lock().doing(|| format!("locking {}", lock_path.display()))?;
        if !seed.exists() {
            remove_if_there(&unfinished)?;
            // It holds the lock too: were we killed, the next one waits for it to end before it
            // removes the directory under it.
            initialise(program, &Options::default(), &unfinished, tmp, Some(&lock))?;
            fs::rename(&unfinished, seed).doing(|| format!("renaming {}", unfinished.display()))?;
        }
    }
    copy_directory(seed, new).doing(|| format!("copying {} to {}", seed.display(), new.display()))
}

fn copy_directory(from: &Path, to: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Makes a new data directory, with a root that has no password: nothing listens yet, and every
/// start sets the password first.
fn initialise(program: &Program, options: &Options, data: &Path, tmp: &Path, lock: Option<&File>) -> Result<(), Error> {
    let began = Instant::now();
    // The servers want one that is theirs, and MySQL one that is empty.
    DirBuilder::new().mode(0o700).create(data).doing(|| format!("creating {}", data.display()))?;
    let mut words: Vec<OsString> = Vec::new();
    if lock.is_some() {
        words.extend(KEEP_LOCK.map(OsString::from));
    }
    let path = program.installer.as_ref().unwrap_or(&program.path);
    match &program.installer {
        Some(installer) => words.push(installer.into()),
        None => words.extend(program.words.iter().cloned()),
    }
    let mut command = command_of(words, path);
    command.args(common_arguments(program, options)).args(as_root()).arg(option("datadir", data)).arg(option("tmpdir", tmp));
    match program.flavor {
        Flavor::MariaDb => command.args(["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]),
        Flavor::MySql => command.arg("--initialize-insecure"),
    };
    match lock {
        Some(lock) => command.stdin(lock.try_clone().doing(|| "sharing a lock".to_owned())?),
        None => command.stdin(Stdio::null()),
    };
    command.process_group(0).env_remove("NOTIFY_SOCKET");
    let output = command.output().doing(|| format!("running {}", path.display()))?;
    if !output.status.success() {
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        return Err(Error::Initialise { program: path.clone(), status: output.status, output: last_lines(&said, 20) });
    }
    // MySQL's name for this very server: a copy is another one.
    match fs::remove_file(data.join("auto.cnf")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).doing(|| "removing auto.cnf".to_owned())?;
        }
        _ => {}
    }
    let flavor = format!("{} {}\n", program.flavor.word(), program.version);
    fs::write(data.join(FLAVOR_FILE), flavor).doing(|| format!("writing to {}", data.display()))?;
    tracing::debug!(data = %data.display(), took = ?began.elapsed(), "initialised a data directory");
    Ok(())
}

fn remove_if_there(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).doing(|| format!("removing {}", dir.display())),
        _ => Ok(()),
    }
}

/// Writes a file only we can read.
fn write_secret(path: &Path, text: &str) -> Result<(), Error> {
    // One left by a start that failed may be there.
    let _ = fs::remove_file(path);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .doing(|| format!("writing {}", path.display()))
}

/// A port nobody listens on at this moment.
fn free_port() -> Result<u16, Error> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .doing(|| "looking for a free port".to_owned())
}

fn port_is_free(port: u16) -> bool {
    !matches!(
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse
    )
}

/// Waits for a greeting on the server's socket and then its port.
async fn until_ready(running: &mut Running, place: &Place, port: u16, log_from: u64) -> Result<(), Error> {
    let began = Instant::now();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut look_at_log = began + Duration::from_secs(1);
    loop {
        if let Some(status) = running.status() {
            let log = read_log(&place.log, log_from);
            if log.contains("Address already in use") {
                return Err(Error::PortInUse(port));
            }
            return Err(Error::Exited { status, log: last_lines(&log, 20) });
        }
        // The socket is in a directory of our own, so who greets there is our server; on the port
        // it could be another one that was faster.
        if greets(UnixStream::connect(&place.socket)).await && greets(TcpStream::connect(address)).await {
            tracing::debug!(port, took = ?began.elapsed(), "the private server is ready");
            return Ok(());
        }
        if Instant::now() > look_at_log {
            let log = read_log(&place.log, log_from);
            // They would try again for minutes.
            if log.contains("Unable to lock ./ibdata1") || log.contains("Can't lock aria control") {
                return Err(Error::InUse { dir: place.data.clone(), owner: "a server that was not started by cf-mysql-broker".to_owned() });
            }
            if began.elapsed() > READY_TIMEOUT {
                return Err(Error::NotReady { log: last_lines(&log, 20) });
            }
            look_at_log += Duration::from_secs(1);
        }
        let _ = tokio::time::timeout(Duration::from_millis(10), running.ended()).await;
    }
}

/// Whether whoever listens there begins with a greeting of protocol version 10.
async fn greets<S: AsyncRead + Unpin>(connect: impl Future<Output = io::Result<S>>) -> bool {
    let greeting = async {
        // Three bytes of length, one of sequence, one of version.
        let mut start = [0; 5];
        connect.await?.read_exact(&mut start).await?;
        io::Result::Ok(start[4] == 10)
    };
    // Between listening and accepting it may set the accounts: that is worth waiting for.
    matches!(tokio::time::timeout(Duration::from_secs(2), greeting).await, Ok(Ok(true)))
}

/// What the log says since `from`; only the end of it when that is much.
fn read_log(path: &Path, from: u64) -> String {
    const MOST: u64 = 64 * 1024;
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(length.saturating_sub(MOST))))?;
        file.read_to_end(&mut bytes)
    });
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("({} cannot be read: {error})", path.display()),
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let mut lines = VecDeque::with_capacity(count);
    for line in text.lines() {
        if lines.len() == count {
            lines.pop_front();
        }
        lines.push_back(line);
    }
    Vec::from(lines).join("\n")
}

/// A server process and the thread that keeps it.
#[derive(Debug)]
struct Running {
    /// The process while it can be signalled: emptied before the process is reaped, so that a
    /// signal can never reach another process that got its number.
    pid: Arc<Mutex<Option<Pid>>>,
    /// How it ended, once it has.
    ended: watch::Receiver<Option<String>>,
    keeper: JoinHandle<()>,
}

impl Running {
    /// Starts the process from a thread that does nothing else and ends after it: the kernel sends
    /// the parent-death signal when the thread that started a process ends.
    fn spawn(mut command: Command) -> Result<Self, Error> {
        let pid = Arc::new(Mutex::new(None));
        let (tell_ended, ended) = watch::channel(None);
        let (tell_started, started) = mpsc::channel();
        let shared = Arc::clone(&pid);
        let keeper = thread::Builder::new()
            .name("local-server".to_owned())
            .spawn(move || {
                let mut child = match command.spawn() {
                    Ok(child) => child,
                    Err(error) => {
                        let _ = tell_started.send(Err(error));
                        return;
                    }
                };
                // Closes our copies of what only the server shall hold.
                drop(command);
                let pid = Pid::from_child(&child);
                *lock(&shared) = Some(pid);
                let _ = tell_started.send(Ok(()));
                let wait = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
                while matches!(waitid(WaitId::Pid(pid), wait), Err(Errno::INTR)) {}
                let mut guard = lock(&shared);
                *guard = None;
                let status = child.wait();
                drop(guard);
                tell_ended.send_replace(Some(match status {
                    Ok(status) => status.to_string(),
                    Err(error) => error.to_string(),
                }));
            })
            .doing(|| "starting a thread".to_owned())?;
        // Starting a process takes about a millisecond; and as nothing is awaited, a caller that
        // gives up cannot lose the process here.
        match started.recv() {
            Ok(Ok(())) => Ok(Self { pid, ended, keeper }),
            Ok(Err(error)) => Err(error),
            Err(error) => Err(io::Error::other(error)),
        }
        .doing(|| "starting the server".to_owned())
    }

    fn pid(&self) -> Option<Pid> {
        *lock(&self.pid)
    }

    fn signal(&self, signal: Signal) {
        let guard = lock(&self.pid);
        if let Some(pid) = *guard
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::debug!(%error, ?signal, "could not signal the private server");
        }
    }

    /// How it ended, if it has.
    fn status(&self) -> Option<String> {
        self.ended.borrow().clone()
    }

    async fn ended(&mut self) {
        // An error means that the keeper is gone, and so is the process.
        let _ = self.ended.wait_for(Option::is_some).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        // A killed process is gone in milliseconds; one that waits for a dead disk is left to it.
        let give_up = Instant::now() + Duration::from_secs(5);
        while !self.keeper.is_finished() && Instant::now() < give_up {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Nothing panics while it holds one of these locks, so a poisoned one is as good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_version_tells_the_flavor() {
        assert_eq!(
            parse_version("mysqld  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)"),
            Some((Flavor::MariaDb, "10.11.19-MariaDB-0+deb12u1".to_owned()))
        );
        assert_eq!(
            parse_version("/r/usr/sbin/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))"),
            Some((Flavor::MySql, "9.7.4-2".to_owned()))
        );
        assert_eq!(parse_version("something else"), None);
        assert_eq!(parse_version("Ver"), None);
    }

    #[test]
    fn a_password_is_safe_between_quotes_or_refused() {
        assert!(check_password("correct horse; battery -- staple #1").is_ok());
        for bad in ["it's", "a\"b", "a\\", "line\nbreak", "ü", "\0"] {
            assert!(matches!(check_password(bad), Err(Error::Password)), "{bad:?}");
        }
    }

    #[test]
    fn options_do_not_show_the_password() {
        let options = Options { root_password: Some("geheim".to_owned()), ..Options::default() };
        assert!(!format!("{options:?}").contains("geheim"));
    }

    #[test]
    fn a_cluster_node_sets_its_accounts_alone() {
        let mut options = Options::default();
        let plain = account_statements(Flavor::MariaDb, "", &options);
        assert!(!plain.contains("wsrep"));
        options.extra_args = vec!["--wsrep-on=ON".to_owned()];
        let node = account_statements(Flavor::MariaDb, "", &options);
        assert!(node.starts_with("SET SESSION wsrep_on = OFF;\n"));
    }

    #[test]
    fn the_last_lines_are_the_last() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a", 2), "a");
        assert_eq!(last_lines("", 2), "");
    }

    #[test]
    fn a_directory_of_somebody_else_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("ibdata1"), "").expect("a file");
        assert!(matches!(claim(dir.path()), Err(Error::NotEmpty { .. })));
    }

    #[test]
    fn a_claimed_directory_is_refused_and_names_its_owner() {
        let dir = tempfile::tempdir().expect("a directory");
        let held = claim(dir.path()).expect("an empty directory");
        match claim(dir.path()) {
            Err(Error::InUse { owner, .. }) => {
                assert_eq!(owner, format!("process {}", std::process::id()));
            }
            other => panic!("{other:?}"),
        }
        drop(held);
        claim(dir.path()).expect("it is free again");
    }

    #[test]
    fn the_error_says_what_to_install() {
        let error = Error::NotInstalled { flavor: Flavor::MariaDb };
        assert!(error.to_string().contains("apt-get install mariadb-server"));
    }
}
