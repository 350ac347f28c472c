//! A network that fails by halves between the broker and its server.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use cf_mysql_broker::broker::{Broker, OsbError};
use cf_mysql_broker::mysql::Mysql;
use cf_mysql_broker::settings::Settings;
use futures_util::future::join_all;
use serde_json::json;

use crate::support::bed::{PLAN_LARGE, SERVICE, app};
use crate::support::osb::instance;
use crate::support::proxy::{Proxy, Weather};
use crate::support::{Bed, BedOptions, Osb, eventually, is_mariadb, shared_server};

/// A broker that reaches its server through the proxy only, and without TLS: the proxy reads along.
async fn behind_a_proxy() -> (Proxy, Bed) {
    let server = shared_server();
    let proxy = Proxy::start(&server.endpoint).await;
    let settings = json!({"mysql": {
        "hosts": [format!("127.0.0.1:{}", proxy.port)],
        "advertised_hosts": [format!("127.0.0.1:{}", server.endpoint.port)],
        "tls": {"mode": "disabled"},
    }});
    (proxy, Bed::with(BedOptions { settings, ..BedOptions::default() }).await)
}

async fn change_plan(osb: &Osb, id: &str) -> u16 {
    osb.patch(&instance(id), &json!({"service_id": SERVICE, "plan_id": PLAN_LARGE})).await.status
}

#[tokio::test]
async fn an_answer_that_is_lost_changes_nothing_for_the_platform() {
    if !is_mariadb() {
        // without TLS this client cannot log in with caching_sha2_password
        return;
    }
    let (proxy, bed) = behind_a_proxy().await;
    let osb = bed.osb();
    let (mut lost, mut reserved) = (0, 0);
    let mut lose = |text| {
        proxy.turn(Weather::LoseAnswerTo(text));
        lost += 1;
        (format!("i{lost}"), lost)
    };
    for text in ["COMMIT", "INSERT INTO service_instances", "UPDATE capacity", "CREATE DATABASE", "SET state = 'ready'"] {
        let (id, lost) = lose(text);
        osb.provision(&id).await.expect(201);
        assert_eq!(proxy.lost(), lost, "{text}");
        osb.provision(&id).await.expect(200);
        assert_eq!(bed.databases(&bed.database_of(&id).await).await, 1, "{text}");
        reserved += 5;
    }
    assert_eq!(bed.reserved_mb().await, reserved);
    for text in ["COMMIT", "INSERT INTO service_bindings", "CREATE USER", "SET state = 'ready'"] {
        let (id, lost) = lose(text);
        proxy.turn(Weather::Fair);
        osb.provision(&id).await.expect(201);
        proxy.turn(Weather::LoseAnswerTo(text));
        app(&osb.bind(&id, "b1").await.expect(201)).await.unwrap();
        assert_eq!(proxy.lost(), lost, "{text}");
        reserved += 5;
    }
    for text in ["COMMIT", "SET state = 'updating'", "ALTER USER", "SET plan_guid"] {
        let (id, lost) = lose(text);
        proxy.turn(Weather::Fair);
        osb.provision(&id).await.expect(201);
        osb.bind(&id, "b1").await.expect(201);
        proxy.turn(Weather::LoseAnswerTo(text));
        assert_eq!(change_plan(osb, &id).await, 200, "{text}");
        assert_eq!(proxy.lost(), lost, "{text}");
        reserved += 20;
    }
    assert_eq!(bed.reserved_mb().await, reserved);
    for text in ["SET state = 'deleting'", "DROP USER", "DELETE FROM service_bindings", "COMMIT"] {
        let (id, lost) = lose(text);
        proxy.turn(Weather::Fair);
        osb.provision(&id).await.expect(201);
        osb.bind(&id, "b1").await.expect(201);
        proxy.turn(Weather::LoseAnswerTo(text));
        osb.unbind(&id, "b1").await.expect(200);
        assert_eq!(proxy.lost(), lost, "{text}");
        reserved += 5;
    }
    for text in ["UPDATE service_instances SET state", "DROP DATABASE", "DELETE FROM service_instances", "COMMIT"] {
        let (id, lost) = lose(text);
        proxy.turn(Weather::Fair);
        osb.provision(&id).await.expect(201);
        proxy.turn(Weather::LoseAnswerTo(text));
        osb.deprovision(&id).await.expect(200);
        assert_eq!(proxy.lost(), lost, "{text}");
    }
    assert_eq!(bed.reserved_mb().await, reserved);
}

#[tokio::test]
async fn connections_that_are_reset_and_packets_that_are_late_are_nobodys_concern() {
    if !is_mariadb() {
        return;
    }
    let (proxy, bed) = behind_a_proxy().await;
    bed.osb().provision("i1").await.expect(201);
    proxy.turn(Weather::Reset);
    bed.osb().provision("i2").await.expect(503);
    proxy.turn(Weather::Fair);
    eventually("the broker works again", async || (bed.osb().provision("i2").await.status < 300).then_some(())).await;
    proxy.turn(Weather::Slow(Duration::from_millis(20)));
    bed.osb().bind("i2", "b1").await.expect(201);
    bed.osb().deprovision("i2").await.expect(200);
    assert_eq!(bed.reserved_mb().await, 5);
}

#[tokio::test]
async fn a_network_that_swallows_everything_is_answered_in_time_and_survived() {
    if !is_mariadb() {
        return;
    }
    let (proxy, bed) = behind_a_proxy().await;
    let osb = bed.osb();
    osb.provision("i1").await.expect(201);
    proxy.turn(Weather::Silent);
    let answer = osb.provision("i2").await;
    assert!(answer.headers.contains_key("retry-after"), "{}", answer.body);
    answer.expect(503);
    proxy.turn(Weather::Fair);
    eventually("the broker works again", async || (bed.osb().provision("i2").await.status < 300).then_some(())).await;
    assert_eq!(bed.reserved_mb().await, 10);
}

#[tokio::test]
async fn an_answer_that_a_dead_connection_keeps_is_asked_for_on_another() {
    if !is_mariadb() {
        // without TLS this client cannot log in with caching_sha2_password
        return;
    }
    let (proxy, bed) = behind_a_proxy().await;
    // the server is well, and nobody says that this connection is not: what a proxy leaves behind that is gone
    proxy.turn(Weather::HangAt("INSERT INTO service_instances"));
    bed.osb().provision("i1").await.expect(201);
    assert_eq!(bed.reserved_mb().await, 5);
}

#[tokio::test]
async fn whoever_waits_for_the_figures_of_a_silent_server_waits_once() {
    if !is_mariadb() {
        return;
    }
    let (proxy, bed) = behind_a_proxy().await;
    let settings = Settings::load(Some(&bed.config), []).unwrap();
    let broker = Broker::new(Mysql::new(&settings.mysql), Arc::new(ArcSwap::from_pointee(settings)));
    proxy.turn(Weather::Silent);
    let before = proxy.accepted();
    for report in join_all((0..8).map(|_| broker.capacity_report())).await {
        assert!(matches!(report, Err(OsbError::Unavailable(_))), "{report:?}");
    }
    let looks = proxy.accepted() - before;
    assert!((1..8).contains(&looks), "each look, one after the other, makes a connection at least: {looks}");
}
