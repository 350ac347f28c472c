use std::ffi::OsStr;

use reqwest::Method;
use serde_json::json;
use sqlx::MySqlConnection;

use crate::support::bed::{PLAN_LARGE, SERVICE};
use crate::support::broker::run;
use crate::support::osb::{binding, instance};
use crate::support::server::connect;
use crate::support::{Bed, BedOptions, own_server, shared_server};

/// The tables as cf-mysql-broker's Rails migrations made them.
const REFERENCE: &str = "
CREATE TABLE service_instances (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, guid VARCHAR(255), plan_guid VARCHAR(255),
  max_storage_mb INT NOT NULL DEFAULT 0, db_name VARCHAR(255), KEY index_service_instances_on_guid (guid),
  KEY index_service_instances_on_plan_guid (plan_guid), KEY index_service_instances_on_db_name (db_name)) DEFAULT CHARSET=utf8mb3;
CREATE TABLE read_only_users (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, username VARCHAR(255), grantee VARCHAR(255),
  created_at DATETIME NOT NULL, updated_at DATETIME NOT NULL) DEFAULT CHARSET=utf8mb3;
CREATE TABLE schema_migrations (version VARCHAR(255) NOT NULL, UNIQUE KEY unique_schema_migrations (version)) DEFAULT CHARSET=utf8mb3;
INSERT INTO service_instances (guid, plan_guid, max_storage_mb, db_name) VALUES
  ('old-1', 'plan-small', 5, 'cf_old_1'), ('old-2', 'gone-plan', 7, 'cf_old_2'), ('old-1', 'plan-small', 5, 'cf_old_1');";

async fn installation() -> Bed {
    let bed = Bed::prepare(shared_server(), &BedOptions::default()).await;
    bed.execute(&format!("CREATE DATABASE {own} CHARACTER SET utf8mb3; USE {own}; {REFERENCE}", own = bed.database)).await;
    bed
}

fn migrate(bed: &Bed) -> String {
    let (code, stdout, stderr) = run(&[OsStr::new("migrate"), OsStr::new("--config"), bed.config.as_os_str()], &[]);
    assert_eq!(code, 0, "{stderr}");
    stdout
}

#[tokio::test]
async fn an_existing_installation_is_taken_over_in_place() {
    let mut bed = installation().await;
    assert!(migrate(&bed).contains("taken over: 2"));
    assert_eq!(bed.reserved_mb().await, 12);
    assert_eq!(bed.number("SELECT COUNT(*) FROM service_instances WHERE state = 'ready' AND db_name LIKE 'cf\\_old\\_%'").await, 2);
    assert_eq!(migrate(&bed), "The schema is up to date.\n");

    bed.start_broker().await;
    // a repeat whose owner nobody recorded is the same when the plan is, and records it
    bed.osb().provision("old-1").await.expect(200);
    assert_eq!(
        bed.number("SELECT COUNT(*) FROM service_instances WHERE guid = 'old-1' AND organization_guid = 'o1' AND space_guid = 's1'").await,
        1
    );
    bed.osb().provision("old-2").await.expect(409);
    // what the old broker reads is still there
    assert_eq!(bed.number("SELECT max_storage_mb FROM service_instances WHERE guid = 'old-2' AND plan_guid = 'gone-plan'").await, 7);
    bed.osb().deprovision("old-2").await.expect(200);
    assert_eq!(bed.reserved_mb().await, 5);
}

