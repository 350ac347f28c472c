use std::ffi::OsStr;

use serde_json::{Value, json};

use crate::support::broker::run;
use crate::support::{Bed, BedOptions, eventually, own_server};

fn reconcile(bed: &Bed, more: &[&str]) -> (i32, Value) {
    let mut arguments = vec![OsStr::new("reconcile"), OsStr::new("--config"), bed.config.as_os_str(), OsStr::new("--json")];
    arguments.extend(more.iter().map(OsStr::new));
    let (code, stdout, stderr) = run(&arguments, &[]);
    (code, serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{code}: {stdout} {stderr}")))
}

fn kinds(report: &Value) -> Vec<&str> {
    report["found"].as_array().unwrap().iter().map(|found| found["kind"].as_str().unwrap()).collect()
}

/// A broker that does not sweep what the test has made in between.
fn slow() -> BedOptions {
    BedOptions { settings: json!({"server": {"operation_lease": 3600}}), ..BedOptions::default() }
}

#[tokio::test]
async fn what_is_wrong_is_reported_and_put_right_only_on_request() {
    let server = own_server().await;
    let mut bed = Bed::on(&server, slow()).await;
    let osb = bed.osb().clone();
    let (first, second) = ("3f6a0d52-9d3c-4b6e-8a51-0c2f6f9d7e10", "4f6a0d52-9d3c-4b6e-8a51-0c2f6f9d7e10");
    for id in [first, second] {
        osb.provision(id).await.expect(201);
    }
    let bound = osb.bind(first, "b1").await.expect(201);
    assert_eq!(reconcile(&bed, &[]), (0, json!({"found": [], "applied": false})));
    bed.brokers.clear();

    let dropped = bed.database_of(second).await;
    let (orphan, older) = (format!("cf_{}_00000000", "a".repeat(32)), "cf_3f6a0d52_9d3c_4b6e_8a51_0c2f6f9d7e10_00000000");
    let lost = "cfb01234567890123456789";
    bed.execute(&format!(
        "DROP DATABASE {dropped}; CREATE DATABASE {orphan}; CREATE DATABASE {older}; CREATE DATABASE cf_shop_12345678; CREATE DATABASE shop; \
         CREATE USER '{lost}'@'%' IDENTIFIED BY 'Pass-0word'; CREATE USER 'cfbank'@'%' IDENTIFIED BY 'Pass-0word'; \
         UPDATE {own}.capacity SET reserved_bytes = reserved_bytes + 1; \
         INSERT INTO {own}.service_instances (guid, max_storage_mb, db_name, state, op_id, lease_until, reserved_bytes) \
         VALUES ('dead', 0, 'cf_dead', 'deleting', REPEAT('a', 32), UTC_TIMESTAMP(6) - INTERVAL 1 SECOND, 1)",
        own = bed.database
    ))
    .await;
    let wrong = ["abandoned_operation", "missing_database", "old_generation", "orphan_database", "orphan_account"];
    // the counter is one too large, and so is the sum of the rows: no finding
    for _ in 0..2 {
        let (code, report) = reconcile(&bed, &[]);
        assert_eq!((code, kinds(&report), &report["applied"]), (1, wrong.to_vec(), &json!(false)), "{report}");
    }
    bed.execute(&format!("UPDATE {}.capacity SET reserved_bytes = 7", bed.database)).await;
    let (code, report) = reconcile(&bed, &["--apply"]);
    assert_eq!((code, kinds(&report).len(), &report["applied"]), (0, 6, &json!(true)), "{report}");
    assert_eq!(reconcile(&bed, &[]), (0, json!({"found": [], "applied": false})));

    assert_eq!(bed.databases(&orphan).await + bed.databases(older).await + bed.accounts(lost).await, 0);
    assert_eq!(bed.databases(&dropped).await, 1, "anew, and empty");
    assert_eq!(bed.databases("cf_shop_12345678").await + bed.databases("shop").await + bed.accounts("cfbank").await, 3, "not ours");
    assert_eq!(bed.reserved_mb().await, 10);
    crate::support::bed::app(&bound).await.unwrap();
}

#[tokio::test]
async fn work_under_a_lease_is_left_alone_and_can_be_waited_for() {
    let server = own_server().await;
    let mut bed = Bed::on(&server, slow()).await;
    bed.brokers.clear();
    let database = format!("cf_{}_00000000", "b".repeat(32));
    bed.execute(&format!(
        "CREATE DATABASE {database}; INSERT INTO {own}.service_instances (guid, max_storage_mb, db_name, state, op_id, lease_until, reserved_bytes) \
         VALUES ('busy', 0, '{database}', 'creating', REPEAT('a', 32), UTC_TIMESTAMP(6) + INTERVAL 3 SECOND, 1); UPDATE {own}.capacity SET reserved_bytes = 1",
        own = bed.database
    ))
    .await;
    assert_eq!(reconcile(&bed, &["--apply"]), (0, json!({"found": [], "applied": true})));
    assert_eq!(bed.databases(&database).await, 1);
    let (code, report) = reconcile(&bed, &["--apply", "--wait"]);
    assert_eq!((code, kinds(&report)), (0, vec!["abandoned_operation"]), "{report}");
    assert_eq!(bed.databases(&database).await + bed.reserved_mb().await, 0);
}

#[tokio::test]
async fn nothing_is_dropped_where_somebody_else_may_sell_too() {
    let server = own_server().await;
    let bed = Bed::on(&server, slow()).await;
    let database = format!("cf_{}_00000000", "c".repeat(32));
    bed.execute(&format!("CREATE DATABASE {database}; CREATE USER 'another'@'%'; GRANT SELECT ON `cf\\_%`.* TO 'another'@'%'")).await;
    let (code, report) = reconcile(&bed, &["--apply"]);
    assert_eq!((code, kinds(&report)), (1, vec!["orphan_database", "other_installation"]), "{report}");
    assert_eq!(bed.databases(&database).await, 1);
}

#[tokio::test]
async fn what_is_wrong_is_in_the_metrics_all_the_time() {
    let server = own_server().await;
    let mut bed = Bed::on(&server, BedOptions { alone: true, ..slow() }).await;
    bed.execute(&format!("CREATE DATABASE cf_{}_00000000", "d".repeat(32))).await;
    bed.brokers.clear();
    bed.start_broker().await;
    let osb = bed.clients.last().unwrap();
    eventually("the orphan is in the metrics", async || {
        let metrics = osb.request(reqwest::Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
        let wanted = ["cf_mysql_orphans{kind=\"orphan_database\"} 1", "cf_mysql_orphans{kind=\"orphan_account\"} 0"];
        wanted.iter().all(|line| metrics.contains(line)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_could_not_be_finished_is_not_said_to_be_done() {
    let server = own_server().await;
    let mut bed = Bed::on(&server, slow()).await;
    bed.brokers.clear();
    // one that has never had a lease is for no sweep
    bed.execute(&format!(
        "INSERT INTO {own}.service_instances (guid, max_storage_mb, db_name, state, op_id, lease_until, reserved_bytes) \
         VALUES ('stuck', 0, 'cf_stuck', 'deleting', REPEAT('a', 32), NULL, 0), \
         ('dead', 0, 'cf_dead', 'deleting', REPEAT('b', 32), UTC_TIMESTAMP(6) - INTERVAL 1 SECOND, 0)",
        own = bed.database
    ))
    .await;
    let (code, report) = reconcile(&bed, &["--apply"]);
    let said = |name: &str| {
        let found = report["found"].as_array().unwrap().iter().find(|found| found["name"] == name);
        found.unwrap()["action"].as_str().unwrap().split(':').next().unwrap().to_owned()
    };
    assert_eq!((code, said("stuck").as_str(), said("dead").as_str()), (1, "failed", "done"), "{report}");
}

#[tokio::test]
async fn what_becomes_ready_during_the_comparison_is_not_missing() {
    let server = own_server().await;
    let mut bed = Bed::on(&server, slow()).await;
    bed.brokers.clear();
    let mut held = bed.root().await;
    sqlx::raw_sql("LOCK TABLES service_instances WRITE").execute(&mut held).await.unwrap();
    let arguments = ["reconcile".as_ref(), "--config".as_ref(), bed.config.as_os_str(), "--json".as_ref()].map(OsStr::to_owned);
    let report = tokio::task::spawn_blocking(move || run(&arguments.each_ref().map(std::ffi::OsString::as_os_str), &[]));
    let waiting =
        format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = '{}' AND INFO LIKE 'SELECT guid, db_name%'", bed.account);
    eventually("the databases are listed, the rows are not", async || (bed.number(&waiting).await > 0).then_some(())).await;
    let database = format!("cf_{}_00000000", "e".repeat(32));
    bed.execute(&format!("CREATE DATABASE {database}")).await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "INSERT INTO service_instances (guid, max_storage_mb, db_name, state, reserved_bytes) VALUES ('new', 0, '{database}', 'ready', 0); UNLOCK TABLES"
    )))
    .execute(&mut held)
    .await
    .unwrap();
    let (code, stdout, stderr) = report.await.unwrap();
    assert_eq!(code, 0, "{stdout} {stderr}");
}
