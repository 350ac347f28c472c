//! Prepared data directories to copy.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use super::error::{Doing as _, Error};
use super::initialise::{initialise, remove_unfinished};
use super::lock;
use super::program::Program;

/// Part of a seed's name: change it when the way data directories are initialised changes.
const FORMAT: u32 = 1;

/// Copies the program's seed in `seeds` to `new`, making the seed first if it is not there.
pub(super) fn copy(program: &Program, seeds: &Path, new: &Path, tmp: &Path) -> Result<(), Error> {
    let name = format!("{}-{}-{FORMAT}", program.flavor().word(), program.version());
    let seed = seeds.join(&name);
    if !seed.exists() {
        fs::create_dir_all(seeds).doing(|| format!("creating {}", seeds.display()))?;
        let lock = lock::open(&seeds.join(format!("{name}.lock")))?;
        // All but the first wait here, and find the seed made.
        lock.lock().doing(|| format!("locking {}", seed.display()))?;
        if !seed.exists() {
            let unfinished = seeds.join(format!("{name}.new"));
            remove_unfinished(&unfinished)?;
            // It holds the lock too: were we killed, the next one waits for it to end before it removes the directory under it.
            initialise(program, false, &unfinished, tmp, Some(&lock))?;
            fs::rename(&unfinished, &seed).doing(|| format!("renaming {}", unfinished.display()))?;
        }
    }
    copy_directory(&seed, new).doing(|| format!("copying {} to {}", seed.display(), new.display()))
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