/// An account as cf-mysql-broker made it for a binding, and a session of it.
async fn old_account(bed: &Bed, user: &str, grants: &[&str]) -> MySqlConnection {
    bed.execute(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'Pass-0word'")).await;
    for database in grants {
        bed.execute(&format!("GRANT ALL PRIVILEGES ON `{database}`.* TO '{user}'@'%'")).await;
    }
    connect(&bed.server, user, "Pass-0word").await.unwrap()
}

async fn is_in(session: &mut MySqlConnection) -> bool {
    sqlx::raw_sql("SELECT 1").execute(session).await.is_ok()
}

/// Ruby says so: `Digest::MD5.base64digest(id).gsub(/[^a-zA-Z0-9]+/, '')[0...16]`.
const OLD_ACCOUNTS: [(&str, &str); 4] = [
    ("old-binding", "a3NKVDnBIK77raWQ"),
    ("other-binding", "QsWqdDPcCcg4v3yj"),
    ("third-binding", "b87n7wBCYr0892Ql"),
    ("h", "JRDDkBHFvnBBgkIO"),
];

#[tokio::test]
async fn accounts_of_the_old_broker_end_with_their_bindings_and_with_their_instance() {
    let server = own_server().await;
    let mut bed = Bed::prepare(&server, &BedOptions::default()).await;
    bed.execute(&format!("CREATE DATABASE {own} CHARACTER SET utf8mb3; USE {own}; {REFERENCE}", own = bed.database)).await;
    bed.execute("CREATE DATABASE cf_old_1; CREATE DATABASE cf_old_2; CREATE TABLE cf_old_1.t (id INT)").await;
    let [(first, first_user), (second, second_user), (_, third_user), (fourth, fourth_user)] = OLD_ACCOUNTS;
    let mut gone = old_account(&bed, first_user, &["cf_old_1"]).await;
    let mut maker = old_account(&bed, second_user, &["cf_old_1"]).await;
    sqlx::raw_sql("CREATE VIEW cf_old_1.v AS SELECT id FROM cf_old_1.t").execute(&mut maker).await.unwrap();
    let mut with_the_instance = old_account(&bed, third_user, &["cf\\_old\\_1"]).await;
    let mut other = old_account(&bed, fourth_user, &["cf_old_2"]).await;
    let mut operator = old_account(&bed, "reportinguser123", &["cf_old_1"]).await;
    let mut both = old_account(&bed, "ReportingReader2", &["cf_old_1", "cf_old_2"]).await;
    bed.execute(&format!(
        "INSERT INTO {}.read_only_users (username, grantee, created_at, updated_at) VALUES ('{first_user}', 'x', NOW(), NOW())",
        bed.database
    ))
    .await;
    migrate(&bed);
    bed.start_broker().await;
    let osb = bed.osb();
    assert_eq!(osb.get(&instance("old-1")).await.expect(200)["service_id"], SERVICE, "nobody recorded it");

    // a change of plan reaches them
    let change = json!({"service_id": SERVICE, "plan_id": PLAN_LARGE});
    osb.patch(&instance("old-1"), &change).await.expect(200);
    let limit = format!("SELECT max_user_connections FROM mysql.user WHERE User = '{first_user}'");
    assert_eq!(bed.number(&limit).await, 7);

    // no such binding of this instance, whatever the account
    osb.unbind("old-1", fourth).await.expect(410);
    osb.unbind("old-2", first).await.expect(410);
    osb.send(osb.request(Method::DELETE, &binding("old-1", first))).await.expect(400);
    assert_eq!((bed.accounts(first_user).await, is_in(&mut gone).await), (1, true));
    osb.unbind("old-1", first).await.expect(200);
    assert_eq!((bed.accounts(first_user).await, is_in(&mut gone).await), (0, false));
    assert_eq!(bed.number("SELECT COUNT(*) FROM read_only_users").await, 0);
    osb.unbind("old-1", first).await.expect(410);
    // one that an object names as its definer is retired
    osb.unbind("old-1", second).await.expect(200);
    assert!(!is_in(&mut maker).await && connect(&bed.server, second_user, "Pass-0word").await.is_err());
    assert_eq!(bed.accounts(second_user).await, 1);
    osb.unbind("old-1", second).await.expect(410);

    // a binding of ours under an id that the old broker knew: both accounts go
    let mut again = old_account(&bed, first_user, &["cf_old_1"]).await;
    osb.bind("old-1", first).await.expect(201);
    osb.unbind("old-1", first).await.expect(200);
    assert_eq!((bed.accounts(first_user).await, is_in(&mut again).await), (0, false));

    osb.deprovision("old-1").await.expect(200);
    assert_eq!(bed.databases("cf_old_1").await + bed.accounts(second_user).await + bed.accounts(third_user).await, 0);
    assert!(!is_in(&mut with_the_instance).await);
    // of another instance, of nobody's binding, and of more than this database
    for session in [&mut other, &mut operator, &mut both] {
        assert!(is_in(session).await);
    }
}

#[tokio::test]
async fn a_migration_that_was_interrupted_is_repeated() {
    let bed = installation().await;
    migrate(&bed);
    // as a crash leaves it: the file has run, or half of it, and its row says "not successful"
    bed.execute(&format!(
        "UPDATE {own}._sqlx_migrations SET success = 0 WHERE version >= 2; ALTER TABLE {own}.service_instances DROP KEY unique_service_instances_on_guid; \
         DROP TABLE {own}.quota_revocations",
        own = bed.database
    ))
    .await;
    assert!(migrate(&bed).contains("Migrations applied: 2, 3"));
    assert_eq!(bed.reserved_mb().await, 12);
    bed.number("SELECT COUNT(*) FROM quota_revocations").await;
}

#[tokio::test]
async fn a_counter_that_is_wrong_is_put_right() {
    let bed = installation().await;
    migrate(&bed);
    bed.execute(&format!("UPDATE {}.capacity SET reserved_bytes = 1", bed.database)).await;
    assert!(migrate(&bed).contains("12 MB (the counter said 0 MB)"));
    assert_eq!(bed.reserved_mb().await, 12);
}
