use reqwest::Method;
use serde_json::json;

use crate::support::bed::{ADMIN, PLAN_SMALL, SERVICE};
use crate::support::osb::{instance, provision_body};
use crate::support::{Bed, BedOptions, Osb};

const PATHS: [(&str, &str); 10] = [
    ("GET", "/v2/catalog"),
    ("PUT", "/v2/service_instances/i1"),
    ("GET", "/v2/service_instances/i1"),
    ("PATCH", "/v2/service_instances/i1"),
    ("DELETE", "/v2/service_instances/i1"),
    ("GET", "/v2/service_instances/i1/last_operation"),
    ("PUT", "/v2/service_instances/i1/service_bindings/b1"),
    ("GET", "/v2/service_instances/i1/service_bindings/b1"),
    ("DELETE", "/v2/service_instances/i1/service_bindings/b1"),
    ("GET", "/v2/service_instances/i1/service_bindings/b1/last_operation"),
];

fn method(name: &str) -> Method {
    Method::from_bytes(name.as_bytes()).unwrap()
}

#[tokio::test]
async fn nobody_gets_in_without_the_credentials() {
    let bed = Bed::new().await;
    let osb = bed.osb();
    for (name, path) in PATHS {
        let ask = |request: reqwest::RequestBuilder| osb.send(request.header("X-Broker-API-Version", "junk").body("{"));
        let bare = || osb.bare(method(name), path);
        for request in [
            bare(),
            bare().basic_auth(ADMIN, Some("wrong")),
            bare().basic_auth("wrong", Some(&osb.password)),
            bare().basic_auth(ADMIN, None::<&str>),
            bare().bearer_auth(&osb.password),
            bare().header("Authorization", "Basic !!"),
        ] {
            let answer = ask(request).await;
            assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Basic realm="));
            assert!(answer.expect(401)["description"].is_string(), "{name} {path}");
        }
    }
    for (method, path) in [(Method::GET, "/v2/nothing/here"), (Method::POST, "/v2/catalog")] {
        assert_eq!(osb.send(osb.bare(method, path)).await.status, 401, "nothing leaks about routes");
    }
}

#[tokio::test]
async fn the_version_comes_before_the_body() {
    let bed = Bed::new().await;
    let osb = bed.osb();
    for (name, path) in PATHS {
        let with = |version: &'static str| {
            osb.send(osb.bare(method(name), path).basic_auth(ADMIN, Some(&osb.password)).header("X-Broker-API-Version", version).body("{"))
        };
        for malformed in ["", "2", "abc"] {
            with(malformed).await.expect(400);
        }
        for unsupported in ["1.0", "2.10", "2.9", "3.0"] {
            with(unsupported).await.expect(412);
        }
        let missing = osb.send(osb.bare(method(name), path).basic_auth(ADMIN, Some(&osb.password))).await;
        assert_eq!(missing.status, 400);
    }
    // what does not exist does so in no version
    for (method, path, status) in [(Method::GET, "/v2/nothing/here", 404), (Method::POST, "/v2/catalog", 405)] {
        assert_eq!(osb.send(osb.bare(method, path).basic_auth(ADMIN, Some(&osb.password))).await.status, status, "{path}");
    }
    for version in ["2.11", "2.15", "2.17", "2.99"] {
        osb.speaking(version).get("/v2/catalog").await.expect(200);
    }
    let old_school =
        Bed::with(BedOptions { settings: json!({"server": {"missing_api_version_status": 412}}), ..BedOptions::default() }).await;
    let osb = old_school.osb();
    assert_eq!(osb.send(osb.bare(Method::GET, "/v2/catalog").basic_auth(ADMIN, Some(&osb.password))).await.status, 412);
}

