//! What is too long for the test command: see `scripts/load`. Nothing is asserted of time; errors and memory are.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::support::bed::{PLAN_LARGE, PLAN_SMALL, SERVICE};
use crate::support::osb::{Answer, instance};
use crate::support::{Bed, BedOptions, Osb};

const CLIENTS: usize = 32;

type Tally = BTreeMap<(&'static str, u16), Vec<Duration>>;

async fn timed(tally: &mut Tally, verb: &'static str, wanted: u16, request: impl Future<Output = Answer>) {
    let began = Instant::now();
    let answer = request.await;
    tally.entry((verb, answer.status)).or_default().push(began.elapsed());
    answer.expect(wanted);
}

async fn life(osb: &Osb, id: &str, tally: &mut Tally) {
    timed(tally, "provision", 201, osb.provision(id)).await;
    timed(tally, "provision again", 200, osb.provision(id)).await;
    timed(tally, "bind", 201, osb.bind(id, "b1")).await;
    let path = instance(id);
    timed(tally, "fetch", 200, osb.get(&path)).await;
    for plan in [PLAN_LARGE, PLAN_SMALL] {
        timed(tally, "update", 200, osb.patch(&path, &json!({"service_id": SERVICE, "plan_id": plan}))).await;
    }
    timed(tally, "unbind", 200, osb.unbind(id, "b1")).await;
    timed(tally, "deprovision", 200, osb.deprovision(id)).await;
    timed(tally, "deprovision again", 410, osb.deprovision(id)).await;
}

fn print(tally: &mut Tally) {
    for ((verb, status), times) in tally {
        times.sort_unstable();
        let at = |share: f64| {
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
            let index = ((times.len() - 1) as f64 * share) as usize;
            times[index]
        };
        eprintln!("{verb:20} {status} {:8} requests, median {:?}, 99 % {:?}, longest {:?}", times.len(), at(0.5), at(0.99), at(1.0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: scripts/load"]
async fn mixed_verbs_of_32_clients_through_two_brokers() {
    let seconds = std::env::var("LOAD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1800);
    let settings = json!({"logging": {"level": "info"}});
    let bed = Bed::with(BedOptions { brokers: 2, sellable_mb: 1_000_000, settings, ..BedOptions::default() }).await;
    let began = Instant::now();
    let memory = || bed.brokers.iter().map(crate::support::BrokerProcess::resident_kb).collect::<Vec<_>>();
    let warm = Duration::from_secs(seconds / 10);
    let clients = (0..CLIENTS).map(|client| {
        let osb = bed.clients[client % bed.clients.len()].clone();
        tokio::spawn(async move {
            let mut tally = Tally::new();
            let mut round = 0;
            while began.elapsed() < Duration::from_secs(seconds) {
                life(&osb, &format!("i-{client}-{round}"), &mut tally).await;
                round += 1;
            }
            tally
        })
    });
    let sampling = async {
        tokio::time::sleep(warm).await;
        memory()
    };
    let (tallies, warmed) = tokio::join!(join_all(clients), sampling);
    let mut all = Tally::new();
    for tally in tallies {
        for (key, mut times) in tally.unwrap() {
            all.entry(key).or_default().append(&mut times);
        }
    }
    print(&mut all);
    let requests: usize = all.values().map(Vec::len).sum();
    eprintln!(
        "{requests} requests in {:?}; resident kB of each broker after a tenth of it {warmed:?}, at the end {:?}",
        began.elapsed(),
        memory()
    );
    assert_eq!(bed.reserved_mb().await, 0);
    for (first, last) in warmed.iter().zip(memory()) {
        assert!(last < first * 3 / 2, "memory grows: {first} kB, then {last} kB");
    }
}

#[tokio::test]
#[ignore = "long: scripts/load"]
async fn a_provision_costs_the_same_with_100_000_instances() {
    let bed = Bed::with(BedOptions { sellable_mb: 10_000_000, ..BedOptions::default() }).await;
    let measure = async |round: &str| {
        let mut tally = Tally::new();
        for i in 0..300 {
            timed(&mut tally, "provision", 201, bed.osb().provision(&format!("{round}-{i}"))).await;
            timed(&mut tally, "deprovision", 200, bed.osb().deprovision(&format!("{round}-{i}"))).await;
        }
        print(&mut tally);
        tally[&("provision", 201)][150]
    };
    measure("warm").await;
    let empty = measure("empty").await;
    bed.execute(&format!(
        "INSERT INTO {own}.service_instances (guid, service_guid, plan_guid, max_storage_mb, db_name, organization_guid, space_guid, state, reserved_bytes) \
         WITH RECURSIVE d AS (SELECT 0 AS n UNION ALL SELECT n + 1 FROM d WHERE n < 315) \
         SELECT CONCAT('filler-', a.n, '-', b.n), '{SERVICE}', '{PLAN_SMALL}', 5, CONCAT('cf_filler_', a.n, '_', b.n), 'o', 's', 'ready', 1 FROM d a JOIN d b LIMIT 100000; \
         UPDATE {own}.capacity SET reserved_bytes = (SELECT SUM(reserved_bytes) FROM {own}.service_instances)",
        own = bed.database
    ))
    .await;
    let full = measure("full").await;
    eprintln!("a provision with 0 rows {empty:?}, with 100,000 rows {full:?}: ratio {:.2}", full.as_secs_f64() / empty.as_secs_f64());
}
