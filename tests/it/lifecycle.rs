use serde_json::json;

use crate::support::bed::{PLAN_FIXED, PLAN_LARGE, PLAN_SMALL, SERVICE, app};
use crate::support::osb::{instance, provision_body};
use crate::support::{Bed, BedOptions};

#[tokio::test]
async fn an_instance_from_its_beginning_to_its_end() {
    let bed = Bed::new().await;
    let osb = bed.osb();
    assert_eq!(osb.provision("i1").await.expect(201), json!({}));
    let database = bed.database_of("i1").await;
    assert_eq!(bed.databases(&database).await, 1);
    assert_eq!(bed.reserved_mb().await, 5);
    assert_eq!(osb.provision("i1").await.expect(200), json!({}));

    let fetched = osb.speaking("2.16").get(&instance("i1")).await.expect(200);
    assert_eq!(fetched, json!({"service_id": SERVICE, "plan_id": PLAN_SMALL, "parameters": {}}));
    let newest = osb.get(&instance("i1")).await.expect(200);
    assert_eq!(newest["metadata"]["attributes"], json!({"max_storage_mb": 5, "quota_state": "ok"}));
    assert_eq!(osb.get("/v2/service_instances/i1/last_operation").await.expect(200)["state"], "succeeded");

    osb.bind("i1", "b1").await.expect(201);
    assert_eq!(osb.deprovision("i1").await.expect(200), json!({}), "bindings that are left go too");
    assert_eq!(bed.databases(&database).await, 0);
    assert_eq!(bed.reserved_mb().await, 0);
    assert_eq!(bed.number("SELECT COUNT(*) FROM service_bindings").await, 0);
    assert_eq!(osb.deprovision("i1").await.expect(410), json!({}));
    osb.get(&instance("i1")).await.expect(404);

    osb.provision("i1").await.expect(201);
    assert_ne!(bed.database_of("i1").await, database, "the same id again has a database of its own");
}

#[tokio::test]
async fn another_instance_under_the_same_id_is_a_conflict() {
    let bed = Bed::new().await;
    let osb = bed.osb();
    osb.provision("i1").await.expect(201);
    for (field, value) in [
        ("plan_id", json!(PLAN_LARGE)),
        ("organization_guid", json!("o2")),
        ("space_guid", json!("s2")),
        ("parameters", json!({"charset": "latin1"})),
    ] {
        let mut body = provision_body(PLAN_SMALL);
        body[field] = value;
        osb.put(&instance("i1"), &body).await.expect(409);
    }
    let mut same = provision_body(PLAN_SMALL);
    same["parameters"] = json!({});
    same["context"] = json!({"platform": "cloudfoundry", "instance_name": "renamed"});
    osb.put(&instance("i1"), &same).await.expect(200);
}

#[tokio::test]
async fn what_does_not_fit_is_507_and_nothing_is_kept() {
    let bed = Bed::with(BedOptions { sellable_mb: 12, ..BedOptions::default() }).await;
    let osb = bed.osb();
    osb.provision("i1").await.expect(201);
    osb.provision("i2").await.expect(201);
    let full = osb.provision("i3").await.expect(507);
    assert_eq!(full, json!({"error": "InsufficientCapacity", "description": "Service capacity has been reached"}));
    assert_eq!(bed.number("SELECT COUNT(*) FROM service_instances").await, 2);
    osb.deprovision("i3").await.expect(410);
    osb.provision("i1").await.expect(200);
    osb.deprovision("i1").await.expect(200);
    osb.provision("i3").await.expect(201);
}

