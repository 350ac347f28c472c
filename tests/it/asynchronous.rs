//! 202 and polling: everything asynchronous (`sync_wait: 0`), and work that turns asynchronous because it is slow.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::bed::{PLAN_LARGE, PLAN_SMALL, SERVICE};
use crate::support::osb::{instance, provision_body};
use crate::support::{Answer, Bed, BedOptions, Osb, eventually};

async fn always_asynchronous(brokers: usize) -> Bed {
    Bed::with(BedOptions { brokers, settings: json!({"server": {"sync_wait": 0}}), ..BedOptions::default() }).await
}

async fn accepting(osb: &Osb, method: Method, id: &str, body: Option<Value>) -> Answer {
    let path = format!("{}?accepts_incomplete=true&service_id={SERVICE}&plan_id={PLAN_SMALL}", instance(id));
    let request = osb.request(method, &path);
    osb.send(match body {
        Some(body) => request.json(&body),
        None => request,
    })
    .await
}

/// Polls at another broker until the operation has ended: the status and the body of that poll.
async fn polled(osb: &Osb, id: &str) -> Answer {
    eventually("the operation ends", async || {
        let answer = osb.get(&format!("{}/last_operation?operation=anything", instance(id))).await;
        (answer.body["state"] != "in progress").then_some(answer)
    })
    .await
}

#[tokio::test]
async fn a_life_in_202() {
    let bed = always_asynchronous(2).await;
    let (one, other) = (&bed.clients[0], &bed.clients[1]);
    let accepted = accepting(one, Method::PUT, "i1", Some(provision_body(PLAN_SMALL))).await;
    assert_eq!(polled(other, "i1").await.expect(200)["state"], "succeeded");
    let row = bed.number("SELECT id FROM service_instances").await;
    assert_eq!((accepted.status, &accepted.body), (202, &json!({"operation": format!("provision-{row}")})));
    accepting(other, Method::PUT, "i1", Some(provision_body(PLAN_SMALL))).await.expect(200);

    let change = json!({"service_id": SERVICE, "plan_id": PLAN_LARGE});
    assert_eq!(accepting(one, Method::PATCH, "i1", Some(change)).await.expect(202), json!({"operation": format!("update-{row}")}));
    assert_eq!(polled(other, "i1").await.expect(200)["state"], "succeeded");
    assert_eq!(other.get(&instance("i1")).await.expect(200)["plan_id"], PLAN_LARGE);

    assert_eq!(accepting(one, Method::DELETE, "i1", None).await.expect(202), json!({"operation": format!("deprovision-{row}")}));
    assert_eq!(polled(other, "i1").await.expect(410), json!({}), "deleted, and remembered");
    accepting(other, Method::DELETE, "i1", None).await.expect(410);
    assert_eq!(bed.reserved_mb().await, 0);
    other.get("/v2/service_instances/never/last_operation").await.expect(404);
}

#[tokio::test]
async fn what_can_be_refused_is_refused_at_once() {
    let bed = Bed::with(BedOptions { sellable_mb: 5, settings: json!({"server": {"sync_wait": 0}}), ..BedOptions::default() }).await;
    let osb = bed.osb();
    let mut wrong = provision_body(PLAN_SMALL);
    wrong["plan_id"] = json!("nonsense");
    accepting(osb, Method::PUT, "i1", Some(wrong)).await.expect(400);
    accepting(osb, Method::PUT, "i1", Some(provision_body(PLAN_LARGE))).await.expect(507);
    accepting(osb, Method::PUT, "i1", Some(provision_body(PLAN_SMALL))).await.expect(202);
    polled(osb, "i1").await.expect(200);
    let mut other = provision_body(PLAN_SMALL);
    other["space_guid"] = json!("s2");
    accepting(osb, Method::PUT, "i1", Some(other)).await.expect(409);
    accepting(osb, Method::PATCH, "i1", Some(json!({"service_id": SERVICE, "plan_id": PLAN_LARGE}))).await.expect(507);
    // nobody who does not say `true` gets a 202
    for not_true in ["accepts_incomplete=1", "accepts_incomplete=TRUE", "accepts_incomplete=true&accepts_incomplete=false", ""] {
        let path = format!("{}?{not_true}&service_id={SERVICE}&plan_id={PLAN_SMALL}", instance("i1"));
        let answer = osb.send(osb.request(Method::PUT, &path).json(&provision_body(PLAN_SMALL))).await;
        assert_eq!(answer.status, 200, "{not_true}");
    }
    // bindings are always synchronous
    osb.bind("i1", "b1").await.expect(201);
}

#[tokio::test]
async fn slow_work_is_answered_with_202_and_the_same_again_while_it_goes_on() {
    if crate::support::is_galera() {
        // a cluster's DDL ends the transaction that would hold it up
        return;
    }
    let bed = always_asynchronous(2).await;
    let osb = bed.osb();
    osb.provision("i1").await.expect(201);
    let database = bed.database_of("i1").await;
    // a transaction of root's holds up DROP TABLE
    bed.execute(&format!("CREATE TABLE {database}.t (id INT PRIMARY KEY)")).await;
    let mut root = bed.root().await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("START TRANSACTION; SELECT * FROM {database}.t"))).execute(&mut root).await.unwrap();
    let first = accepting(osb, Method::DELETE, "i1", None).await.expect(202);
    let again = accepting(&bed.clients[1], Method::DELETE, "i1", None).await.expect(202);
    assert_eq!(first, again);
    let poll = bed.clients[1].get("/v2/service_instances/i1/last_operation").await;
    assert_eq!(poll.headers["retry-after"], "2");
    assert_eq!(poll.expect(200)["state"], "in progress");
    bed.clients[1].deprovision("i1").await.expect(422);
    assert_eq!(bed.reserved_mb().await, 5, "what is not gone is still counted");
    sqlx::raw_sql("COMMIT").execute(&mut root).await.unwrap();
    polled(osb, "i1").await.expect(410);
    assert_eq!(bed.databases(&database).await, 0);
}

