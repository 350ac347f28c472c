use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, Bed, BedOptions, Osb, eventually, is_mariadb, own_server};

async fn ready(osb: &Osb) -> Answer {
    osb.send(osb.bare(Method::GET, "/ready")).await
}

#[tokio::test]
async fn without_a_database_the_broker_starts_says_why_and_recovers_by_itself() {
    let mut server = own_server().await;
    let mut bed = Bed::prepare(&server, &BedOptions { enforce: true, ..BedOptions::default() }).await;
    server.process.halt().await;
    bed.start_broker().await;
    let osb = bed.osb();
    osb.send(osb.bare(Method::GET, "/health")).await.expect(200);
    let reasons = ready(osb).await.expect(503);
    assert!(reasons["reasons"][0].as_str().unwrap().contains("not available"), "{reasons}");
    osb.get("/v2/catalog").await.expect(200);
    let answer = osb.provision("i1").await;
    assert_eq!(answer.headers["retry-after"], "5");
    let body = answer.expect(503);
    assert!(!body.to_string().contains("127.0.0.1"), "no address leaves the house: {body}");
    server.process.restart().await.unwrap();
    eventually("the broker is ready", async || (ready(osb).await.status == 200).then_some(())).await;
    osb.provision("i1").await.expect(201);

    server.process.halt().await;
    osb.get("/v2/service_instances/i1").await.expect(503);
    osb.provision("i1").await.expect(503);
    server.process.restart().await.unwrap();
    eventually("the broker works again", async || (osb.provision("i1").await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn a_database_that_hangs_hangs_nobody() {
    let server = own_server().await;
    let bed = Bed::on(&server, BedOptions::default()).await;
    let osb = bed.osb();
    osb.provision("i1").await.expect(201);
    server.process.pause();
    let started = Instant::now();
    let reasons = ready(osb).await.expect(503);
    assert!(reasons["reasons"][0].as_str().unwrap().contains("does not answer"), "{reasons}");
    osb.bind("i1", "b1").await.expect(503);
    osb.get("/v2/service_instances/i1").await.expect(503);
    // each within its own limit (2, 10 and 10 s): far from the minute after which a platform gives up
    assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());
    server.process.resume();
    eventually("the broker works again", async || (osb.bind("i1", "b1").await.status < 300).then_some(())).await;
    assert_eq!(bed.number("SELECT COUNT(*) FROM service_bindings WHERE state = 'ready'").await, 1);
}

#[tokio::test]
async fn a_server_that_is_killed_forgets_nothing_that_was_promised() {
    let mut server = own_server().await;
    let bed = Bed::on(&server, BedOptions::default()).await;
    let osb = bed.osb();
    for i in 0..5 {
        osb.provision(&format!("i{i}")).await.expect(201);
    }
    let bound = osb.bind("i0", "b1").await.expect(201);
    server.process.kill_hard().await;
    osb.provision("i9").await.expect(503);
    server.process.restart().await.unwrap();
    eventually("the broker works again", async || (ready(osb).await.status == 200).then_some(())).await;
    assert_eq!(osb.bind("i0", "b1").await.expect(200), bound);
    for i in 0..5 {
        osb.provision(&format!("i{i}")).await.expect(200);
    }
    osb.provision("i9").await;
    assert_eq!(bed.reserved_mb().await, 30);
}

#[tokio::test]
async fn a_read_only_server_is_not_ready() {
    let server = own_server().await;
    let bed = Bed::on(&server, BedOptions::default()).await;
    // MySQL's CONNECTION_ADMIN, which the broker has, may write all the same: only super_read_only stops it
    let variable = if is_mariadb() { "read_only" } else { "super_read_only" };
    bed.execute(&format!("SET GLOBAL {variable} = ON")).await;
    let reasons = ready(bed.osb()).await.expect(503);
    assert!(reasons["reasons"][0].as_str().unwrap().contains("read-only"), "{reasons}");
    bed.osb().provision("i1").await.expect(503);
    bed.execute("SET GLOBAL read_only = OFF").await;
    bed.execute(&format!("SET GLOBAL {variable} = OFF")).await;
    bed.osb().provision("i1").await.expect(201);
}

#[tokio::test]
async fn the_first_node_that_works_is_used() {
    let (mut first, second) = (own_server().await, own_server().await);
    let hosts =
        json!({"mysql": {"hosts": [format!("127.0.0.1:{}", first.process.port()), format!("127.0.0.1:{}", second.process.port())]}});
    let options = BedOptions { settings: hosts, ..BedOptions::default() };
    let mut bed = Bed::prepare(&first, &options).await;
    bed.also_on(&second).await;
    bed.start_broker().await;
    let osb = bed.osb().clone();
    eventually("the broker is ready", async || (ready(&osb).await.status == 200).then_some(())).await;
    first.process.halt().await;
    eventually("the broker has moved on", async || (ready(&osb).await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn a_full_disk_is_an_outage_and_sells_nothing() {
    let bed = Bed::new().await;
    // what the server says then, without filling a disk for it
    let full = "CREATE TRIGGER full BEFORE INSERT ON service_instances FOR EACH ROW \
                SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1114, MESSAGE_TEXT = 'The table is full'";
    bed.execute(full).await;
    let answer = bed.osb().provision("i1").await;
    assert_eq!((answer.status, answer.headers.contains_key("retry-after")), (503, true), "{:?}", answer.body);
    bed.execute("DROP TRIGGER full").await;
    assert_eq!(bed.reserved_mb().await, 0);
    bed.osb().provision("i1").await.expect(201);
}
