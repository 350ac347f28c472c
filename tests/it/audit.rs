use std::ffi::OsStr;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::support::bed::{PLAN_SMALL, SERVICE};
use crate::support::broker::run;
use crate::support::osb::{bind_body, binding, instance, provision_body};
use crate::support::{Bed, eventually};

fn trail(bed: &Bed, more: &[&str]) -> Vec<Value> {
    let mut arguments: Vec<&OsStr> = vec!["audit".as_ref(), "--config".as_ref(), bed.config.as_os_str(), "--json".as_ref()];
    arguments.extend(more.iter().map(OsStr::new));
    let (code, stdout, stderr) = run(&arguments, &[]);
    assert_eq!(code, 0, "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

#[tokio::test]
async fn every_change_is_in_the_trail_with_who_and_how() {
    // two brokers write in their own time, so the order of their entries is none
    let bed = Bed::alone().await;
    let osb = bed.osb();
    let request = osb
        .request(reqwest::Method::PUT, &instance("i1"))
        .json(&provision_body(PLAN_SMALL))
        .header("X-Broker-API-Request-Identity", "request-1")
        .header("X-Broker-API-Originating-Identity", "cloudfoundry eyJ1c2VyX2lkIjoidXNlci0xIn0=");
    osb.send(request).await.expect(201);
    osb.bind("i1", "b1").await.expect(201);
    osb.patch(&instance("i1"), &json!({"service_id": SERVICE, "parameters": {"x": 1}})).await.expect(400);
    osb.unbind("i1", "b1").await.expect(200);
    osb.deprovision("i1").await.expect(200);
    osb.deprovision("i2").await.expect(410);
    osb.get(&instance("i1")).await.expect(404);
    let all = eventually("the trail is written", async || Some(trail(&bed, &[])).filter(|all| all.len() >= 6)).await;
    let seen: Vec<_> =
        all.iter().rev().map(|e| (e["verb"].as_str().unwrap(), e["status"].as_u64().unwrap(), e["outcome"].as_str().unwrap())).collect();
    assert_eq!(
        seen,
        [
            ("provision", 201, "ok"),
            ("bind", 201, "ok"),
            ("update", 400, "refused"),
            ("unbind", 200, "ok"),
            ("deprovision", 200, "ok"),
            ("deprovision", 410, "refused")
        ]
    );
    let first = all.last().unwrap();
    assert_eq!((&first["instance"], &first["platform"], &first["request_identity"]), (&json!("i1"), &json!("test"), &json!("request-1")));
    assert_eq!(first["identity"], r#"{"platform":"cloudfoundry","user_id":"user-1"}"#);
    assert_eq!(trail(&bed, &["--instance", "i2"]).len(), 1);
    assert_eq!(trail(&bed, &["--limit", "2"]).len(), 2);
}

#[tokio::test]
async fn a_platform_that_doubles_slashes_is_in_the_trail_under_the_right_names() {
    let bed = Bed::alone().await;
    let osb = bed.osb();
    osb.put(&format!("/{}", instance("i1")), &provision_body(PLAN_SMALL)).await.expect(201);
    osb.put(&format!("/{}", binding("i1", "b1")), &bind_body()).await.expect(201);
    // what could not become a binding was no provision either
    osb.put(&binding("i1", &"b".repeat(300)), &bind_body()).await.expect(400);
    let all = eventually("the trail is written", async || Some(trail(&bed, &[])).filter(|all| all.len() >= 3)).await;
    let seen: Vec<_> = all.iter().rev().map(|e| ["verb", "instance", "binding"].map(|key| e[key].as_str().unwrap())).collect();
    assert_eq!(seen, [["provision", "i1", ""], ["bind", "i1", "b1"], ["bind", "i1", ""]]);
}

#[tokio::test]
async fn an_entry_that_the_table_refuses_is_lost_alone() {
    let bed = Bed::alone().await;
    let osb = bed.osb();
    let groups = json!({"groups": vec!["\u{1f600}".repeat(256); 64]}).to_string();
    let request = osb
        .request(reqwest::Method::PUT, &instance("i1"))
        .json(&provision_body(PLAN_SMALL))
        .header("X-Broker-API-Originating-Identity", format!("cloudfoundry {}", base64::engine::general_purpose::STANDARD.encode(groups)));
    osb.send(request).await.expect(201);
    osb.bind("i1", "b1").await.expect(201);
    let all = eventually("the trail is written", async || Some(trail(&bed, &[])).filter(|all| !all.is_empty())).await;
    assert_eq!(all.iter().map(|entry| entry["verb"].as_str().unwrap()).collect::<Vec<_>>(), ["bind"]);
    let metrics = osb.request(reqwest::Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("cf_mysql_audit_entries_lost_total 1"), "{metrics}");
}

#[tokio::test]
async fn a_stop_writes_what_waits() {
    let mut bed = Bed::alone().await;
    for i in 0..5 {
        bed.osb().provision(&format!("i{i}")).await.expect(201);
    }
    let broker = bed.brokers.remove(0);
    let (status, output) = broker.terminate().await;
    assert!(status.success(), "{output:#?}");
    assert_eq!(trail(&bed, &[]).len(), 5);
}

#[tokio::test]
async fn old_entries_go() {
    let mut bed = Bed::new().await;
    bed.execute(&format!(
        "INSERT INTO {}.audit_trail (at, verb, instance_guid, binding_guid, status, outcome, platform, identity, request_identity) \
         VALUES (UTC_TIMESTAMP() - INTERVAL 366 DAY, 'bind', 'old', '', 201, 'ok', '', '', ''), (UTC_TIMESTAMP() - INTERVAL 364 DAY, 'bind', 'young', '', 201, 'ok', '', '', '')",
        bed.database
    ))
    .await;
    bed.start_broker().await;
    eventually("the old one goes", async || (bed.number("SELECT COUNT(*) FROM audit_trail").await == 1).then_some(())).await;
    assert_eq!(trail(&bed, &[])[0]["instance"], "young");
}