#[tokio::test]
async fn the_request_identity_is_on_every_answer() {
    let bed = Bed::with(BedOptions { sellable_mb: 5, ..BedOptions::default() }).await;
    let osb = bed.osb();
    let identified = async |request: reqwest::RequestBuilder| {
        let answer = osb.send(request.header("X-Broker-API-Request-Identity", "r-1")).await;
        assert_eq!(answer.headers["x-broker-api-request-identity"], "r-1");
        answer.status
    };
    let delete = |path: &str| osb.request(Method::DELETE, &format!("{path}?service_id={SERVICE}&plan_id={PLAN_SMALL}"));
    let body = provision_body(PLAN_SMALL);
    assert_eq!(identified(osb.bare(Method::GET, "/v2/catalog")).await, 401);
    assert_eq!(identified(osb.request(Method::GET, "/v2/nothing")).await, 404);
    assert_eq!(identified(osb.request(Method::POST, "/v2/catalog")).await, 405);
    assert_eq!(identified(osb.speaking("3.0").request(Method::GET, "/v2/catalog")).await, 412);
    assert_eq!(identified(osb.request(Method::PUT, "/v2/service_instances/i1").body("x".repeat((1 << 20) + 1))).await, 413);
    assert_eq!(identified(osb.request(Method::PUT, "/v2/service_instances/i1").body("{")).await, 400);
    assert_eq!(identified(osb.request(Method::PUT, "/v2/service_instances/i1").json(&body)).await, 201);
    assert_eq!(identified(osb.request(Method::PUT, "/v2/service_instances/i2").json(&body)).await, 507);
    assert_eq!(identified(delete("/v2/service_instances/i2")).await, 410);
    let mut other = body.clone();
    other["space_guid"] = json!("s2");
    assert_eq!(identified(osb.request(Method::PUT, "/v2/service_instances/i1").json(&other)).await, 409);
    other["maintenance_info"] = json!({"version": "9.9.9"});
    assert_eq!(identified(osb.request(Method::PUT, "/v2/service_instances/i3").json(&other)).await, 422);

    for odd in ["x".repeat(10_000), "two words".to_owned()] {
        let answer = osb.send(osb.request(Method::GET, "/v2/catalog").header("X-Broker-API-Request-Identity", odd)).await;
        assert_eq!(answer.status, 200);
        assert!(answer.headers.get("x-broker-api-request-identity").is_none());
    }
}

#[tokio::test]
async fn bodies_that_are_none() {
    let bed = Bed::new().await;
    let osb = bed.osb();
    let put = async |body: &'static str, content_type: Option<&str>| {
        let request = osb.request(Method::PUT, &instance("i1")).body(body);
        osb.send(match content_type {
            Some(content_type) => request.header("Content-Type", content_type),
            None => request,
        })
        .await
    };
    for body in ["", "{", "[]", "null", "5", "\"x\"", "{\"service_id\":5}", "\u{feff}{}"] {
        put(body, Some("application/json")).await.expect(400);
    }
    put("{}", Some("text/plain")).await.expect(400);
    let deep: &'static str = Box::leak(format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)).into_boxed_str());
    put(deep, None).await.expect(400);
    for missing in ["service_id", "plan_id", "organization_guid", "space_guid"] {
        for value in [None, Some(json!(null)), Some(json!(""))] {
            let mut body = provision_body(PLAN_SMALL);
            match value {
                None => drop(body.as_object_mut().unwrap().remove(missing)),
                Some(value) => body[missing] = value,
            }
            let answer = osb.put(&instance("i1"), &body).await.expect(400);
            assert!(answer["description"].as_str().unwrap().contains(missing), "{answer}");
        }
    }
    for (field, value) in
        [("service_id", json!("nonsense")), ("plan_id", json!("nonsense")), ("parameters", json!([])), ("context", json!("x"))]
    {
        let mut body = provision_body(PLAN_SMALL);
        body[field] = value;
        let answer = osb.put(&instance("i1"), &body).await.expect(400);
        assert!(answer["description"].as_str().unwrap().contains(field), "{answer}");
    }
    assert_eq!(bed.number("SELECT COUNT(*) FROM service_instances").await, 0);
    let good: &'static str = Box::leak(provision_body(PLAN_SMALL).to_string().into_boxed_str());
    put(good, None).await.expect(201);
    put(good, Some("application/json; charset=utf-8")).await.expect(200);
    let mut extended = provision_body(PLAN_SMALL);
    extended["x-acme"] = json!({"a": 1});
    extended["context"] = json!({"x-acme": {"a": 1}});
    osb.put(&instance("i1"), &extended).await.expect(200);
}

