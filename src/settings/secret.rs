//! Secrets that may stand in a file of their own.

use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};

use super::Problems;

/// Fills `secret` from its `*_file`, and reports both, neither, and a file that cannot be read. `path`: of the secret itself.
pub(super) fn resolve(secret: &mut SecretString, file: Option<&Path>, path: &str, problems: &mut Problems) {
    let is_set = !secret.expose_secret().is_empty();
    match file {
        Some(_) if is_set => problems.add(path, format!("stands beside {path}_file: only one of both may be set")),
        Some(file) => match std::fs::read_to_string(file) {
            Ok(text) if text.trim_end_matches(['\r', '\n']).is_empty() => problems.add(format!("{path}_file"), "is empty"),
            Ok(text) => *secret = SecretString::from(text.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => problems.add(format!("{path}_file"), format!("cannot be read: {error}")),
        },
        None if is_set => {}
        None => problems.add(path, format!("is required (or {path}_file)")),
    }
}
