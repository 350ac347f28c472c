use std::path::Path;
use std::process::Command;

use crate::deployment::{bosh_folder, run, text};

/// Minutes: `scripts/test-bosh-packaging` says what it does, and what keeps it short the next time.
#[test]
#[ignore = "compiles everything anew; scripts/test-bosh-packaging, or cargo test --test bosh -- --ignored packaging"]
fn packaging_compiles_without_a_network_and_the_installed_program_runs() {
    let output = run(&mut Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/test-bosh-packaging")));
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    assert_eq!(said.lines().last(), Some(concat!("cf-mysql-broker ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn with_the_bosh_cli_the_release_can_be_made() {
    if Command::new("bosh").arg("--version").output().is_err() {
        eprintln!("SKIPPED: bosh is not on PATH, so no release tarball is made and looked into");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let tarball = folder.path().join("release.tgz");
    let output = run(Command::new(bosh_folder().join("scripts/create-release")).arg("--tarball").arg(&tarball));
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    let listed = text(&run(Command::new("bosh").arg("inspect-release").arg(&tarball)).stdout);
    for part in ["cf-mysql-broker-user", "broker-registrar", "deregister-and-purge-instances", "smoke-tests", "rust"] {
        assert!(listed.contains(part), "{listed}");
    }
}

#[test]
fn a_toolchain_that_is_not_whole_or_too_old_is_refused() {
    let script = bosh_folder().join("scripts/add-toolchain-blobs");
    let folder = tempfile::tempdir().unwrap();
    let archive = |name: &str| std::fs::write(folder.path().join(name), "").unwrap();
    let refused = |code: i32, why: &str| {
        let output = run(Command::new(&script).arg(folder.path()));
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(code) && said.contains(why), "{:?}: {said}", output.status);
    };
    refused(1, "exactly one rustc-VERSION-TARGET.tar.xz");
    for component in ["rustc", "cargo", "rust-std"] {
        archive(&format!("{component}-1.60.0-x86_64-unknown-linux-gnu.tar.xz"));
    }
    refused(1, "Cargo.toml needs Rust");
    archive("cargo-1.99.0-x86_64-unknown-linux-gnu.tar.xz");
    refused(1, "exactly one cargo-VERSION-TARGET.tar.xz");
    std::fs::remove_file(folder.path().join("cargo-1.60.0-x86_64-unknown-linux-gnu.tar.xz")).unwrap();
    refused(1, "different versions");
    std::fs::write(
        folder.path().join("rustc-1.60.0-x86_64-unknown-linux-gnu.tar.xz.sha256"),
        format!("{}  rustc-1.60.0-x86_64-unknown-linux-gnu.tar.xz\n", "0".repeat(64)),
    )
    .unwrap();
    refused(1, "WARNING");
}
