//! Finding a server on this machine.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::Error;

/// The environment variable that names a folder of unpacked MySQL packages, as `scripts/install-mysql` makes it. It is preferred
/// to an installed MySQL.
pub const MYSQL_ROOT_VARIABLE: &str = "CF_MYSQL_BROKER_MYSQL_ROOT";

/// Which of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavor {
    /// MariaDB.
    MariaDb,
    /// Oracle's MySQL.
    MySql,
}

impl Flavor {
    /// For names of files.
    pub(super) const fn word(self) -> &'static str {
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

/// A server program found on this machine.
#[derive(Clone, Debug)]
pub struct Program {
    flavor: Flavor,
    version: String,
    path: PathBuf,
    /// The folder its packages are unpacked in, if they are not installed.
    unpacked: Option<Unpacked>,
    /// `mariadb-install-db`; MySQL initialises itself.
    installer: Option<PathBuf>,
    /// What ties a server's life to its owner's, where there is such a thing.
    setpriv: Option<PathBuf>,
}

impl Program {
    /// Finds a server: on the `PATH` and where distributions put servers, and an unpacked MySQL where [`MYSQL_ROOT_VARIABLE`]
    /// says. Without a wish it is MariaDB if there is one, otherwise MySQL.
    ///
    /// Runs what it finds with `--version`, a few milliseconds each: Debian's MariaDB has a `mysqld` too, so a name proves
    /// nothing.
    ///
    /// # Errors
    /// Those that [are missing](Error::is_missing).
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
        let found = Self::find_installed(&["mariadbd", "mysqld"], Flavor::MariaDb)?;
        let installer = find_installer(&found.path).ok_or(Error::NoInstaller)?;
        Ok(Self { installer: Some(installer), ..found })
    }

    fn find_mysql() -> Result<Self, Error> {
        match std::env::var_os(MYSQL_ROOT_VARIABLE).filter(|root| !root.is_empty()) {
            Some(root) => {
                let root = PathBuf::from(root);
                Self::find_unpacked(&root).ok_or(Error::MySqlRoot { root })
            }
            None => Self::find_installed(&["mysqld"], Flavor::MySql),
        }
    }

    /// The first program of one of these names that says it is the flavor.
    fn find_installed(names: &[&str], flavor: Flavor) -> Result<Self, Error> {
        executables(names, &search_folders())
            .find_map(|path| Self::identify(path, None).filter(|found| found.flavor == flavor))
            .ok_or(Error::NotInstalled { flavor })
    }

    fn find_unpacked(root: &Path) -> Option<Self> {
        let root = fs::canonicalize(root).ok()?;
        let (loader, libraries) = find_loader(&root.join("usr/lib"))?;
        let path = root.join("usr/sbin/mysqld");
        Self::identify(path, Some(Unpacked { root, loader, libraries })).filter(|found| found.flavor == Flavor::MySql)
    }

    /// What a program says it is.
    fn identify(path: PathBuf, unpacked: Option<Unpacked>) -> Option<Self> {
        let output = command(&path, unpacked.as_ref()).args(["--no-defaults", "--version"]).stdin(Stdio::null()).output().ok()?;
        let (flavor, version) = parse_version(&String::from_utf8_lossy(&output.stdout)).filter(|_| output.status.success())?;
        Some(Self { flavor, version, path, unpacked, installer: None, setpriv: find_setpriv() })
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

    pub(super) fn installer(&self) -> Option<&Path> {
        self.installer.as_deref()
    }

    pub(super) fn setpriv(&self) -> Option<&Path> {
        self.setpriv.as_deref()
    }

    /// What runs it.
    pub(super) fn command(&self) -> Command {
        command(&self.path, self.unpacked.as_ref())
    }

    /// Arguments of every run: where an unpacked server finds its parts.
    pub(super) fn own_arguments(&self) -> Vec<OsString> {
        self.unpacked.as_ref().map(Unpacked::arguments).unwrap_or_default()
    }
}

/// Unpacked packages run by their own loader, with their own libraries: the machine's may be older than what they were built
/// for.
#[derive(Clone, Debug)]
struct Unpacked {
    root: PathBuf,
    loader: PathBuf,
    libraries: PathBuf,
}

impl Unpacked {
    fn arguments(&self) -> Vec<OsString> {
        let usr = self.root.join("usr");
        let plugins = [usr.join("lib/mysql/plugin"), self.libraries.join("mysql/plugin")].into_iter().find(|folder| folder.is_dir());
        let mut arguments = vec![option("basedir", &usr), option("lc-messages-dir", usr.join("share/mysql"))];
        arguments.extend(plugins.map(|folder| option("plugin-dir", folder)));
        arguments
    }
}

fn command(path: &Path, unpacked: Option<&Unpacked>) -> Command {
    match unpacked {
        Some(unpacked) => {
            let mut command = Command::new(&unpacked.loader);
            command.arg("--library-path").arg(&unpacked.libraries).arg(path);
            command
        }
        None => Command::new(path),
    }
}

/// `--name=value`, for a value that need not be UTF-8.
pub(super) fn option(name: &str, value: impl AsRef<OsStr>) -> OsString {
    let mut argument = OsString::from(format!("--{name}="));
    argument.push(value);
    argument
}

/// Reads `mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))`.
fn parse_version(text: &str) -> Option<(Flavor, String)> {
    let mut words = text.split_whitespace().skip_while(|word| *word != "Ver");
    let version = words.nth(1)?.to_owned();
    let flavor = if text.contains("MariaDB") { Flavor::MariaDb } else { Flavor::MySql };
    Some((flavor, version))
}

/// The folders of the `PATH`, then those an ordinary user's `PATH` lacks.
fn search_folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
    folders.extend(["/usr/sbin", "/usr/libexec", "/usr/local/sbin", "/usr/bin"].map(PathBuf::from));
    folders
}

/// The programs of these names in these folders; the first name matters most.
fn executables(names: &[&str], folders: &[PathBuf]) -> impl Iterator<Item = PathBuf> {
    let executable = |path: &PathBuf| path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).filter(executable)
}

/// `mariadb-install-db`, preferably the one that belongs to the server at `server`.
fn find_installer(server: &Path) -> Option<PathBuf> {
    let mut folders = search_folders();
    if let Some(prefix) = server.parent().and_then(Path::parent) {
        folders.splice(..0, [prefix.join("bin"), prefix.join("scripts")]);
    }
    executables(&["mariadb-install-db", "mysql_install_db"], &folders).next()
}

/// `setpriv`, where it can do what we need of it: not every build of it has this option.
fn find_setpriv() -> Option<PathBuf> {
    executables(&["setpriv"], &search_folders()).find(|path| {
        let tried = Command::new(path).args(["--pdeathsig", "TERM", "--", "true"]).stdin(Stdio::null()).output();
        tried.is_ok_and(|output| output.status.success())
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

#[cfg(test)]
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
}
