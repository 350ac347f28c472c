use crate::support::Bed;
use crate::support::bed::{PLAN_FIXED, PLAN_SMALL};
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn the_catalog_says_what_the_callers_version_knows() {
    let bed = Bed::new().await;
    let newest = bed.osb().get("/v2/catalog").await.expect(200);
    let service = &newest["services"][0];
    assert_eq!(service["name"], "p-mysql");
    assert_eq!((&service["instances_retrievable"], &service["allow_context_updates"]), (&json!(true), &json!(true)));
    let plan = |id: &str| service["plans"].as_array().unwrap().iter().find(|plan| plan["id"] == id).unwrap().clone();
    assert_eq!(plan(PLAN_SMALL)["metadata"]["max_storage_mb"], 5);
    assert_eq!(plan(PLAN_FIXED)["maintenance_info"]["version"], "1.2.3");
    assert_eq!(plan(PLAN_FIXED)["plan_updateable"], false);
    assert_eq!(plan(PLAN_SMALL)["schemas"]["service_binding"]["create"]["parameters"]["additionalProperties"], false);

    let older = bed.osb().speaking("2.12").get("/v2/catalog").await.expect(200);
    let service = &older["services"][0];
    for unknown in ["instances_retrievable", "bindings_retrievable", "allow_context_updates"] {
        assert!(service.get(unknown).is_none(), "{unknown}");
    }
    for unknown in ["schemas", "maintenance_info", "plan_updateable"] {
        assert!(service["plans"][2].get(unknown).is_none(), "{unknown}");
    }
}

#[tokio::test]
async fn the_catalog_has_an_entity_tag() {
    let bed = Bed::new().await;
    let first = bed.osb().get("/v2/catalog").await;
    let tag = first.headers["etag"].clone();
    assert_eq!(first.headers["vary"], "X-Broker-API-Version");
    let again = bed.osb().send(bed.osb().request(Method::GET, "/v2/catalog").header("If-None-Match", tag.clone())).await;
    assert_eq!(again.status, 304);
    let other = bed.osb().speaking("2.12").get("/v2/catalog").await;
    assert_ne!(other.headers["etag"], tag);
}
