//! What Cloud Controller really does (section 13 of the requirements).

use reqwest::Method;
use serde_json::json;

use crate::support::bed::{PLAN_LARGE, PLAN_SMALL, SERVICE};
use crate::support::osb::{instance, provision_body};
use crate::support::{Bed, BedOptions, eventually};

#[tokio::test]
async fn its_clean_up_after_a_507_ends_at_once() {
    let bed = Bed::with(BedOptions { sellable_mb: 4, ..BedOptions::default() }).await;
    let osb = bed.osb().speaking("2.15");
    let request = osb.request(Method::PUT, &format!("{}?accepts_incomplete=true", instance("i1"))).json(&provision_body(PLAN_SMALL));
    osb.send(request).await.expect(507);
    let clean_up = format!("{}?service_id={SERVICE}&plan_id={PLAN_SMALL}&accepts_incomplete=true", instance("i1"));
    assert_eq!(osb.send(osb.request(Method::DELETE, &clean_up)).await.expect(410), json!({}));
}

#[tokio::test]
async fn nothing_is_created_after_a_delete_was_answered() {
    let bed = Bed::with(BedOptions { brokers: 2, ..BedOptions::default() }).await;
    // the create hangs in its reservation, the platform gives up and sends DELETE to the other broker
    let mut root = bed.hold_the_counter().await;
    let creating = {
        let osb = bed.clients[0].clone();
        tokio::spawn(async move { osb.provision("i1").await })
    };
    bed.reservation_waits().await;
    let deleting = {
        let osb = bed.clients[1].clone();
        tokio::spawn(async move { osb.deprovision("i1").await })
    };
    let waiting = format!(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = '{}' AND INFO LIKE 'INSERT INTO service_instances (guid) VALUES%'",
        bed.account
    );
    if !crate::support::is_galera() {
        // on a cluster both are done at once, and one is refused when it commits
        eventually("the DELETE waits for the reservation", async || (bed.number(&waiting).await > 0).then_some(())).await;
    }
    sqlx::raw_sql("COMMIT").execute(&mut root).await.unwrap();
    let (created, deleted) = (creating.await.unwrap(), deleting.await.unwrap());
    match (created.status, deleted.status) {
        (201, 200) | (422, 410) => {}
        other => panic!("{other:?}: {} {}", created.body, deleted.body),
    }
    assert_eq!(bed.number("SELECT COUNT(*) FROM service_instances").await, 0);
    assert_eq!(bed.reserved_mb().await, 0);
}

#[tokio::test]
async fn a_delete_while_the_create_works_waits_or_is_told_to_come_again() {
    let bed = Bed::with(BedOptions { brokers: 2, ..BedOptions::default() }).await;
    // the create hangs at its last step: its row cannot be written
    bed.osb().provision("other").await.expect(201);
    let mut root = bed.hold_the_counter().await;
    let creating = {
        let osb = bed.clients[0].clone();
        tokio::spawn(async move { osb.provision("i1").await })
    };
    bed.reservation_waits().await;
    sqlx::raw_sql("COMMIT").execute(&mut root).await.unwrap();
    creating.await.unwrap().expect(201);
    bed.clients[1].deprovision("i1").await.expect(200);
    bed.clients[0].deprovision("i1").await.expect(410);
}

#[tokio::test]
async fn every_patch_has_the_current_plan_and_empty_parameters() {
    let bed = Bed::new().await;
    let osb = bed.osb().speaking("2.15");
    osb.provision("i1").await.expect(201);
    let rename = json!({
        "service_id": SERVICE, "plan_id": PLAN_SMALL, "parameters": {},
        "previous_values": {"plan_id": PLAN_SMALL, "service_id": SERVICE, "organization_id": "o1", "space_id": "s1", "maintenance_info": null},
        "context": {"platform": "cloudfoundry", "organization_guid": "o1", "organization_name": "org", "space_guid": "s1", "space_name": "space", "instance_name": "renamed"},
    });
    let patch = async |body: &serde_json::Value| {
        osb.send(osb.request(Method::PATCH, &format!("{}?accepts_incomplete=true", instance("i1"))).json(body)).await
    };
    assert_eq!(patch(&rename).await.expect(200), json!({}));
    assert_eq!(osb.get(&instance("i1")).await.expect(200)["plan_id"], PLAN_SMALL);
    assert_eq!(bed.number("SELECT COUNT(*) FROM service_instances WHERE context LIKE '%renamed%' AND plan_guid = 'plan-small'").await, 1);
    let mut upgrade = rename.clone();
    upgrade["plan_id"] = json!(PLAN_LARGE);
    patch(&upgrade).await.expect(200);
    osb.deprovision("i1").await.expect(200);
}

#[tokio::test]
async fn no_answer_has_a_null() {
    let bed = Bed::new().await;
    let osb = bed.osb();
    osb.provision("i1").await.expect(201);
    let answers = [
        osb.get("/v2/catalog").await,
        osb.provision("i1").await,
        osb.get(&instance("i1")).await,
        osb.bind("i1", "b1").await,
        osb.get("/v2/service_instances/i1/service_bindings/b1").await,
        osb.get("/v2/service_instances/i1/last_operation").await,
        osb.get("/v2/service_instances/nowhere").await,
    ];
    for answer in answers {
        assert_eq!(answer.headers["content-type"], "application/json");
        assert!(!answer.body.to_string().contains("null"), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_plan_that_left_the_catalog_keeps_its_instances() {
    let mut bed = Bed::new().await;
    bed.osb().put(&instance("i1"), &provision_body(PLAN_LARGE)).await.expect(201);
    let services = json!([{"id": SERVICE, "name": "p-mysql", "description": "d",
        "plans": [{"id": PLAN_SMALL, "name": "small", "description": "d", "max_storage_mb": 5}]}]);
    bed.change_settings(&json!({"services": services}));
    bed.start_broker().await;
    let osb = bed.clients.last().unwrap();
    let mut body = crate::support::osb::bind_body();
    body["plan_id"] = json!(PLAN_LARGE);
    osb.put(&crate::support::osb::binding("i1", "b1"), &body).await.expect(201);
    osb.get(&instance("i1")).await.expect(200);
    osb.unbind("i1", "b1").await.expect(200);
    osb.put(&instance("i2"), &provision_body(PLAN_LARGE)).await.expect(400);
    osb.deprovision("i1").await.expect(200);
}
