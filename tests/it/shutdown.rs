use std::io::Write as _;
use std::net::TcpStream;

use base64::Engine as _;

use crate::support::bed::{ADMIN, PLAN_SMALL};
use crate::support::osb::provision_body;
use crate::support::{Bed, eventually};

async fn release(mut root: sqlx::MySqlConnection) {
    sqlx::raw_sql("COMMIT").execute(&mut root).await.unwrap();
}

#[tokio::test]
async fn sigterm_lets_running_work_end() {
    let mut bed = Bed::alone().await;
    let held = bed.hold_the_counter().await;
    let osb = bed.osb().clone();
    let provisioning = tokio::spawn(async move { osb.provision("i1").await });
    bed.reservation_waits().await;
    let broker = bed.brokers.remove(0);
    broker.signal(rustix::process::Signal::TERM);
    let osb = bed.osb();
    eventually("no new connections", async || osb.try_send(osb.bare(reqwest::Method::GET, "/health")).await.is_err().then_some(())).await;
    release(held).await;
    assert_eq!(provisioning.await.unwrap().status, 201);
    let (status, output) = { broker }.ended().await;
    assert!(status.success(), "{output:#?}");
    assert_eq!(bed.number("SELECT COUNT(*) FROM service_instances WHERE state = 'ready'").await, 1);
}

#[tokio::test]
async fn a_client_that_resets_its_connection_stops_nothing_half_way() {
    let bed = Bed::alone().await;
    let held = bed.hold_the_counter().await;
    let body = provision_body(PLAN_SMALL).to_string();
    let credentials = base64::engine::general_purpose::STANDARD.encode(format!("{ADMIN}:{}", bed.secrets[0]));
    let address = bed.osb().url.trim_start_matches("http://").to_owned();
    let mut client = TcpStream::connect(address).unwrap();
    write!(
        client,
        "PUT /v2/service_instances/i1 HTTP/1.1\r\nHost: broker\r\nAuthorization: Basic {credentials}\r\nX-Broker-API-Version: 2.17\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    bed.reservation_waits().await;
    rustix::net::sockopt::set_socket_linger(&client, Some(std::time::Duration::ZERO)).unwrap();
    drop(client);
    release(held).await;
    eventually("the provision is finished", async || {
        (bed.number("SELECT COUNT(*) FROM service_instances WHERE state = 'ready'").await == 1).then_some(())
    })
    .await;
    // nobody was answered, and the trail has it all the same
    eventually("the trail is written", async || {
        let entry =
            "SELECT COUNT(*) FROM audit_trail WHERE verb = 'provision' AND instance_guid = 'i1' AND platform = 'test' AND status = 499";
        (bed.number(entry).await == 1).then_some(())
    })
    .await;
    bed.osb().provision("i1").await.expect(200);
}
