//! What a dead broker leaves behind, made by hand; real kills at each step are in the crash suite.

use std::sync::Arc;

use arc_swap::ArcSwap;
use cf_mysql_broker::broker::{Broker, OsbError, Progress, UpdateRequest};
use cf_mysql_broker::domain::binding::AskedBinding;
use cf_mysql_broker::domain::ids::{BindingId, InstanceId};
use cf_mysql_broker::domain::instance::ProvisionRequest;
use cf_mysql_broker::mysql::Mysql;
use cf_mysql_broker::settings::Settings;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::bed::{PLAN_LARGE, PLAN_SMALL, SERVICE, app};
use crate::support::osb::instance;
use crate::support::{Bed, BedOptions, eventually, is_galera};

const MB: i64 = 1 << 20;

/// A row as a broker leaves it that dies in the middle.
async fn abandon_instance(bed: &Bed, id: &str, state: &str, lease_seconds: i64) -> String {
    let database = format!("cf_{}_{}", id, crate::support::unique());
    bed.execute(&format!(
        "INSERT INTO {own}.service_instances (guid, service_guid, plan_guid, max_storage_mb, db_name, organization_guid, space_guid, state, op_id, lease_until, reserved_bytes) \
         VALUES ('{id}', 'service-1', '{PLAN_SMALL}', 5, '{database}', 'o1', 's1', '{state}', REPEAT('a', 32), UTC_TIMESTAMP(6) + INTERVAL {lease_seconds} SECOND, {}); \
         UPDATE {own}.capacity SET reserved_bytes = reserved_bytes + {}; CREATE DATABASE {database}",
        5 * MB,
        5 * MB,
        own = bed.database,
    ))
    .await;
    database
}

#[tokio::test]
async fn the_same_put_takes_an_abandoned_creation_over() {
    let bed = Bed::new().await;
    let old = abandon_instance(&bed, "i1", "creating", -1).await;
    bed.osb().provision("i1").await.expect(201);
    assert_eq!(bed.databases(&old).await, 0, "the old attempt's database is gone");
    assert_eq!(bed.databases(&bed.database_of("i1").await).await, 1);
    assert_eq!(bed.reserved_mb().await, 5);
}

#[tokio::test]
async fn the_same_put_finishes_an_abandoned_deletion_and_begins_anew() {
    let bed = Bed::new().await;
    let old = abandon_instance(&bed, "i1", "deleting", -1).await;
    bed.osb().provision("i1").await.expect(201);
    assert_eq!(bed.databases(&old).await, 0);
    assert_eq!(bed.reserved_mb().await, 5);
}

/// A binding of the instance `i1` as a broker leaves it, or works on it; the name of its account.
async fn abandon_binding(bed: &Bed, id: &str, lease_seconds: i64) -> String {
    let user = format!("cfb{}", crate::support::unique());
    bed.execute(&format!(
        "INSERT INTO {own}.service_bindings (service_instance_id, guid, service_guid, plan_guid, app_guid, username, host, secret_id, salt, state, op_id, lease_until, created_at, updated_at) \
         SELECT id, '{id}', 'service-1', '{PLAN_SMALL}', 'a1', '{user}', '%', 'first', 'salt', 'creating', REPEAT('b', 32), \
         UTC_TIMESTAMP(6) + INTERVAL {lease_seconds} SECOND, UTC_TIMESTAMP(), UTC_TIMESTAMP() FROM {own}.service_instances WHERE guid = 'i1'; \
         CREATE USER '{user}'@'%' IDENTIFIED BY 'Pass-0word'",
        own = bed.database,
    ))
    .await;
    user
}

