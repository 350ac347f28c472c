//! Where a server lives: its directories, the claim to them, and what killed processes left there.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::geteuid;
use tempfile::TempDir;

use super::Options;
use super::error::{Doing as _, Error, if_there};
use super::initialise::{check_flavor, initialise, remove_unfinished};
use super::lock;
use super::program::Program;
use super::seed;
use super::user::User;

/// How long to wait for the server of a killed owner to let go of its data.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(25);
/// `sockaddr_un` has 108 bytes, the last of them a NUL; the servers refuse a longer path.
const SOCKET_PATH_MAX: usize = 107;
/// How the temporary directories are named: short, for the socket in them.
const TEMP_PREFIX: &str = "cfmb-";
const SOCKET_FILE: &str = "s.sock";
const LOCK_FILE: &str = "cf-mysql-broker.lock";
/// Held by the server itself, beside [`LOCK_FILE`], which is its owner's.
const SERVER_LOCK_FILE: &str = "cf-mysql-broker.server.lock";

#[derive(Debug)]
pub(super) struct Place {
    pub(super) data: PathBuf,
    pub(super) log: PathBuf,
    pub(super) tmp: PathBuf,
    pub(super) socket: PathBuf,
    pub(super) pid_file: PathBuf,
    pub(super) init_file: PathBuf,
    /// Until the server is stopped for good.
    pub(super) claim: Option<Claim>,
}

/// What makes the place ours. Dropped in this order: the directory goes, then the locks.
#[derive(Debug)]
pub(super) struct Claim {
    /// Everything of a temporary server; of one whose data is kept only what lives as long as the process, as the path to a kept
    /// directory may be too long for a socket.
    temporary: TempDir,
    /// Against the removal of the temporary directory as a leftover.
    _temporary_lock: File,
    /// The directory that is kept, if there is one.
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Kept {
    dir: PathBuf,
    /// What only we hold.
    _owner_lock: File,
    /// What the server holds too.
    server_lock: File,
}

impl Claim {
    /// What the server shall hold as long as it lives.
    pub(super) fn server_lock(&self) -> Option<&File> {
        self.kept.as_ref().map(|kept| &kept.server_lock)
    }

    /// Removes what is temporary and lets others have the directory. Blocks.
    pub(super) fn release(self) -> Result<(), Error> {
        let path = self.temporary.path().to_owned();
        self.temporary.close().doing(|| format!("removing {}", path.display()))
    }
}

impl Place {
    /// Claims the directory and makes sure there is a data directory in it. Blocks: it may initialise one, which takes seconds.
    pub(super) fn prepare(program: &Program, options: &Options) -> Result<Self, Error> {
        remove_leftovers();
        let temporary = temporary_directory()?;
        let run = temporary.path().to_owned();
        let tmp = run.join("tmp");
        fs::create_dir(&tmp).doing(|| format!("creating {}", tmp.display()))?;
        let temporary_lock = lock::open(&run.join(LOCK_FILE))?;
        // Nobody knows of it yet.
        temporary_lock.try_lock().map_err(io::Error::from).doing(|| format!("locking {}", run.display()))?;
        let kept = options.data_dir.as_deref().map(Kept::claim).transpose()?;
        let claim = Claim { temporary, _temporary_lock: temporary_lock, kept };

        let home = claim.kept.as_ref().map_or(&run, |kept| &kept.dir);
        let (data, log) = (home.join("data"), home.join("error.log"));
        if data.exists() {
            check_flavor(&data, program.flavor())?;
        } else {
            fill(&data, &tmp, program, options, claim.server_lock())?;
        }
        // One log for each start, and the one before.
        if_there(fs::rename(&log, home.join("error.log.1"))).doing(|| format!("renaming {}", log.display()))?;
        Ok(Self {
            data,
            log,
            tmp,
            socket: run.join(SOCKET_FILE),
            pid_file: run.join("pid"),
            init_file: run.join("init.sql"),
            claim: Some(claim),
        })
    }

