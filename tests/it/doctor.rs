use std::ffi::OsStr;

use serde_json::{Value, json};

use crate::enforcer::{MEGABYTE, fill, instance_with_table, is_denied};
use crate::support::bed::make_room;
use crate::support::broker::run;
use crate::support::{Bed, BedOptions, eventually, is_mariadb, shared_server};

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
    let bed = Bed::prepare(shared_server(), &BedOptions::default()).await;
    let (code, wrong) = doctor(&bed);
    assert_eq!(code, 1);
    assert!(wrong.iter().all(|check| check["check"].as_str().unwrap().ends_with("schema")), "{wrong:?}");
    bed.change_settings(&json!({"mysql": {"hosts": ["127.0.0.1:1"]}}));
    let (code, wrong) = doctor(&bed);
    assert_eq!((code, wrong.is_empty()), (1, false));
    assert!(wrong.iter().any(|check| check["check"].as_str().unwrap().ends_with("connection")), "{wrong:?}");
}

#[tokio::test]
async fn an_account_that_needs_tls_says_so() {
    if is_mariadb() {
        return;
    }
    // nobody has logged in with these accounts, so the server does not remember them
    let bed = Bed::prepare(shared_server(), &BedOptions::default()).await;
    bed.change_settings(&json!({"mysql": {"tls": {"mode": "disabled"}}}));
    let (code, wrong) = doctor(&bed);
    let found = |ending: &str| wrong.iter().any(|check| check["check"].as_str().unwrap().ends_with(ending));
    assert!(code == 1 && found("connection"), "{wrong:?}");
    assert!(wrong.iter().any(|check| check["found"].as_str().unwrap().contains("cannot log in without TLS")), "{wrong:?}");
}

/// Both accounts are one: what `operator-accounts` prints for that is enough to serve and to enforce, plain names of older grants included.
#[tokio::test]
async fn one_account_for_broker_and_enforcer_needs_the_rights_of_both() {
    let shared = json!({"quota_enforcer": {"username": null, "password": ""}});
    let options = BedOptions { enforce: true, settings: shared, ..BedOptions::default() };
    let mut bed = Bed::prepare(shared_server(), &options).await;
    let rights =
        |wrong: Vec<Value>| wrong.into_iter().filter(|check| check["check"].as_str().unwrap().ends_with(": rights")).collect::<Vec<_>>();
    let lacking = rights(doctor(&bed).1);
    assert!(!lacking.is_empty(), "the account of a broker alone");
    for check in lacking {
        assert!(check["check"].as_str().unwrap().starts_with("broker and quota enforcer at "), "{check}");
    }

    let version: String = sqlx::query_scalar("SELECT VERSION()").fetch_one(&mut bed.root().await).await.unwrap();
    let arguments = ["operator-accounts", "--server-version", &version, "--config"].map(OsStr::new);
    let (code, statements, stderr) = run(&[&arguments[..], &[bed.config.as_os_str()]].concat(), &[]);
    assert_eq!((code, statements.matches("CREATE USER IF NOT EXISTS").count()), (0, 1), "{stderr}");
    bed.execute(&statements).await;
    bed.start_broker().await;
    bed.all_ready().await;
    assert_eq!(doctor(&bed), (0, vec![]));

    let (bound, mut session) = instance_with_table(&bed, "i1").await;
    let (database, other) = (bed.database_of("i1").await, format!("plain-{}", crate::support::unique()));
    bed.execute(&format!("CREATE USER '{other}'@'%' IDENTIFIED BY 'Pass-0word'; GRANT SELECT, INSERT ON `{database}`.* TO '{other}'@'%'"))
        .await;
    let may_insert = async || bed.number(&format!("SELECT COUNT(*) FROM mysql.db WHERE User = '{other}' AND Insert_priv = 'Y'")).await == 1;
    assert!(may_insert().await);
    fill(&mut session, 6).await;
    eventually("writing is taken", async || (is_denied(&bound, MEGABYTE).await && !may_insert().await).then_some(())).await;
    make_room(&bound, "TRUNCATE TABLE t").await;
    eventually("writing is given back", async || (!is_denied(&bound, MEGABYTE).await && may_insert().await).then_some(())).await;
    bed.execute(&format!("DROP USER '{other}'@'%'")).await;
}

#[tokio::test]
async fn where_nobody_enforces_nobody_needs_the_rights_for_it() {
    let options = BedOptions { settings: json!({"quota_enforcer": {"username": null, "password": ""}}), ..BedOptions::default() };
    let bed = Bed::with(options).await;
    assert_eq!(doctor(&bed), (0, vec![]));
}

/// A MariaDB that says it is older than it is; MySQL cannot be told to.
#[tokio::test]
async fn a_server_that_is_too_old_is_named_with_what_it_lacks() {
    if !is_mariadb() {
        return;
    }
    let server = crate::support::server::start_with(&["--version=10.4.34-MariaDB"]).await;
    let mut bed = Bed::on(&server, BedOptions { alone: true, ..BedOptions::default() }).await;
    let (code, wrong) = doctor(&bed);
    assert_eq!(code, 1);
    // both accounts
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    for check in wrong {
        assert!(check["check"].as_str().unwrap().ends_with(": version") && check["found"] == "10.4.34-MariaDB", "{check}");
        assert!(check["wanted"].as_str().unwrap().starts_with("at least 10.5.2: older ones have no CONNECTION ADMIN"), "{check}");
    }
    let is_said = |line: &str| (line.contains("the database server is too old") && line.contains("at least 10.5.2")).then_some(());
    bed.brokers[0].wait_for("the broker says so when it starts", is_said).await;
}
