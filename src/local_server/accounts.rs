//! The accounts of a server, set by a file that it reads before it greets anybody.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::Options;
use super::error::{Doing as _, Error};
use super::program::Flavor;

/// Whether a password can stand between quotes whatever the SQL mode says of backslashes.
pub(super) fn check_password(password: &str) -> Result<(), Error> {
    let good = |byte: u8| (b' '..=b'~').contains(&byte) && !matches!(byte, b'\'' | b'"' | b'\\');
    if password.bytes().all(good) { Ok(()) } else { Err(Error::Password) }
}

/// Writes the file, so that only we can read it.
pub(super) fn write(path: &Path, flavor: Flavor, options: &Options) -> Result<(), Error> {
    // One left by a start that failed may be there.
    let _ = fs::remove_file(path);
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    created.and_then(|mut file| file.write_all(statements(flavor, options).as_bytes())).doing(|| format!("writing {}", path.display()))
}

/// Root with the password, by TCP and by the socket, and nobody else without one.
fn statements(flavor: Flavor, options: &Options) -> String {
    let mut statements = String::new();
    if options.extra_args.iter().any(|arg| arg.starts_with("--wsrep")) {
        // Each node sets its own accounts: at this point it cannot speak to the cluster.
        statements.push_str("SET SESSION wsrep_on = OFF;\n");
    }
    statements.push_str("SET SESSION sql_log_bin = 0;\n");
    let password = options.root_password.as_deref().unwrap_or_default();
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
            "DELETE FROM mysql.global_priv WHERE User = 'root' AND Host NOT IN ('localhost', '127.0.0.1') \
             AND COALESCE(JSON_VALUE(Priv, '$.authentication_string'), '') = '';\n\
             FLUSH PRIVILEGES;\n",
        );
    }
    statements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_safe_between_quotes_or_refused() {
        assert!(check_password("correct horse; battery -- staple #1").is_ok());
        for bad in ["it's", "a\"b", "a\\", "line\nbreak", "ü", "\0"] {
            assert!(matches!(check_password(bad), Err(Error::Password)), "{bad:?}");
        }
    }

    #[test]
    fn a_cluster_node_sets_its_accounts_alone() {
        let mut options = Options::default();
        assert!(!statements(Flavor::MariaDb, &options).contains("wsrep"));
        options.extra_args = vec!["--wsrep-on=ON".to_owned()];
        assert!(statements(Flavor::MariaDb, &options).starts_with("SET SESSION wsrep_on = OFF;\n"));
    }
}
