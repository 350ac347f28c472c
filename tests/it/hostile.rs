use reqwest::Method;
use serde_json::{Value, json};

use crate::support::bed::{PLAN_SMALL, SERVICE, app};
use crate::support::osb::{bind_body, binding, instance, provision_body};
use crate::support::{Bed, is_mariadb};

const HOSTILE: [&str; 8] = [
    "' OR '1'='1",
    "'; DROP DATABASE mysql_broker; -- ",
    "`; DROP TABLE capacity; --",
    "\\'; DROP TABLE capacity; -- ",
    "\" OR \"\"=\"",
    "%",
    "_",
    "\u{202e}\u{fffd}💥",
];

/// Every name of a database or an account on the server, and the broker's tables with their number of rows.
async fn everything(bed: &Bed) -> Vec<String> {
    let query = format!(
        "SELECT CONCAT('database ', SCHEMA_NAME) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME IN (SELECT db_name FROM {own}.service_instances) OR SCHEMA_NAME = '{own}' \
         UNION SELECT CONCAT('table ', TABLE_NAME) FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{own}' \
         UNION SELECT CONCAT('account ', username) FROM {own}.service_bindings \
         UNION SELECT CONCAT('instances ', COUNT(*)) FROM {own}.service_instances ORDER BY 1",
        own = bed.database
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_all(&mut bed.root().await).await.unwrap()
}

#[tokio::test]
async fn sql_in_every_field_is_only_text() {
    let bed = Bed::new().await;
    let osb = bed.osb();
    for hostile in HOSTILE {
        let before = everything(&bed).await;
        let mut body = provision_body(PLAN_SMALL);
        for field in ["organization_guid", "space_guid"] {
            body[field] = json!(hostile);
        }
        body["context"] = json!({"instance_name": hostile, hostile: hostile});
        osb.put(&instance(hostile), &body).await.expect(201);
        osb.put(&instance(hostile), &body).await.expect(200);
        let mut binding_body = bind_body();
        binding_body["bind_resource"] = json!({"app_guid": hostile});
        let bound = osb.put(&binding(hostile, hostile), &binding_body).await.expect(201);
        app(&bound).await.unwrap().number("SELECT 1").await.unwrap();
        for field in ["service_id", "plan_id"] {
            let mut body = provision_body(PLAN_SMALL);
            body[field] = json!(hostile);
            osb.put(&instance("other"), &body).await.expect(400);
        }
        for key in ["charset", "collation"] {
            let mut body = provision_body(PLAN_SMALL);
            body["parameters"] = json!({key: hostile});
            osb.put(&instance("other"), &body).await.expect(400);
        }
        osb.unbind(hostile, hostile).await.expect(200);
        osb.deprovision(hostile).await.expect(200);
        assert_eq!(everything(&bed).await, before, "{hostile}");
    }
    assert_eq!(bed.reserved_mb().await, 0);
}

#[tokio::test]
async fn nothing_a_client_sends_is_a_server_error() {
    let bed = Bed::new().await;
    let osb = bed.osb();
    let long = "x".repeat(256);
    let bodies: Vec<Value> = vec![
        json!({"service_id": long}),
        json!({"service_id": SERVICE, "plan_id": PLAN_SMALL, "organization_guid": long, "space_guid": "s"}),
        json!({"service_id": SERVICE, "plan_id": PLAN_SMALL, "organization_guid": "o", "space_guid": "s", "maintenance_info": []}),
        json!({"service_id": SERVICE, "plan_id": PLAN_SMALL, "organization_guid": "o", "space_guid": "s", "maintenance_info": {"version": 5}}),
        json!({"service_id": SERVICE, "plan_id": PLAN_SMALL, "bind_resource": {"app_guid": long}}),
        json!({"service_id": SERVICE, "plan_id": PLAN_SMALL, "bind_resource": "x"}),
        json!({"service_id": {"$ne": null}, "plan_id": [1]}),
    ];
    for body in &bodies {
        for (method, path) in [(Method::PUT, instance("i1")), (Method::PATCH, instance("i1")), (Method::PUT, binding("i1", "b1"))] {
            let answer = osb.send(osb.request(method.clone(), &path).json(body)).await;
            assert!((400..500).contains(&answer.status) && answer.body["description"].is_string(), "{method} {path} {body}: {answer:?}");
        }
    }
    for (name, value) in [
        ("X-Broker-API-Originating-Identity", "cloudfoundry %%%"),
        ("X-Broker-API-Originating-Identity", "nonsense"),
        ("X-Broker-API-Originating-Identity", "cloudfoundry bnVsbA=="),
        ("X-Broker-API-Request-Identity", ""),
        ("If-None-Match", "nonsense"),
    ] {
        let answer = osb.send(osb.request(Method::GET, "/v2/catalog").header(name, value)).await;
        assert_eq!(answer.status, 200, "{name}: {value}");
    }
    let huge = json!({"service_id": SERVICE, "padding": "x".repeat(1 << 20)});
    osb.put(&instance("i1"), &huge).await.expect(413);
    assert_eq!(bed.number("SELECT COUNT(*) FROM service_instances").await, 0);
}

#[tokio::test]
async fn odd_tables_of_a_tenant_are_counted() {
    let bed = Bed::new().await;
    bed.osb().provision("i1").await.expect(201);
    let mut session = app(&bed.osb().bind("i1", "b1").await.expect(201)).await.unwrap();
    for name in ["my-table", "täble", "表", "a b", "100%", "t#P#p0", "select"] {
        session.execute(&format!("CREATE TABLE `{name}` (body LONGBLOB) STATS_PERSISTENT=1 STATS_AUTO_RECALC=0")).await.unwrap();
        session.execute(&format!("INSERT INTO `{name}` VALUES (REPEAT('x', 900000))")).await.unwrap();
    }
    let arguments: [&std::ffi::OsStr; 5] =
        ["quota-enforcer".as_ref(), "--config".as_ref(), bed.config.as_os_str(), "--once".as_ref(), "--json".as_ref()];
    let (code, stdout, stderr) = crate::support::broker::run(&arguments, &[]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["violators"], 1, "{stdout} {}", is_mariadb());
}
