use std::ffi::OsStr;

use crate::support::broker::run;
use crate::support::{Bed, BedOptions, shared_server};

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
