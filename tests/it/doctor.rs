use std::ffi::OsStr;

use serde_json::{Value, json};

use crate::support::broker::run;
use crate::support::{Bed, BedOptions};

fn doctor(bed: &Bed) -> (i32, Vec<Value>) {
    let (code, stdout, stderr) = run(&[OsStr::new("doctor"), OsStr::new("--config"), bed.config.as_os_str(), OsStr::new("--json")], &[]);
    let report: Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{code}: {stdout} {stderr}"));
    (code, report["checks"].as_array().unwrap().iter().filter(|check| check["ok"] == false).cloned().collect())
}

#[tokio::test]
async fn a_healthy_installation_has_nothing_wrong() {
    let bed = Bed::with(BedOptions { enforce: true, ..BedOptions::default() }).await;
    assert_eq!(doctor(&bed), (0, vec![]));
}

#[tokio::test]
async fn a_missing_right_is_named_with_the_statement_that_gives_it() {
    let bed = Bed::new().await;
    bed.execute(&format!("REVOKE CREATE USER ON *.* FROM '{}'@'%'", bed.account)).await;
    let (code, wrong) = doctor(&bed);
    assert_eq!(code, 1);
    for check in &wrong {
        assert_eq!(check["found"], "missing: CREATE USER");
        assert!(check["wanted"].as_str().unwrap().starts_with("GRANT CREATE USER, PROCESS"), "{check}");
    }
    assert!(!wrong.is_empty());
}

#[tokio::test]
async fn no_schema_and_no_server_are_said() {
    let bed = Bed::prepare(crate::support::shared_server(), &BedOptions::default()).await;
    let (code, wrong) = doctor(&bed);
    assert_eq!(code, 1);
    assert!(wrong.iter().all(|check| check["check"].as_str().unwrap().ends_with("schema")), "{wrong:?}");
    bed.change_settings(&json!({"mysql": {"hosts": ["127.0.0.1:1"]}}));
    let (code, wrong) = doctor(&bed);
    assert_eq!((code, wrong.is_empty()), (1, false));
    assert!(wrong.iter().any(|check| check["check"].as_str().unwrap().ends_with("connection")), "{wrong:?}");
}
