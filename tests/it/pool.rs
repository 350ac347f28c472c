//! What becomes of a connection between its uses.

use std::time::{Duration, Instant};

use cf_mysql_broker::domain::ids::InstanceId;
use cf_mysql_broker::domain::instance::{OpId, ProvisionRequest};
use cf_mysql_broker::mysql::Mysql;
use cf_mysql_broker::mysql::instances::{self, NewInstance};
use cf_mysql_broker::mysql::last_operations::deletions;
use cf_mysql_broker::settings::Settings;
use futures_util::future::join_all;
use serde_json::json;

use crate::support::bed::{PLAN_SMALL, SERVICE};
use crate::support::proxy::Proxy;
use crate::support::{Bed, BedOptions, eventually, is_mariadb, own_server, shared_server};

/// So many provisions at once, each on a connection of its own.
const AT_ONCE: i64 = 10;

#[tokio::test]
async fn connections_that_the_server_ended_meanwhile_are_nobodys_concern() {
    let bed = Bed::alone().await;
    let mut held = bed.hold_the_counter().await;
    let provisions: Vec<_> = (0..AT_ONCE)
        .map(|i| {
            let osb = bed.osb().clone();
            tokio::spawn(async move { osb.provision(&format!("i{i}")).await })
        })
        .collect();
    let waiting = format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = '{}' AND COMMAND = 'Execute'", bed.account);
    eventually("all are in their transactions", async || (bed.number(&waiting).await >= AT_ONCE).then_some(())).await;
    sqlx::raw_sql("COMMIT").execute(&mut held).await.unwrap();
    for provision in provisions {
        provision.await.unwrap().expect(201);
    }
    // all of them, and more than there are attempts at a statement
    bed.end_sessions(&bed.account).await;
    bed.osb().bind("i0", "b1").await.expect(201);
    bed.end_sessions(&bed.account).await;
    bed.osb().unbind("i0", "b1").await.expect(200);
    bed.end_sessions(&bed.account).await;
    bed.osb().deprovision("i0").await.expect(200);
    assert_eq!(bed.reserved_mb().await, 5 * (AT_ONCE - 1));
}

#[tokio::test]
async fn a_transaction_that_is_given_up_leaves_nothing_to_the_next_user_of_its_connection() {
    let settings = json!({"mysql": {"max_connections": 2}});
    let bed = Bed::with(BedOptions { alone: true, sellable_mb: 5, settings, ..BedOptions::default() }).await;
    bed.osb().provision("i1").await.expect(201);
    // its row was written already when it turned out that there is no room
    bed.osb().provision("i2").await.expect(507);
    for id in ["b1", "b2"] {
        bed.osb().bind("i1", id).await.expect(201);
    }
    assert_eq!(bed.number("SELECT COUNT(*) FROM service_instances WHERE guid = 'i2'").await, 0);
    assert_eq!(bed.reserved_mb().await, 5);
}

#[tokio::test]
async fn work_that_is_dropped_in_the_middle_of_a_transaction_takes_its_connection_along() {
    let bed = Bed::with(BedOptions { alone: true, settings: json!({"mysql": {"max_connections": 2}}), ..BedOptions::default() }).await;
    let mysql = Mysql::new(&Settings::load(Some(&bed.config), []).unwrap().mysql);
    let id = InstanceId::from_stored("i1".to_owned());
    let request = ProvisionRequest {
        id: id.clone(),
        service_id: SERVICE.to_owned(),
        plan_id: PLAN_SMALL.to_owned(),
        organization_guid: String::new(),
        space_guid: String::new(),
        parameters: serde_json::Map::new(),
        context: serde_json::Map::new(),
        maintenance_version: None,
    };
    let began = deletions::began(&mysql, Instant::now()).await.unwrap();
    let new = NewInstance { request: &request, database: "cf_dropped", max_storage_mb: 5, reserved_bytes: 5 << 20, began: &began };
    let (op, lease) = (OpId::new(), Duration::from_secs(30));
    let mut held = bed.hold_the_counter().await;
    tokio::select! {
        reserved = instances::reserve(&mysql, &new, 100 << 20, &op, lease) => panic!("{reserved:?}"),
        () = bed.reservation_waits() => {}
    }
    sqlx::raw_sql("COMMIT").execute(&mut held).await.unwrap();
    // whoever comes next would commit what is left of it with a BEGIN, or read its answer
    assert!(instances::find(&mysql, &id).await.unwrap().is_none());
    let again = instances::reserve(&mysql, &new, 0, &op, lease).await.unwrap();
    assert!(matches!(again, instances::Reservation::Full), "{again:?}");
    assert_eq!(bed.number("SELECT COUNT(*) FROM service_instances").await, 0);
    assert_eq!(bed.reserved_mb().await, 0);
}

#[tokio::test]
async fn statements_with_passwords_are_never_prepared() {
    let server = own_server().await;
    let bed = Bed::on(&server, BedOptions { alone: true, ..BedOptions::default() }).await;
    bed.execute("SET GLOBAL log_output = 'TABLE'").await;
    bed.execute("SET GLOBAL general_log = ON").await;
    bed.osb().provision("i1").await.expect(201);
    bed.osb().bind("i1", "b1").await.expect(201);
    bed.osb().unbind("i1", "b1").await.expect(200);
    let seen = async |command: &str, text: &str| {
        let query =
            "SELECT COUNT(*) FROM mysql.general_log WHERE command_type = '{command}' AND CONVERT(argument USING utf8mb4) LIKE '{text}%'";
        bed.number(&query.replace("{command}", command).replace("{text}", text)).await
    };
    assert!(seen("Prepare", "INSERT INTO service_bindings").await > 0, "the log has what is prepared");
    assert!(seen("Query", "CREATE USER").await > 0);
    assert_eq!(seen("Prepare", "CREATE USER").await + seen("Execute", "CREATE USER").await, 0);
}

#[tokio::test]
async fn idle_connections_that_a_firewall_forgot_hold_nobody_up() {
    if !is_mariadb() {
        // the proxy reads along, and without TLS this client cannot log in with caching_sha2_password
        return;
    }
    let server = shared_server();
    let proxy = Proxy::start(&server.endpoint).await;
    let settings = json!({"mysql": {"hosts": [format!("127.0.0.1:{}", proxy.port)], "tls": {"mode": "disabled"}}});
    let bed = Bed::with(BedOptions { alone: true, settings, ..BedOptions::default() }).await;
    let mysql = Mysql::new(&Settings::load(Some(&bed.config), []).unwrap().mysql);
    let id = InstanceId::from_stored("i1".to_owned());
    // at once, so each on a connection of its own
    for found in join_all((0..AT_ONCE).map(|_| instances::find(&mysql, &id))).await {
        assert!(found.unwrap().is_none());
    }
    proxy.forget();
    // what was used within a second is not asked whether it lives
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(instances::find(&mysql, &id).await.unwrap().is_none());
}