#[tokio::test]
async fn queries_of_all_kinds() {
    let bed = Bed::new().await;
    let osb = bed.osb();
    osb.provision("i1").await.expect(201);
    osb.bind("i1", "b1").await.expect(201);
    let delete = async |path: &str| osb.send(osb.request(Method::DELETE, path)).await.status;
    let (i, b) = ("/v2/service_instances/i1", "/v2/service_instances/i1/service_bindings/b1");
    assert_eq!(delete(i).await, 400);
    assert_eq!(delete(&format!("{i}?service_id={SERVICE}")).await, 400);
    assert_eq!(delete(&format!("{i}?service_id=&plan_id={PLAN_SMALL}")).await, 400);
    assert_eq!(delete("/v2/service_instances/nowhere").await, 400);
    assert_eq!(delete(b).await, 400);
    assert_eq!(
        delete("/v2/service_instances/i1/service_bindings/nowhere").await,
        410,
        "existence first: both public checkers agree on this only"
    );
    assert_eq!(delete(&format!("{b}?service_id=stale&plan_id=stale")).await, 200, "a platform can always clean up");
    assert_eq!(delete(&format!("{i}?plan_id={PLAN_SMALL}&service_id=x&service_id={SERVICE}&x&operation=")).await, 200);
}

#[tokio::test]
async fn a_doubled_slash_and_a_wrong_method() {
    let bed = Bed::new().await;
    let osb = bed.osb();
    osb.get("//v2/catalog").await.expect(200);
    let answer = osb.send(osb.request(Method::POST, "/v2/service_instances/i1")).await;
    assert_eq!(answer.headers["allow"], "GET, PUT, PATCH, DELETE");
    answer.expect(405);
    osb.send(osb.bare(Method::GET, "/nothing")).await.expect(404);
    osb.send(osb.request(Method::PUT, "/v2/service_instances/a%2Fb").json(&provision_body(PLAN_SMALL))).await.expect(400);
    osb.send(osb.request(Method::PUT, "/v2/service_instances/%FF").json(&provision_body(PLAN_SMALL))).await.expect(400);
    osb.send(osb.request(Method::PUT, &format!("/v2/service_instances/{}", "x".repeat(256))).json(&provision_body(PLAN_SMALL)))
        .await
        .expect(400);
    osb.send(osb.request(Method::PUT, &format!("/v2/service_instances/{}", "x".repeat(255))).json(&provision_body(PLAN_SMALL)))
        .await
        .expect(201);
}

#[tokio::test]
async fn two_pairs_of_credentials_make_a_rotation_without_an_outage() {
    let second =
        json!([{"username": "admin", "password": "one:with:colons"}, {"username": "ädmin", "password": "zwei", "platform": "k8s"}]);
    let bed = Bed::with(BedOptions { brokers: 1, settings: json!({"server": {"credentials": second}}), ..BedOptions::default() }).await;
    let osb: &Osb = bed.osb();
    for (user, password, status) in [("admin", "one:with:colons", 200), ("ädmin", "zwei", 200), ("admin", "zwei", 401)] {
        let request = osb.bare(Method::GET, "/v2/catalog").basic_auth(user, Some(password)).header("X-Broker-API-Version", "2.17");
        assert_eq!(osb.send(request).await.status, status, "{user}");
    }
}

#[tokio::test]
async fn what_operators_ask() {
    let bed =
        Bed::with(BedOptions { alone: true, settings: json!({"server": {"protect_operator_endpoints": true}}), ..BedOptions::default() })
            .await;
    let osb = bed.osb();
    osb.send(osb.bare(Method::GET, "/health")).await.expect(200);
    osb.send(osb.bare(Method::GET, "/info")).await.expect(401);
    let info = osb.get("/info").await.expect(200);
    assert_eq!(info["api_versions"]["newest"], "2.17");
    osb.send(osb.bare(Method::GET, "/metrics")).await.expect(401);
    osb.provision("i1").await.expect(201);
    let metrics = osb.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    for name in [
        "cf_mysql_broker_requests_total{route=\"/v2/service_instances/{instance_id}\",status=\"201\"} 1",
        "cf_mysql_capacity_megabytes{kind=\"reserved\"} 5",
        "cf_mysql_instances{plan=\"plan-small\",state=\"ready\"} 1",
        "cf_mysql_broker_request_seconds_bucket",
    ] {
        assert!(metrics.contains(name), "{name} in\n{metrics}");
    }
}
