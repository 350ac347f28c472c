use std::path::Path;
use std::process::Command;

use crate::deployment::{bosh_folder, run, text};

fn check(folder: &Path) -> (Option<i32>, String) {
    let output = run(Command::new("ruby").arg(bosh_folder().join("scripts/check-release")).arg(folder));
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn the_release_has_no_lint() {
    assert_eq!(check(&bosh_folder()), (Some(0), String::new()));
}

/// A file, what of it is replaced by what, and what is then found.
const MISTAKES: &[(&str, &str, &str, &str)] = &[
    ("jobs/cf-mysql-broker/spec", "  drain.erb: bin/drain\n", "", "jobs/cf-mysql-broker: template drain.erb is not in the spec"),
    (
        "jobs/cf-mysql-broker/spec",
        "  bpm.yml.erb: config/bpm.yml\n",
        "  bpm.yml.erb: config/bpm.yml\n  gone.erb: config/gone\n",
        "template gone.erb of the spec does not exist",
    ),
    (
        "jobs/cf-mysql-broker/templates/tls.crt.erb",
        "tls.certificate",
        "tls.certficate",
        "property cf_mysql.broker.tls.certficate is used but not declared",
    ),
    (
        "jobs/cf-mysql-broker-user/spec",
        "properties:\n",
        "properties:\n  cf_mysql.left_over:\n    description: nobody reads it\n",
        "property cf_mysql.left_over is declared but not used",
    ),
    (
        "jobs/cf-mysql-broker-user/spec",
        "    description: Seconds to wait for the server to answer\n",
        "",
        "property cf_mysql.mysql.start_timeout has no description",
    ),
    ("jobs/smoke-tests/spec", "- cf-mysql-broker\n", "- cf-mysql-breaker\n", "jobs/smoke-tests: there is no package cf-mysql-breaker"),
    ("jobs/smoke-tests/templates/cf-login.erb", "umask 077", "umask 007", "the copies of cf-login.erb differ"),
    ("packages/cf-mysql-broker/spec", "- rust\n", "- rusty\n", "packages/cf-mysql-broker: there is no package rusty"),
    (
        "manifests/cf-mysql-broker.yml",
        "        external_host: ((broker_external_host))\n",
        "        external_host: ((broker_external_host))\n        extrenal_host: x\n",
        "property cf_mysql.extrenal_host of cf-mysql-broker is not declared",
    ),
    ("manifests/cf-mysql-broker.yml", "- name: routing\n", "- name: routers\n", "release routing of job route_registrar is not named"),
    ("operations/external-mysql.yml", "mysql_host, mysql_port,", "mysql_host,", "the head does not name the variable mysql_port"),
    (
        "operations/ignored-users.yml",
        "quota_enforcer/ignored_users",
        "quota_enforcer/ignored",
        "there is no ignored (a `?` behind it would make it)",
    ),
    (
        "operations/disable-quota-enforcer.yml",
        "disable_quota_enforcer?",
        "disable_enforcer?",
        "property cf_mysql.broker.disable_enforcer of",
    ),
    ("operations/pxc/share-database-link.yml", "groups/name=proxy", "groups/name=prxy", "there is no name=prxy"),
    ("operations/pxc/share-database-link-colocated.yml", "jobs/name=proxy", "jobs/name=poxy", "there is no name=poxy"),
    ("scripts/create-release", "set -euo pipefail", "set -euo pipefail\necho $1", "Double quote to prevent globbing"),
    ("jobs/deregister-and-purge-instances/templates/run.erb", "\ndone\n", "\n", "syntax error"),
];

#[test]
fn every_lint_finds_its_mistake() {
    let copy = tempfile::tempdir().unwrap();
    let copied = run(Command::new("cp")
        .arg("-R")
        .args(["jobs", "packages", "manifests", "operations", "scripts"].map(|f| bosh_folder().join(f)))
        .arg(copy.path()));
    assert!(copied.status.success(), "{}", text(&copied.stderr));
    for (file, old, new, _) in MISTAKES {
        let file = copy.path().join(file);
        let content = std::fs::read_to_string(&file).unwrap();
        assert!(content.contains(old), "{} has no {old:?}", file.display());
        std::fs::write(&file, content.replacen(old, new, 1)).unwrap();
    }
    std::fs::remove_file(copy.path().join("jobs/smoke-tests/monit")).unwrap();
    let (code, found) = check(copy.path());
    assert_eq!(code, Some(1), "{found}");
    for (file, .., expected) in MISTAKES {
        assert!(found.contains(expected), "{file}: {expected:?} is not among\n{found}");
    }
    assert!(found.contains("jobs/smoke-tests: has no file monit"), "{found}");
}

#[test]
fn the_projects_own_scripts_pass_shellcheck() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_bash = |path: &std::path::PathBuf| {
        path.is_file() && std::fs::read_to_string(path).is_ok_and(|text| text.lines().next().is_some_and(|line| line.contains("bash")))
    };
    let folders = ["scripts", "scripts/lib", ".ci"].map(|folder| root.join(folder));
    let scripts: Vec<_> =
        folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())).filter(is_bash).collect();
    assert!(scripts.iter().any(|path| path.ends_with("scripts/lib/distribution")), "{scripts:?}");
    let output = run(Command::new("shellcheck").arg("--external-sources").args(&scripts));
    assert!(output.status.success(), "{}", text(&output.stdout));
}