#[tokio::test]
async fn parameters_decide_the_character_set() {
    let bed = Bed::new().await;
    let osb = bed.osb();
    let provision = async |id: &str, parameters| {
        let mut body = provision_body(PLAN_SMALL);
        body["parameters"] = parameters;
        osb.put(&instance(id), &body).await
    };
    provision("latin", json!({"charset": "latin1", "collation": "latin1_bin"})).await.expect(201);
    let collation = async |id: &str| {
        let database = bed.database_of(id).await;
        let query = "SELECT DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?";
        sqlx::query_scalar::<_, String>(query).bind(database).fetch_one(&mut bed.root().await).await.unwrap()
    };
    assert_eq!(collation("latin").await, "latin1_bin");
    provision("collation-only", json!({"collation": "latin1_bin"})).await.expect(201);
    assert_eq!(collation("collation-only").await, "latin1_bin");
    osb.provision("default").await.expect(201);
    assert!(collation("default").await.starts_with("utf8mb4"));
    assert_eq!(osb.get(&instance("latin")).await.expect(200)["parameters"], json!({"charset": "latin1", "collation": "latin1_bin"}));

    for (wrong, says) in [
        (json!({"charset": "klingon"}), "charset"),
        (json!({"charset": "latin1", "collation": "utf8mb4_bin"}), "collation"),
        (json!({"charset": 5}), "/charset"),
        (json!({"color": "red"}), "/color"),
    ] {
        let body = provision("wrong", wrong).await.expect(400);
        assert!(body["description"].as_str().unwrap().contains(says), "{body}");
    }
    assert_eq!(bed.number("SELECT COUNT(*) FROM service_instances").await, 3);
}

#[tokio::test]
async fn maintenance_versions() {
    let bed = Bed::new().await;
    let osb = bed.osb();
    let provision = async |id: &str, plan, info| {
        let mut body = provision_body(plan);
        body["maintenance_info"] = info;
        osb.put(&instance(id), &body).await
    };
    provision("right", PLAN_FIXED, json!({"version": "1.2.3"})).await.expect(201);
    assert_eq!(osb.get(&instance("right")).await.expect(200)["maintenance_info"]["version"], "1.2.3");
    for ignored in [json!(null), json!({}), json!({"version": ""})] {
        provision("absent", PLAN_SMALL, ignored).await;
    }
    for (plan, wrong) in [(PLAN_FIXED, "1.2.4"), (PLAN_FIXED, "1.2.3+build"), (PLAN_SMALL, "1.2.3"), (PLAN_SMALL, "Invalid")] {
        let body = provision("wrong", plan, json!({"version": wrong})).await.expect(422);
        assert_eq!(body["error"], "MaintenanceInfoConflict");
    }
    osb.deprovision("wrong").await.expect(410);
}

#[tokio::test]
async fn ids_are_compared_byte_by_byte() {
    let bed = Bed::new().await;
    let ids = [
        "a-b",
        "a_b",
        "A-B",
        "i1",
        "I1",
        "é",
        "e\u{301}",
        "i1 ",
        "3f6a0d52-9d3c-4b6e-8a51-0c2f6f9d7e10",
        "3F6A0D52-9D3C-4B6E-8A51-0C2F6F9D7E10",
        "😀",
    ];
    for id in ids {
        bed.osb().provision(id).await.expect(201);
    }
    assert_eq!(bed.number("SELECT COUNT(DISTINCT db_name) FROM service_instances").await, i64::try_from(ids.len()).unwrap());
    for id in ids {
        bed.osb().provision(id).await.expect(200);
        bed.osb().deprovision(id).await.expect(200);
    }
    assert_eq!(bed.reserved_mb().await, 0);
}

#[tokio::test]
async fn a_tenant_has_a_database_and_no_more() {
    let bed = Bed::new().await;
    bed.osb().provision("i1").await.expect(201);
    let bound = bed.osb().bind("i1", "b1").await.expect(201);
    let mut app = app(&bound).await.unwrap();
    let database = bed.database_of("i1").await;
    app.execute("CREATE TABLE t (id INT PRIMARY KEY)").await.unwrap();
    // unescaped, every `_` of the name would be a wildcard, and this a database outside every quota
    let sibling = database.replacen('_', "x", 2).replacen("cfx", "cf_", 1);
    let refused = app.execute(&format!("CREATE DATABASE `{sibling}`")).await.unwrap_err();
    assert_eq!(refused.code(), None, "1044 is an access error: {refused}");
    for statement in [format!("SELECT * FROM {}.capacity", bed.database), "SELECT * FROM mysql.user".to_owned(), "CREATE USER x".to_owned()]
    {
        app.execute(&statement).await.unwrap_err();
    }
    // a database that its tenant has dropped is no obstacle
    app.execute(&format!("DROP DATABASE `{database}`")).await.unwrap();
    bed.osb().deprovision("i1").await.expect(200);
}
