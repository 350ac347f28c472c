//! Another user of the machine, for a server to run as.

use std::fs;
use std::io;
use std::os::unix::fs::lchown;
use std::path::Path;
use std::process::Command;

use rustix::process::geteuid;

use super::error::{Doing as _, Error};

#[derive(Debug)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl User {
    /// The user to become; nobody but root can become another.
    pub(super) fn wanted(name: Option<&str>) -> Result<Option<Self>, Error> {
        name.filter(|_| geteuid().is_root()).map(Self::find).transpose()
    }

    fn find(name: &str) -> Result<Self, Error> {
        let ask = |what: &str| {
            let output = Command::new("id").args([what, "--", name]).output()?;
            let number = String::from_utf8_lossy(&output.stdout).trim().parse();
            number.map_err(|_| io::Error::new(io::ErrorKind::NotFound, "no such user"))
        };
        let found = ask("-u").and_then(|uid| Ok(Self { uid, gid: ask("-g")? }));
        found.doing(|| format!("looking for the user {name}"))
    }

    /// Gives the user a file or a directory, and what is in it.
    pub(super) fn give(&self, path: &Path) -> Result<(), Error> {
        self.give_alone(path)?;
        if path.is_dir() && !path.is_symlink() {
            let reading = || format!("reading {}", path.display());
            for entry in fs::read_dir(path).doing(reading)? {
                self.give(&entry.doing(reading)?.path())?;
            }
        }
        Ok(())
    }

    /// Gives the user a file or a directory, not what is in it.
    pub(super) fn give_alone(&self, path: &Path) -> Result<(), Error> {
        lchown(path, Some(self.uid), Some(self.gid)).doing(|| format!("changing the owner of {}", path.display()))
    }
}