#[tokio::test]
async fn an_accepted_operation_whose_broker_dies_comes_to_an_end() {
    let settings = json!({"server": {"sync_wait": 0, "operation_lease": 3}});
    let mut bed = Bed::with(BedOptions { brokers: 2, settings, ..BedOptions::default() }).await;
    bed.osb().provision("i1").await.expect(201);
    let database = bed.database_of("i1").await;
    bed.execute(&format!("CREATE TABLE {database}.t (id INT PRIMARY KEY)")).await;
    let mut root = bed.root().await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("START TRANSACTION; SELECT * FROM {database}.t"))).execute(&mut root).await.unwrap();
    accepting(&bed.clients[0], Method::DELETE, "i1", None).await.expect(202);
    bed.brokers[0].signal(rustix::process::Signal::KILL);
    bed.brokers[0].ended().await;
    sqlx::raw_sql("COMMIT").execute(&mut root).await.unwrap();
    polled(&bed.clients[1], "i1").await.expect(410);
    assert_eq!(bed.databases(&database).await, 0);
    assert_eq!(bed.reserved_mb().await, 0);
}

#[tokio::test]
async fn an_accepted_operation_that_fails_says_so() {
    let bed = always_asynchronous(1).await;
    let osb = bed.osb();
    bed.execute(&format!("REVOKE CREATE ON `cf\\_%`.* FROM '{}'@'%'", bed.account)).await;
    bed.end_sessions(&bed.account).await;
    accepting(osb, Method::PUT, "i1", Some(provision_body(PLAN_SMALL))).await.expect(202);
    let failed = polled(osb, "i1").await.expect(200);
    assert_eq!(failed["state"], "failed");
    assert!(failed["description"].as_str().is_some_and(|text| !text.contains("CREATE") && text.ends_with('.')), "{failed}");
    assert!(failed.get("instance_usable").is_none(), "a field of updates");
    assert_eq!(bed.reserved_mb().await, 0, "undone");
    osb.deprovision("i1").await.expect(410);
    bed.execute(&format!("GRANT CREATE ON `cf\\_%`.* TO '{}'@'%' WITH GRANT OPTION", bed.account)).await;
    bed.end_sessions(&bed.account).await;
    accepting(osb, Method::PUT, "i1", Some(provision_body(PLAN_SMALL))).await.expect(202);
    assert_eq!(polled(osb, "i1").await.expect(200)["state"], "succeeded", "an old failure is not the new instance's");
}

#[tokio::test]
async fn last_operation_of_bindings() {
    let bed = Bed::new().await;
    let osb = bed.osb();
    osb.provision("i1").await.expect(201);
    osb.bind("i1", "b1").await.expect(201);
    let path = "/v2/service_instances/i1/service_bindings/b1/last_operation";
    assert_eq!(osb.get(path).await.expect(200)["state"], "succeeded");
    osb.unbind("i1", "b1").await.expect(200);
    assert_eq!(osb.get(path).await.expect(410), json!({}));
    osb.get("/v2/service_instances/i1/service_bindings/never/last_operation").await.expect(404);
}

#[tokio::test]
async fn each_poll_hears_of_its_own_operation() {
    let bed = always_asynchronous(2).await;
    let (one, other) = (&bed.clients[0], &bed.clients[1]);
    let poll = async |operation: &Value| {
        let operation = operation["operation"].as_str().unwrap();
        other.get(&format!("{}/last_operation?service_id=stale&operation={operation}", instance("i1"))).await
    };
    let mut operations = Vec::new();
    for _ in 0..2 {
        let created = accepting(one, Method::PUT, "i1", Some(provision_body(PLAN_SMALL))).await.expect(202);
        assert_eq!(polled(other, "i1").await.expect(200)["state"], "succeeded");
        assert_eq!(poll(&created).await.expect(200)["state"], "succeeded");
        let changed = json!({"service_id": SERVICE, "plan_id": PLAN_LARGE});
        let changed = accepting(one, Method::PATCH, "i1", Some(changed)).await.expect(202);
        assert_eq!(polled(other, "i1").await.expect(200)["state"], "succeeded");
        assert_eq!(poll(&changed).await.expect(200)["state"], "succeeded");
        let deleted = accepting(one, Method::DELETE, "i1", None).await.expect(202);
        polled(other, "i1").await.expect(410);
        operations.push((created, changed, deleted));
    }
    // after the end, and while another instance has the id
    for _ in 0..2 {
        for (created, changed, deleted) in &operations {
            assert_eq!(poll(created).await.expect(200)["state"], "failed", "410 would be polled for ever");
            let changed = poll(changed).await.expect(200);
            assert_eq!((&changed["state"], &changed["instance_usable"]), (&json!("failed"), &json!(false)));
            assert_eq!(poll(deleted).await.expect(410), json!({}));
        }
        accepting(one, Method::PUT, "i1", Some(provision_body(PLAN_SMALL))).await;
        assert_eq!(polled(other, "i1").await.expect(200)["state"], "succeeded");
    }
}
