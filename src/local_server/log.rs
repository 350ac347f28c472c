//! The server's error log.

use std::fs::{self, File, OpenOptions};
use std::path::Path;

use super::error::{Doing as _, Error};

/// Opens the log to append to it.
pub(super) fn open(path: &Path) -> Result<File, Error> {
    OpenOptions::new().create(true).append(true).open(path).doing(|| format!("opening {}", path.display()))
}

/// Where it ends now.
pub(super) fn end(path: &Path) -> usize {
    fs::metadata(path).ok().and_then(|meta| usize::try_from(meta.len()).ok()).unwrap_or_default()
}

/// What it says since `from`.
pub(super) fn since(path: &Path, from: usize) -> String {
    match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned(),
        Err(error) => format!("({} cannot be read: {error})", path.display()),
    }
}

pub(super) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_the_last() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a", 2), "a");
        assert_eq!(last_lines("", 2), "");
    }
}
