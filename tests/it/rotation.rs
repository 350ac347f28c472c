use serde_json::{Value, json};

use crate::support::bed::{PLAN_LARGE, PLAN_SMALL, SERVICE, app};
use crate::support::osb::{bind_body, binding, instance, provision_body};
use crate::support::{Bed, BedOptions, eventually};

/// The suite's catalog, with an expiry and a plan that cannot rotate.
fn plans(expires_after: u64) -> Value {
    let plan = |id: &str, more: Value| {
        let mut plan = json!({"id": id, "name": id, "description": "d", "max_storage_mb": 5});
        plan.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        plan
    };
    json!({"services": [{"id": SERVICE, "name": "p-mysql", "description": "d", "plans": [
        plan(PLAN_SMALL, json!({"binding_expires_after": expires_after, "binding_renew_before": expires_after / 2})),
        plan(PLAN_LARGE, json!({"binding_rotatable": false})),
    ]}]})
}

#[tokio::test]
async fn a_rotation_inherits_and_both_bindings_work() {
    let bed = Bed::new().await;
    let osb = bed.osb();
    osb.provision("i1").await.expect(201);
    let mut body = bind_body();
    body["parameters"] = json!({"read-only": true});
    let old = osb.put(&binding("i1", "b1"), &body).await.expect(201);
    let rotate = json!({"predecessor_binding_id": "b1"});
    let new = osb.put(&binding("i1", "b2"), &rotate).await.expect(201);
    assert_ne!(old["credentials"]["username"], new["credentials"]["username"]);
    app(&old).await.unwrap();
    app(&new).await.unwrap().execute("CREATE TABLE t (id INT)").await.expect_err("it inherits `read-only`");
    assert_eq!(osb.put(&binding("i1", "b2"), &rotate).await.expect(200), new);
    osb.unbind("i1", "b1").await.expect(200);
    assert_eq!(osb.put(&binding("i1", "b2"), &rotate).await.expect(200), new, "also when the predecessor is gone");
    app(&new).await.unwrap();
    osb.put(&binding("i1", "b2"), &json!({"predecessor_binding_id": "b9"})).await.expect(409);
    let agreeing = json!({"predecessor_binding_id": "b2", "service_id": SERVICE, "plan_id": PLAN_SMALL, "parameters": {"read-only": true}, "bind_resource": {"app_guid": "a1"}});
    osb.put(&binding("i1", "b3"), &agreeing).await.expect(201);
}

#[tokio::test]
async fn what_cannot_be_rotated() {
    let bed = Bed::with(BedOptions { settings: plans(3600), ..BedOptions::default() }).await;
    let osb = bed.osb();
    osb.provision("i1").await.expect(201);
    osb.provision("i2").await.expect(201);
    osb.bind("i1", "b1").await.expect(201);
    osb.bind("i2", "b2").await.expect(201);
    for (id, body) in [
        ("new", json!({"predecessor_binding_id": "nowhere"})),
        ("new", json!({"predecessor_binding_id": "b2"})),
        ("new", json!({"predecessor_binding_id": "new"})),
        ("new", json!({"predecessor_binding_id": "b1", "bind_resource": {"app_guid": "another"}})),
        ("new", json!({"predecessor_binding_id": "b1", "parameters": {"read-only": true}})),
        ("new", json!({"predecessor_binding_id": "b1", "service_id": "another"})),
        ("new", json!({"predecessor_binding_id": "a/b"})),
        ("new", json!({"predecessor_binding_id": 5})),
        ("new", json!({})),
    ] {
        osb.put(&binding("i1", id), &body).await.expect(400);
    }
    osb.put(&binding("i1", "b1"), &json!({"predecessor_binding_id": "b1"})).await.expect(400);
    osb.put(&instance("fixed"), &provision_body(PLAN_LARGE)).await.expect(201);
    let mut body = bind_body();
    body["plan_id"] = json!(PLAN_LARGE);
    osb.put(&binding("fixed", "b1"), &body).await.expect(201);
    osb.put(&binding("fixed", "b2"), &json!({"predecessor_binding_id": "b1"})).await.expect(400);
    let catalog = osb.get("/v2/catalog").await.expect(200);
    let flags: Vec<_> = catalog["services"][0]["plans"].as_array().unwrap().iter().map(|plan| plan["binding_rotatable"].clone()).collect();
    assert_eq!(flags, [json!(true), json!(false)]);
}

#[tokio::test]
async fn dates_of_a_binding_that_expires() {
    let bed = Bed::with(BedOptions { settings: plans(3600), ..BedOptions::default() }).await;
    let osb = bed.osb();
    osb.provision("i1").await.expect(201);
    let bound = osb.bind("i1", "b1").await.expect(201);
    let (expires, renew) = (bound["metadata"]["expires_at"].as_str().unwrap(), bound["metadata"]["renew_before"].as_str().unwrap());
    for date in [expires, renew] {
        // yyyy-mm-ddThh:mm:ss.sZ
        let shape: String = date.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00.0Z");
    }
    assert!(renew < expires, "{renew} {expires}");
    assert_eq!(osb.bind("i1", "b1").await.expect(200), bound, "the same dates again");
    assert!(osb.speaking("2.16").get(&binding("i1", "b1")).await.expect(200)["metadata"].get("renew_before").is_none());
    assert!(osb.speaking("2.15").get(&binding("i1", "b1")).await.expect(200).get("metadata").is_none());
}

#[tokio::test]
async fn an_expired_account_cannot_log_in_and_its_sessions_end() {
    let bed = Bed::with(BedOptions { settings: plans(1), ..BedOptions::default() }).await;
    let osb = bed.osb();
    osb.provision("i1").await.expect(201);
    let bound = osb.bind("i1", "b1").await.expect(201);
    eventually("the account is locked", async || app(&bound).await.is_err().then_some(())).await;
    eventually("it is noted", async || (bed.number("SELECT is_expired FROM service_bindings").await == 1).then_some(())).await;
    assert_eq!(osb.get(&binding("i1", "b1")).await.expect(200)["credentials"], bound["credentials"], "it can still be fetched");
    osb.put(&binding("i1", "b2"), &json!({"predecessor_binding_id": "b1"})).await.expect(400);
    osb.unbind("i1", "b1").await.expect(200);
}