    /// Gives the user what the server writes and reads, and the way there; not our locks.
    pub(super) fn hand_over(&self, user: &User) -> Result<(), Error> {
        for path in [&self.data, &self.tmp, &self.init_file, &self.log] {
            user.give(path)?;
        }
        for folder in [self.data.parent(), self.socket.parent()].into_iter().flatten() {
            user.give_alone(folder)?;
        }
        Ok(())
    }
}

/// Makes the data directory beside its place and renames it into it: what has the name is complete, whatever was interrupted
/// before.
fn fill(data: &Path, tmp: &Path, program: &Program, options: &Options, server_lock: Option<&File>) -> Result<(), Error> {
    let new = data.with_extension("new");
    remove_unfinished(&new)?;
    match &options.seed {
        Some(seeds) => seed::copy(program, seeds, &new, tmp)?,
        None => initialise(program, options.durable, &new, tmp, server_lock)?,
    }
    fs::rename(&new, data).doing(|| format!("renaming {}", new.display()))
}

impl Kept {
    /// Takes possession of a directory to keep data in.
    fn claim(dir: &Path) -> Result<Self, Error> {
        if !dir.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir).doing(|| format!("creating {}", dir.display()))?;
        }
        let dir = fs::canonicalize(dir).doing(|| format!("finding {}", dir.display()))?;
        let mut entries = fs::read_dir(&dir).doing(|| format!("reading {}", dir.display()))?;
        // The lock file is the first thing ever made in a directory of ours.
        if !dir.join(LOCK_FILE).exists() && entries.next().is_some() {
            return Err(Error::NotEmpty { dir });
        }
        let owner_lock = lock::open(&dir.join(LOCK_FILE))?;
        // A process that is just being started from this one has a copy for an instant.
        if !lock::within(Duration::from_millis(200), &owner_lock)? {
            let owner = lock::signer(&owner_lock).map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            return Err(Error::InUse { dir, owner });
        }
        lock::sign(&owner_lock).doing(|| format!("writing the lock of {}", dir.display()))?;
        // Where the last owner was killed, its server may still be shutting down.
        let server_lock = lock::open(&dir.join(SERVER_LOCK_FILE))?;
        if !lock::within(ORPHAN_TIMEOUT, &server_lock)? {
            return Err(Error::InUse { dir, owner: "a server that outlived its owner".to_owned() });
        }
        Ok(Self { dir, _owner_lock: owner_lock, server_lock })
    }
}

/// Where temporary directories are made: a path that leaves room for a socket's name.
fn temporary_parent() -> PathBuf {
    let usual = std::env::temp_dir();
    // The random part of the name has six characters.
    let longest = usual.as_os_str().len() + TEMP_PREFIX.len() + SOCKET_FILE.len() + 8;
    if usual.is_absolute() && longest <= SOCKET_PATH_MAX { usual } else { PathBuf::from("/tmp") }
}

/// A new directory of our own.
fn temporary_directory() -> Result<TempDir, Error> {
    let parent = temporary_parent();
    tempfile::Builder::new().prefix(TEMP_PREFIX).tempdir_in(&parent).doing(|| format!("creating a directory in {}", parent.display()))
}

/// Removes temporary directories whose owner was killed: those of ours whose lock nobody holds. Their servers are killed with it,
/// so nobody misses them. Failing is no reason not to start.
fn remove_leftovers() {
    for entry in fs::read_dir(temporary_parent()).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(TEMP_PREFIX) {
            continue;
        }
        let path = entry.path();
        let lock_path = path.join(LOCK_FILE);
        let old_and_ours = fs::symlink_metadata(&lock_path).is_ok_and(|meta| {
            // One that is new may be about to be locked.
            let age = meta.modified().ok().and_then(|time| time.elapsed().ok()).unwrap_or_default();
            age > Duration::from_secs(60) && meta.is_file() && meta.uid() == geteuid().as_raw()
        });
        if old_and_ours
            && let Ok(lock) = File::open(&lock_path)
            && lock.try_lock().is_ok()
        {
            tracing::debug!(path = %path.display(), "removing what a killed process left");
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_somebody_else_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("ibdata1"), "").expect("a file");
        assert!(matches!(Kept::claim(dir.path()), Err(Error::NotEmpty { .. })));
    }

    #[test]
    fn a_claimed_directory_is_refused_and_names_its_owner() {
        let dir = tempfile::tempdir().expect("a directory");
        let held = Kept::claim(dir.path()).expect("an empty directory");
        match Kept::claim(dir.path()) {
            Err(Error::InUse { owner, .. }) => assert_eq!(owner, format!("process {}", std::process::id())),
            other => panic!("{other:?}"),
        }
        drop(held);
        Kept::claim(dir.path()).expect("it is free again");
    }
}