#[tokio::test]
async fn what_cannot_be_taken_over_is_waited_for_and_then_refused() {
    let bed = Bed::new().await;
    // somebody works on a binding, so nobody can finish what was abandoned of the instance
    for state in ["creating", "deleting", "updating"] {
        abandon_instance(&bed, "i1", state, -1).await;
        abandon_binding(&bed, "b1", 3600).await;
        let (path, change) = (instance("i1"), json!({"service_id": SERVICE, "plan_id": PLAN_LARGE}));
        let (created, changed, deleted) =
            tokio::join!(bed.osb().provision("i1"), bed.osb().patch(&path, &change), bed.osb().deprovision("i1"));
        for (answer, usable) in [(created, None), (changed, Some(state == "updating")), (deleted, Some(state == "updating"))] {
            let body = answer.expect(422);
            assert_eq!(
                (&body["error"], body.get("instance_usable")),
                (&json!("ConcurrencyError"), usable.map(Value::from).as_ref()),
                "{state}"
            );
        }
        bed.execute(&format!("DELETE FROM {own}.service_bindings; DELETE FROM {own}.service_instances", own = bed.database)).await;
    }
}

#[tokio::test]
async fn a_deletion_that_fails_says_that_nothing_is_left_to_use_and_is_finished_by_a_repeat() {
    let bed = Bed::with(BedOptions { settings: json!({"server": {"operation_lease": 1}}), ..BedOptions::default() }).await;
    let osb = bed.osb();
    osb.provision("i1").await.expect(201);
    let database = bed.database_of("i1").await;
    bed.execute(&format!("REVOKE DROP ON `cf\\_%`.* FROM '{}'@'%'", bed.account)).await;
    bed.end_sessions(&bed.account).await;
    let failed = osb.deprovision("i1").await;
    assert!([500, 503].contains(&failed.status), "{}", failed.body);
    assert_eq!(failed.body["instance_usable"], false, "nobody can log in any more");
    bed.execute(&format!("GRANT DROP ON `cf\\_%`.* TO '{}'@'%' WITH GRANT OPTION", bed.account)).await;
    bed.end_sessions(&bed.account).await;
    eventually("a repeat finishes it", async || [200, 410].contains(&osb.deprovision("i1").await.status).then_some(())).await;
    assert_eq!(bed.databases(&database).await + bed.reserved_mb().await, 0);
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_changes_nothing() {
    let bed = Bed::new().await;
    bed.osb().provision("i1").await.expect(201);
    // a broker in this process: a request that has been answered with 503 after 50 s
    let settings = Settings::load(Some(&bed.config), []).unwrap();
    let broker = Broker::new(Mysql::new(&settings.mysql), Arc::new(ArcSwap::from_pointee(settings)));
    let progress = Progress::new(false);
    progress.give_up();
    let (service_id, plan_id) = (SERVICE.to_owned(), PLAN_LARGE.to_owned());
    let id = |id: &str| InstanceId::parse_text(id).unwrap();
    let update = UpdateRequest {
        id: id("i1"),
        service_id: service_id.clone(),
        plan_id: Some(plan_id.clone()),
        parameters: serde_json::Map::new(),
        context: json!({"instance_name": "renamed"}).as_object().cloned(),
        maintenance_version: None,
    };
    assert!(matches!(broker.update(&update, &progress).await, Err(OsbError::GivenUp)));
    let asked = AskedBinding {
        id: BindingId::parse_text("b1").unwrap(),
        service_id: Some(service_id.clone()),
        plan_id: Some(PLAN_SMALL.to_owned()),
        app_guid: None,
        parameters: None,
        predecessor: None,
    };
    assert!(matches!(broker.bind(&id("i1"), &asked, &progress).await, Err(OsbError::GivenUp)));
    let provision = ProvisionRequest {
        id: id("i2"),
        service_id,
        plan_id,
        organization_guid: "o1".to_owned(),
        space_guid: "s1".to_owned(),
        parameters: serde_json::Map::new(),
        context: serde_json::Map::new(),
        maintenance_version: None,
    };
    assert!(matches!(broker.provision(&provision, &progress).await, Err(OsbError::GivenUp)));
    assert_eq!(bed.number("SELECT COUNT(*) FROM service_instances WHERE plan_guid = 'plan-small' AND context IS NULL").await, 1);
    assert_eq!(bed.number("SELECT (SELECT COUNT(*) FROM service_instances) + (SELECT COUNT(*) FROM service_bindings)").await, 1);
    assert_eq!(bed.reserved_mb().await, 5);
}

#[tokio::test]
async fn one_instance_that_cannot_be_dropped_holds_up_no_other() {
    if crate::support::is_galera() {
        // a cluster's DDL ends the transaction that would hold it up
        return;
    }
    let bed = Bed::with(BedOptions { alone: true, settings: json!({"server": {"operation_lease": 1}}), ..BedOptions::default() }).await;
    let (stuck, other) = (abandon_instance(&bed, "i1", "deleting", 3600).await, abandon_instance(&bed, "i2", "creating", 3600).await);
    bed.execute(&format!("CREATE TABLE {stuck}.t (id INT PRIMARY KEY)")).await;
    let mut root = bed.root().await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("START TRANSACTION; SELECT * FROM {stuck}.t"))).execute(&mut root).await.unwrap();
    bed.execute(&format!(
        "UPDATE {}.service_instances SET lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND WHERE guid = 'i1'",
        bed.database
    ))
    .await;
    let waiting =
        format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = '{}' AND INFO LIKE '%DROP TABLE%'", bed.account);
    eventually("the sweep waits for the lock", async || (bed.number(&waiting).await > 0).then_some(())).await;
    bed.execute(&format!(
        "UPDATE {}.service_instances SET lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND WHERE guid = 'i2'",
        bed.database
    ))
    .await;
    eventually("the other one is gone", async || {
        (bed.number("SELECT COUNT(*) FROM service_instances WHERE guid = 'i2'").await == 0).then_some(())
    })
    .await;
    assert_eq!((bed.databases(&stuck).await, bed.databases(&other).await), (1, 0));
    sqlx::raw_sql("COMMIT").execute(&mut root).await.unwrap();
    eventually("this one too", async || (bed.databases(&stuck).await == 0).then_some(())).await;
}

