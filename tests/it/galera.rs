//! A cluster of three nodes, with the broker's `mysql.hosts` naming all of them.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use crate::support::bed::app;
use crate::support::{Bed, BedOptions, Osb, TestServer, cluster, eventually, is_galera};

/// Brokers that each begin with another node.
async fn one_broker_a_node(server: &TestServer, options: BedOptions) -> Bed {
    let mut bed = Bed::prepare(server, &options).await;
    for first in 0..3 {
        let mut hosts = server.hosts();
        hosts.rotate_left(first);
        bed.change_settings(&json!({"mysql": {"hosts": hosts}}));
        bed.start_broker().await;
    }
    bed.all_ready().await;
    bed
}

/// Asks until it is done. Meanwhile there may be nothing but "later", said as the specification says it.
async fn until_done(osb: &Osb, id: &str) {
    eventually("the broker works", async || {
        let answer = osb.provision(id).await;
        match answer.status {
            200 | 201 => Some(()),
            503 => {
                assert!(answer.headers.contains_key("retry-after"), "{}", answer.body);
                None
            }
            422 => None,
            other => panic!("{other}: {}", answer.body),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_on_every_node_sell_exactly_what_there_is() {
    if !is_galera() {
        return;
    }
    let server = crate::support::shared_server();
    let bed = one_broker_a_node(server, BedOptions { sellable_mb: 100, ..BedOptions::default() }).await;
    let clients = (0..24).map(|client| {
        let osb = bed.clients[client % 3].clone();
        tokio::spawn(async move {
            let mut sold = 0;
            for i in 0..2 {
                let answer = osb.provision(&format!("i-{client}-{i}")).await;
                assert!([201, 507].contains(&answer.status), "{}: {}", answer.status, answer.body);
                sold += u32::from(answer.status == 201);
            }
            sold
        })
    });
    let sold: u32 = join_all(clients).await.into_iter().map(Result::unwrap).sum();
    assert_eq!(sold, 20, "20 plans of 5 MB in 100 MB");
    assert_eq!(bed.reserved_mb().await, 100);
}

#[tokio::test]
async fn sessions_end_on_every_node() {
    if !is_galera() {
        return;
    }
    let server = crate::support::shared_server();
    let bed = Bed::with(BedOptions::default()).await;
    let osb = bed.osb();
    osb.provision("i1").await.expect(201);
    let mut bound = osb.bind("i1", "b1").await.expect(201);
    let mut sessions = Vec::new();
    for host in server.hosts() {
        bound["credentials"]["port"] = host.split(':').nth(1).unwrap().parse::<u16>().unwrap().into();
        let session = eventually("the account is there on every node", async || app(&bound).await.ok()).await;
        sessions.push(session);
    }
    osb.unbind("i1", "b1").await.expect(200);
    for (node, session) in sessions.iter_mut().enumerate() {
        assert!(session.number("SELECT 1").await.is_err(), "node {node}");
    }
}

#[tokio::test]
async fn a_node_that_is_killed_or_hangs_is_left_at_once_and_may_come_again() {
    if !is_galera() {
        return;
    }
    let mut server = cluster().await;
    let bed = Bed::on(&server, BedOptions { settings: json!({"server": {"operation_lease": 5}}), ..BedOptions::default() }).await;
    let osb = bed.osb();
    osb.provision("i1").await.expect(201);

    server.process.kill_hard().await;
    until_done(osb, "i2").await;
    server.process.restart().await.unwrap();
    server.all_synced().await;

    // the broker is on the second or the third by now: freeze both in turn, so that it has to go back to the first
    for index in [1, 2] {
        server.node(index).pause();
        until_done(osb, &format!("i3-{index}")).await;
        server.node(index).resume();
        server.all_synced().await;
    }
    // the node that bed asks is a member again and knows everything
    assert_eq!(bed.number("SELECT COUNT(*) FROM service_instances WHERE state = 'ready'").await, 4);
    assert_eq!(bed.reserved_mb().await, 20);
}

#[tokio::test]
async fn a_node_without_a_quorum_is_not_ready_and_recovers_by_itself() {
    if !is_galera() {
        return;
    }
    let mut server = cluster().await;
    let bed = Bed::on(&server, BedOptions::default()).await;
    let osb = bed.osb();
    osb.provision("i1").await.expect(201);
    server.node(1).kill_hard().await;
    server.node(2).kill_hard().await;
    let ready = async || osb.send(osb.bare(Method::GET, "/ready")).await;
    eventually("not ready", async || (ready().await.status == 503).then_some(())).await;
    let answer = osb.provision("i2").await;
    assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
    answer.expect(503);
    // nobody else forms a cluster: the one that is left is told to
    bed.execute("SET GLOBAL wsrep_provider_options = 'pc.bootstrap=YES'").await;
    eventually("ready", async || (ready().await.status == 200).then_some(())).await;
    until_done(osb, "i2").await;
    tokio::time::timeout(Duration::from_secs(60), osb.deprovision("i1")).await.unwrap().expect(200);
}
