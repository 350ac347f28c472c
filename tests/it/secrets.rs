use serde_json::json;

use crate::support::bed::{PLAN_LARGE, SERVICE, app};
use crate::support::osb::{bind_body, binding, instance};
use crate::support::{Bed, BedOptions, BrokerProcess, eventually};

#[tokio::test]
async fn no_secret_is_ever_said() {
    let options = BedOptions {
        alone: true,
        enforce: true,
        settings: json!({"logging": {"level": "trace"}, "server": {"operation_lease": 3}}),
        ..BedOptions::default()
    };
    let bed = Bed::with(options).await;
    let osb = bed.osb();
    let mut secrets = bed.secrets.clone();
    osb.provision("i1").await.expect(201);
    for id in ["b1", "b2"] {
        let bound = osb.bind("i1", id).await.expect(201);
        secrets.push(bound["credentials"]["password"].as_str().unwrap().to_owned());
        app(&bound).await.unwrap().number("SELECT 1").await.unwrap();
        osb.get(&binding("i1", id)).await.expect(200);
    }
    osb.patch(&instance("i1"), &json!({"service_id": SERVICE, "plan_id": PLAN_LARGE})).await.expect(200);
    // a statement with a password that the server refuses: its text would be quoted in the server's error
    bed.execute(&format!("REVOKE CREATE USER ON *.* FROM '{}'@'%'", bed.account)).await;
    bed.end_sessions(&bed.account).await;
    let bind = osb.request(reqwest::Method::PUT, &binding("i1", "b3")).header("X-Broker-API-Request-Identity", "the-third-bind");
    let failed = osb.send(bind.json(&bind_body())).await;
    assert_eq!(failed.headers["X-Broker-API-Request-Identity"], "the-third-bind");
    let failed = failed.expect(500);
    assert!(failed["description"].as_str().is_some_and(|text| text.ends_with("under the-third-bind.")), "where its cause is: {failed}");
    bed.execute(&format!("GRANT CREATE USER ON *.* TO '{}'@'%'", bed.account)).await;
    bed.end_sessions(&bed.account).await;
    // secrets in the wrong places
    let misplaced = "misplaced-secret-0123456789";
    osb.put(&instance(misplaced), &json!({"service_id": misplaced, "parameters": {"charset": misplaced}})).await.expect(400);
    osb.patch(&instance("i1"), &json!({"service_id": SERVICE, "parameters": {"read-only": misplaced}})).await.expect(400);
    osb.unbind("i1", "b1").await.expect(200);
    // the bind that failed could not be undone either: it is under its lease yet
    eventually("the instance is deleted", async || (osb.deprovision("i1").await.status == 200).then_some(())).await;

    bed.change_settings(&json!({"server": {"port": "eighty"}}));
    let (_, refused) = BrokerProcess::start("check-config", &bed.config).ended().await;
    let mut output = refused;
    output.extend(bed.brokers[0].output());
    output.push(osb.request(reqwest::Method::GET, "/metrics").send().await.unwrap().text().await.unwrap());
    assert!(output.iter().any(|line| line.contains("\"status\":201")), "the log has something to search");
    for line in &output {
        for secret in &secrets {
            assert!(!line.contains(secret.as_str()), "{line}");
        }
    }
}

#[tokio::test]
async fn every_request_is_one_line_in_the_log() {
    let mut bed = Bed::alone().await;
    let identity = "eyJ1c2VyX2lkIjoidXNlci0xIn0=";
    let request = bed
        .osb()
        .request(reqwest::Method::PUT, &instance("i1"))
        .json(&crate::support::osb::provision_body(crate::support::bed::PLAN_SMALL))
        .header("X-Broker-API-Request-Identity", "request-1")
        .header("X-Broker-API-Originating-Identity", format!("cloudfoundry {identity}"))
        .header("X-Vcap-Request-Id", "vcap-1");
    bed.osb().send(request).await.expect(201);
    bed.brokers[0].wait_for("its line", |line| (line.contains("request-1") && line.contains("duration_ms")).then_some(())).await;
    let output = bed.brokers[0].output();
    let lines: Vec<serde_json::Value> = output
        .iter()
        .filter(|line| line.contains("request-1"))
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &serde_json::Value| line["message"] == "request")
        .collect();
    assert_eq!(lines.len(), 1, "{output:#?}");
    let line = &lines[0];
    for (key, value) in [
        ("route", json!("/v2/service_instances/{instance_id}")),
        ("status", json!(201)),
        ("outcome", json!("ok")),
        ("instance", json!("i1")),
        ("platform", json!("test")),
        ("user", json!("user-1")),
        ("platform_request", json!("vcap-1")),
    ] {
        assert_eq!(line[key], value, "{key}: {line}");
    }
    assert!(line["duration_ms"].is_u64());
    assert_eq!(line["span"]["request_identity"], "request-1", "{line}");
}