#[tokio::test]
async fn delete_finishes_an_abandoned_creation_and_an_abandoned_deletion() {
    let bed = Bed::new().await;
    for state in ["creating", "deleting"] {
        let database = abandon_instance(&bed, state, state, -1).await;
        bed.osb().deprovision(state).await.expect(200);
        assert_eq!(bed.databases(&database).await, 0);
    }
    assert_eq!(bed.reserved_mb().await, 0);
}

#[tokio::test]
async fn nobody_touches_what_somebody_works_on() {
    let bed = Bed::new().await;
    let database = abandon_instance(&bed, "i1", "creating", 3600).await;
    for answer in [bed.osb().provision("i1").await, bed.osb().deprovision("i1").await] {
        assert_eq!(answer.expect(422)["error"], "ConcurrencyError");
    }
    bed.osb().get("/v2/service_instances/i1").await.expect(404);
    bed.osb().bind("i1", "b1").await.expect(404);
    let polled = bed.osb().get("/v2/service_instances/i1/last_operation").await;
    assert_eq!(polled.headers["retry-after"], "2");
    assert_eq!(polled.expect(200)["state"], "in progress");
    assert_eq!(bed.databases(&database).await, 1);
}

#[tokio::test]
async fn the_sweep_takes_away_what_nobody_asks_for_again() {
    let bed = Bed::alone().await;
    let (creating, deleting) = (abandon_instance(&bed, "i1", "creating", -1).await, abandon_instance(&bed, "i2", "deleting", -1).await);
    eventually("the sweep", async || (bed.number("SELECT COUNT(*) FROM service_instances").await == 0).then_some(())).await;
    assert_eq!(bed.databases(&creating).await + bed.databases(&deleting).await, 0);
    assert_eq!(bed.reserved_mb().await, 0);
    let metrics = bed.osb().request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("cf_mysql_operations_recovered_total{kind=\"creating\"} 1"), "{metrics}");
}

