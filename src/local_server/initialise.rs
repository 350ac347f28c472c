//! New data directories, and whose they are.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::Instant;

use super::command;
use super::error::{Doing as _, Error, if_there};
use super::log::last_lines;
use super::program::{Flavor, Program};

const FLAVOR_FILE: &str = "cf-mysql-broker.flavor";

/// Makes a new data directory, with a root that has no password: nothing listens yet, and every start sets the password first.
pub(super) fn initialise(program: &Program, durable: bool, data: &Path, tmp: &Path, lock: Option<&File>) -> Result<(), Error> {
    let began = Instant::now();
    // The servers want one that is theirs, and MySQL one that is empty.
    DirBuilder::new().mode(0o700).create(data).doing(|| format!("creating {}", data.display()))?;
    let path = program.installer().unwrap_or_else(|| program.path());
    let output = command::initialise(program, durable, data, tmp, lock)?.output().doing(|| format!("running {}", path.display()))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        let end = last_lines(&String::from_utf8_lossy(&said), 20);
        return Err(Error::Initialise { program: path.to_owned(), status: output.status, output: end });
    }
    // MySQL's name for this very server: a copy is another one.
    if_there(fs::remove_file(data.join("auto.cnf"))).doing(|| "removing auto.cnf".to_owned())?;
    let flavor = format!("{} {}\n", program.flavor().word(), program.version());
    fs::write(data.join(FLAVOR_FILE), flavor).doing(|| format!("writing to {}", data.display()))?;
    tracing::debug!(data = %data.display(), took = ?began.elapsed(), "initialised a data directory");
    Ok(())
}

/// Whose data it is: neither server can use, nor always recognise, the other's.
pub(super) fn check_flavor(data: &Path, wanted: Flavor) -> Result<(), Error> {
    let path = data.join(FLAVOR_FILE);
    let found = fs::read_to_string(&path).doing(|| format!("reading {}", path.display()))?;
    if found.split_whitespace().next() == Some(wanted.word()) {
        Ok(())
    } else {
        Err(Error::OtherFlavor { dir: data.to_owned(), found: found.trim().to_owned(), wanted })
    }
}

/// Removes what an interrupted attempt left.
pub(super) fn remove_unfinished(dir: &Path) -> Result<(), Error> {
    if_there(fs::remove_dir_all(dir)).doing(|| format!("removing {}", dir.display()))
}
