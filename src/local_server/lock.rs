//! Who may use a directory: locks on files, one for an owner, one for the server itself.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::error::{Doing as _, Error};

/// Opens a lock file, making it if need be.
pub(super) fn open(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    opened.doing(|| format!("opening {}", path.display()))
}

/// Whether the lock could be had in that time.
pub(super) fn within(time: Duration, lock: &File) -> Result<bool, Error> {
    let give_up = Instant::now() + time;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error).doing(|| "locking a directory".to_owned()),
            Err(TryLockError::WouldBlock) if Instant::now() > give_up => return Ok(false),
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Writes this process into a lock file, for the message to whoever finds it locked.
pub(super) fn sign(mut lock: &File) -> std::io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

/// The process that wrote itself into a lock file.
pub(super) fn signer(mut lock: &File) -> Option<u32> {
    let mut text = String::new();
    lock.rewind().ok()?;
    lock.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Runs a program that shall hold the lock which is its [`input`]: keeps it open beside the input, which the servers close. The
/// shell becomes the program, so the process stays the same; and no other child of ours gets the file, as it would if it were
/// simply inheritable.
pub(super) fn keeper() -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "exec 9<&0 </dev/null && exec \"$@\"", "sh"]);
    shell
}

/// The lock for the [`keeper`]; without one, nothing.
pub(super) fn input(lock: Option<&File>) -> Result<Stdio, Error> {
    match lock {
        Some(lock) => Ok(lock.try_clone().doing(|| "sharing a directory's lock".to_owned())?.into()),
        None => Ok(Stdio::null()),
    }
}