#[tokio::test]
async fn an_abandoned_update_is_undone() {
    let bed = Bed::new().await;
    let osb = bed.osb();
    osb.provision("i1").await.expect(201);
    let bound = osb.bind("i1", "b1").await.expect(201);
    let user = bound["credentials"]["username"].as_str().unwrap();
    // an update to 20 MB that died after its limits were applied
    bed.execute(&format!(
        "UPDATE {own}.service_instances SET state = 'updating', op_id = REPEAT('a', 32), lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND, reserved_bytes = {larger}; \
         UPDATE {own}.capacity SET reserved_bytes = {larger}; ALTER USER '{user}'@'%' WITH MAX_USER_CONNECTIONS 7",
        own = bed.database,
        larger = 20 * MB,
    ))
    .await;
    eventually("the sweep", async || (bed.number("SELECT COUNT(*) FROM service_instances WHERE state = 'ready'").await == 1).then_some(()))
        .await;
    assert_eq!(bed.reserved_mb().await, 5);
    assert_eq!(bed.number(&format!("SELECT max_user_connections FROM mysql.user WHERE User = '{user}'")).await, 10);
    app(&bound).await.unwrap();
}

#[tokio::test]
async fn an_abandoned_binding_is_taken_over_or_taken_away() {
    let bed = Bed::new().await;
    let osb = bed.osb();
    osb.provision("i1").await.expect(201);
    let old = abandon_binding(&bed, "again", -1).await;
    let bound = osb.bind("i1", "again").await.expect(201);
    assert_ne!(bound["credentials"]["username"], old);
    app(&bound).await.unwrap();
    assert_eq!(bed.accounts(&old).await, 0);

    let forgotten = abandon_binding(&bed, "forgotten", -1).await;
    eventually("the sweep", async || {
        (bed.number("SELECT COUNT(*) FROM service_bindings WHERE guid = 'forgotten'").await == 0).then_some(())
    })
    .await;
    assert_eq!(bed.accounts(&forgotten).await, 0);
}

#[tokio::test]
async fn leases_are_renewed_while_long_work_has_every_connection() {
    if is_galera() {
        // a DROP that waits for a lock holds up every other statement of the cluster, renewals too
        return;
    }
    const LEASE: i64 = 3;
    let settings = json!({"server": {"operation_lease": LEASE}, "mysql": {"max_connections": 2}});
    let bed = Bed::with(BedOptions { settings, ..BedOptions::default() }).await;
    let mut locks = Vec::new();
    for id in ["i1", "i2"] {
        bed.osb().provision(id).await.expect(201);
        let table = format!("`{}`.t", bed.database_of(id).await);
        bed.execute(&format!("CREATE TABLE {table} (id INT)")).await;
        let mut root = bed.root().await;
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("LOCK TABLES {table} WRITE"))).execute(&mut root).await.unwrap();
        locks.push(root);
    }
    let deletions = ["i1", "i2"].map(|id| {
        let osb = bed.osb().clone();
        tokio::spawn(async move { osb.deprovision(id).await.status })
    });
    eventually("both wait for their lock", async || {
        let waiting =
            format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = '{}' AND INFO LIKE '%DROP TABLE%'", bed.account);
        (bed.number(&waiting).await == 2).then_some(())
    })
    .await;
    // the first leases are over, and somebody holds them
    let began = bed.number("SELECT CAST(UNIX_TIMESTAMP(UTC_TIMESTAMP()) AS SIGNED)").await;
    eventually("the leases have been renewed", async || {
        let kept = format!(
            "SELECT COUNT(*) FROM service_instances WHERE state = 'deleting' AND lease_until > UTC_TIMESTAMP(6) \
             AND UNIX_TIMESTAMP(lease_until) > {began} + 2 * {LEASE}"
        );
        (bed.number(&kept).await == 2).then_some(())
    })
    .await;
    drop(locks);
    for deletion in deletions {
        assert_eq!(deletion.await.unwrap(), 200);
    }
}
