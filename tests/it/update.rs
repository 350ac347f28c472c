use serde_json::json;

use crate::support::bed::{PLAN_FIXED, PLAN_LARGE, PLAN_SMALL, SERVICE, app};
use crate::support::osb::{instance, provision_body};
use crate::support::{Bed, BedOptions};

fn update_body(plan: &str) -> serde_json::Value {
    json!({"service_id": SERVICE, "plan_id": plan, "parameters": {}, "previous_values": {"plan_id": "stale", "maintenance_info": null}})
}

#[tokio::test]
async fn a_larger_plan_reserves_the_difference_and_applies_its_limits_at_once() {
    let bed = Bed::new().await;
    let osb = bed.osb();
    osb.provision("i1").await.expect(201);
    let bound = osb.bind("i1", "b1").await.expect(201);
    let user = bound["credentials"]["username"].as_str().unwrap();
    let limit = async || bed.number(&format!("SELECT max_user_connections FROM mysql.user WHERE User = '{user}'")).await;
    assert_eq!(limit().await, 10);
    assert_eq!(osb.patch(&instance("i1"), &update_body(PLAN_LARGE)).await.expect(200), json!({}));
    assert_eq!((bed.reserved_mb().await, limit().await), (20, 7));
    assert_eq!(osb.get(&instance("i1")).await.expect(200)["plan_id"], PLAN_LARGE);
    osb.patch(&instance("i1"), &update_body(PLAN_LARGE)).await.expect(200);
    assert_eq!(osb.bind("i1", "b1").await.expect(200), bound, "the plan of a binding may have changed since");
    osb.patch(&instance("i1"), &update_body(PLAN_SMALL)).await.expect(200);
    assert_eq!((bed.reserved_mb().await, limit().await), (5, 10));
    osb.put(&instance("i1"), &provision_body(PLAN_SMALL)).await.expect(200);
}

#[tokio::test]
async fn a_plan_that_does_not_fit_the_disk_changes_nothing() {
    let bed = Bed::with(BedOptions { sellable_mb: 12, ..BedOptions::default() }).await;
    let osb = bed.osb();
    osb.provision("i1").await.expect(201);
    let full = osb.patch(&instance("i1"), &update_body(PLAN_LARGE)).await.expect(507);
    assert_eq!(
        (&full["error"], &full["instance_usable"], &full["update_repeatable"]),
        (&json!("InsufficientCapacity"), &json!(true), &json!(true))
    );
    assert_eq!(bed.reserved_mb().await, 5);
    assert_eq!(osb.get(&instance("i1")).await.expect(200)["plan_id"], PLAN_SMALL);
    let old = osb.speaking("2.15").patch(&instance("i1"), &update_body(PLAN_LARGE)).await.expect(507);
    assert!(old.get("instance_usable").is_none(), "a field of 2.16");
}

#[tokio::test]
async fn a_plan_smaller_than_the_data_is_refused_with_the_figures() {
    let bed = Bed::new().await;
    let osb = bed.osb();
    osb.put(&instance("i1"), &provision_body(PLAN_LARGE)).await.expect(201);
    let mut app = app(&osb.bind("i1", "b1").await.expect(201)).await.unwrap();
    app.execute("CREATE TABLE t (body LONGBLOB)").await.unwrap();
    for _ in 0..8 {
        app.execute("INSERT INTO t VALUES (REPEAT('x', 1048576))").await.unwrap();
    }
    let refused = osb.patch(&instance("i1"), &update_body(PLAN_SMALL)).await.expect(422);
    assert_eq!((&refused["error"], &refused["update_repeatable"]), (&json!("PlanQuotaExceeded"), &json!(true)));
    assert!(refused["description"].as_str().unwrap().contains("5 MB"), "{refused}");
    assert_eq!(bed.reserved_mb().await, 20);
    app.execute("TRUNCATE TABLE t").await.unwrap();
    osb.patch(&instance("i1"), &update_body(PLAN_SMALL)).await.expect(200);
    assert_eq!(bed.reserved_mb().await, 5);
}

#[tokio::test]
async fn what_an_update_cannot_do() {
    let bed = Bed::new().await;
    let osb = bed.osb();
    osb.put(&instance("i1"), &provision_body(PLAN_FIXED)).await.expect(201);
    let refused = osb.patch(&instance("i1"), &update_body(PLAN_LARGE)).await.expect(422);
    assert_eq!((&refused["instance_usable"], &refused["update_repeatable"]), (&json!(true), &json!(false)));
    osb.patch(&instance("nowhere"), &update_body(PLAN_LARGE)).await.expect(404);
    for (body, says) in [
        (json!({"plan_id": PLAN_LARGE}), "service_id"),
        (json!({"service_id": "other"}), "service_id"),
        (json!({"service_id": SERVICE, "plan_id": "other"}), "plan_id"),
        (json!({"service_id": SERVICE, "parameters": {"charset": "latin1"}}), "/charset"),
        (json!({"service_id": SERVICE, "parameters": []}), "parameters"),
    ] {
        let body = osb.patch(&instance("i1"), &body).await.expect(400);
        assert!(body["description"].as_str().unwrap().contains(says), "{body}");
    }
    let conflict = osb.patch(&instance("i1"), &json!({"service_id": SERVICE, "maintenance_info": {"version": "2.0.0"}})).await.expect(422);
    assert_eq!(conflict["error"], "MaintenanceInfoConflict");
    osb.patch(&instance("i1"), &json!({"service_id": SERVICE, "maintenance_info": {"version": "1.2.3"}})).await.expect(200);
    let renamed = json!({"service_id": SERVICE, "context": {"platform": "cloudfoundry", "instance_name": "new name"}});
    osb.patch(&instance("i1"), &renamed).await.expect(200);
    assert_eq!(bed.number("SELECT COUNT(*) FROM service_instances WHERE context LIKE '%new name%'").await, 1);
}
