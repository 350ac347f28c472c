//! The crash table: a real SIGKILL at every named point of every verb (`src/failpoint.rs`), what it leaves behind, what a duplicate
//! hears at once, and what there is after the sweep. And the stall: SIGSTOP until after the lease, then SIGCONT.

use std::os::unix::process::ExitStatusExt as _;

use futures_util::future::join_all;
use reqwest::{Method, RequestBuilder};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::enforcer::{MEGABYTE, fill, instance_with_table, is_denied, once};
use crate::support::bed::{PLAN_LARGE, PLAN_SMALL, SERVICE, app};
use crate::support::broker::run;
use crate::support::osb::{bind_body, binding, instance, provision_body};
use crate::support::{Answer, Bed, BedOptions, BrokerProcess, Osb, eventually};

/// Longer than a request waits for somebody else's work (5 s), so that a duplicate hears "busy".
const LEASE: f64 = 15.0;

async fn bed(lease: f64) -> Bed {
    Bed::with(BedOptions { settings: json!({"server": {"operation_lease": lease}}), ..BedOptions::default() }).await
}

/// An id that stays readable in the database's name.
fn guid() -> String {
    let hex = cf_mysql_broker::domain::names::random_hex(16);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[derive(Clone, Copy)]
enum Verb {
    Provision,
    Deprovision,
    Bind,
    Unbind,
    Update,
}

impl Verb {
    fn request(self, osb: &Osb, id: &str) -> RequestBuilder {
        let delete = |path: String| osb.request(Method::DELETE, &format!("{path}?service_id={SERVICE}&plan_id={PLAN_SMALL}"));
        match self {
            Self::Provision => osb.request(Method::PUT, &instance(id)).json(&provision_body(PLAN_SMALL)),
            Self::Deprovision => delete(instance(id)),
            Self::Bind => osb.request(Method::PUT, &binding(id, "b1")).json(&bind_body()),
            Self::Unbind => delete(binding(id, "b1")),
            Self::Update => osb.request(Method::PATCH, &instance(id)).json(&json!({"service_id": SERVICE, "plan_id": PLAN_LARGE})),
        }
    }
}

/// A broker that will die, or stop, at a point.
async fn victim(bed: &Bed, point: &str) -> (BrokerProcess, Osb) {
    let mut process = BrokerProcess::start_in("serve", &bed.config, &[("CF_MYSQL_BROKER_FAILPOINT", point)]);
    let port = process.port().await;
    let osb = Osb::new(format!("http://127.0.0.1:{port}"), bed.secrets[0].clone());
    (process, osb)
}

/// Sends the request to a broker that dies at the point; it did.
async fn kill_at(bed: &Bed, point: &str, verb: Verb, id: &str) {
    let (mut process, osb) = victim(bed, point).await;
    let answer = osb.try_send(verb.request(&osb, id)).await;
    assert!(answer.is_err(), "{point}: a dead broker answers nothing, not {answer:?}");
    let (status, output) = process.ended().await;
    assert_eq!(status.signal(), Some(9), "{point}: {output:#?}");
}

/// What a row of the table says of an instance.
#[derive(Debug, PartialEq)]
struct Left {
    /// Of the instance; none without a row.
    state: Option<String>,
    databases: i64,
    reserved_mb: i64,
}

async fn left(bed: &Bed, id: &str) -> Left {
    let state = sqlx::query_scalar("SELECT state FROM service_instances WHERE guid = ?").bind(id);
    let pattern = format!("cf\\_{}\\_%", id.replace('-', "\\_"));
    Left {
        state: state.fetch_optional(&mut bed.root().await).await.unwrap(),
        databases: bed.number(&format!("SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE '{pattern}'")).await,
        reserved_mb: bed.number(&format!("SELECT COALESCE(SUM(reserved_bytes), 0) FROM service_instances WHERE guid = '{id}'")).await >> 20,
    }
}

fn row(state: &str, databases: i64, reserved_mb: i64) -> Left {
    Left { state: Some(state.to_owned()), databases, reserved_mb }
}

fn nothing() -> Left {
    Left { state: None, databases: 0, reserved_mb: 0 }
}

async fn becomes(bed: &Bed, point: &str, id: &str, wanted: Left) {
    eventually(&format!("{point}: after the sweep {wanted:?}"), async || (left(bed, id).await == wanted).then_some(())).await;
}

async fn duplicate(bed: &Bed, point: &str, verb: Verb, id: &str, status: u16) -> Answer {
    let answer = bed.osb().send(verb.request(bed.osb(), id)).await;
    assert_eq!(answer.status, status, "{point}: {}", answer.body);
    if status == 422 {
        assert_eq!(answer.body["error"], "ConcurrencyError", "{point}");
    }
    answer
}

#[tokio::test]
async fn a_broker_dies_at_each_step_of_a_provision() {
    let bed = bed(LEASE).await;
    let cases = [
        ("P0", nothing(), 201, row("ready", 1, 5)),
        ("P1.inside", nothing(), 201, row("ready", 1, 5)),
        ("P1", row("creating", 0, 5), 422, nothing()),
        ("P2", row("creating", 1, 5), 422, nothing()),
        ("P3", row("ready", 1, 5), 200, row("ready", 1, 5)),
    ];
    join_all(cases.map(async |(point, at_once, status, swept)| {
        let id = guid();
        kill_at(&bed, point, Verb::Provision, &id).await;
        assert_eq!(left(&bed, &id).await, at_once, "{point}");
        duplicate(&bed, point, Verb::Provision, &id, status).await;
        becomes(&bed, point, &id, swept).await;
        // and then the same request is done
        let answer = bed.osb().provision(&id).await;
        assert!([200, 201].contains(&answer.status), "{point}: {}", answer.body);
        assert_eq!(left(&bed, &id).await, row("ready", 1, 5), "{point}");
    }))
    .await;
    assert_eq!(bed.reserved_mb().await, 25);
}

#[tokio::test]
async fn a_broker_dies_at_each_step_of_a_deprovision() {
    let bed = bed(LEASE).await;
    let cases = [
        ("D1", row("deleting", 1, 5), 1, 422),
        ("D2.locked", row("deleting", 1, 5), 1, 422),
        ("D2.database", row("deleting", 0, 5), 1, 422),
        ("D2", row("deleting", 0, 5), 0, 422),
        ("D3.inside", row("deleting", 0, 5), 0, 422),
        ("D3", nothing(), 0, 410),
    ];
    join_all(cases.map(async |(point, at_once, accounts, status)| {
        let id = guid();
        bed.osb().provision(&id).await.expect(201);
        let bound = bed.osb().bind(&id, "b1").await.expect(201);
        let user = bound["credentials"]["username"].as_str().unwrap();
        kill_at(&bed, point, Verb::Deprovision, &id).await;
        assert_eq!(left(&bed, &id).await, at_once, "{point}");
        assert_eq!(bed.accounts(user).await, accounts, "{point}");
        duplicate(&bed, point, Verb::Deprovision, &id, status).await;
        becomes(&bed, point, &id, nothing()).await;
        assert_eq!(bed.accounts(user).await, 0, "{point}");
        bed.osb().deprovision(&id).await.expect(410);
    }))
    .await;
    assert_eq!(bed.reserved_mb().await, 0);
    assert_eq!(bed.number("SELECT COUNT(*) FROM service_bindings").await, 0);
}

/// The state of an instance's binding, if it has one, and the name of its account.
async fn binding_of(bed: &Bed, id: &str) -> Option<(String, String)> {
    sqlx::query_as(
        "SELECT b.state, b.username FROM service_bindings b JOIN service_instances i ON i.id = b.service_instance_id WHERE i.guid = ?",
    )
    .bind(id)
    .fetch_optional(&mut bed.root().await)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_broker_dies_at_each_step_of_a_bind() {
    let bed = bed(LEASE).await;
    let cases = [("B1", "creating", 0, 422), ("B2", "creating", 1, 422), ("B3", "creating", 1, 422), ("B4", "ready", 1, 200)];
    join_all(cases.map(async |(point, state, accounts, status)| {
        let id = guid();
        bed.osb().provision(&id).await.expect(201);
        kill_at(&bed, point, Verb::Bind, &id).await;
        let (found, user) = binding_of(&bed, &id).await.unwrap_or_else(|| panic!("{point}: no row"));
        assert_eq!((found.as_str(), bed.accounts(&user).await), (state, accounts), "{point}");
        let answer = duplicate(&bed, point, Verb::Bind, &id, status).await;
        if status == 200 {
            assert_eq!(answer.body["credentials"]["username"], user.as_str(), "the same credentials");
            app(&answer.body).await.unwrap();
            return;
        }
        eventually("the sweep", async || binding_of(&bed, &id).await.is_none().then_some(())).await;
        assert_eq!(bed.accounts(&user).await, 0, "{point}");
        let bound = bed.osb().bind(&id, "b1").await.expect(201);
        app(&bound).await.unwrap();
        assert_ne!(bound["credentials"]["username"], user.as_str(), "{point}: another attempt, another name");
    }))
    .await;
    assert_eq!(bed.number("SELECT COUNT(*) FROM service_bindings WHERE state = 'ready'").await, 4);
}

#[tokio::test]
async fn a_broker_dies_at_each_step_of_an_unbind() {
    let bed = bed(LEASE).await;
    let cases = [("U1", true, 1, true, 422), ("U2.account", true, 0, true, 422), ("U2", true, 0, false, 422), ("U3", false, 0, false, 410)];
    join_all(cases.map(async |(point, has_row, accounts, has_session, status)| {
        let id = guid();
        bed.osb().provision(&id).await.expect(201);
        let bound = bed.osb().bind(&id, "b1").await.expect(201);
        let user = bound["credentials"]["username"].as_str().unwrap();
        let mut session = app(&bound).await.unwrap();
        kill_at(&bed, point, Verb::Unbind, &id).await;
        assert_eq!(binding_of(&bed, &id).await.map(|(state, _)| state), has_row.then(|| "deleting".to_owned()), "{point}");
        assert_eq!(bed.accounts(user).await, accounts, "{point}");
        assert_eq!(session.number("SELECT 1").await.is_ok(), has_session, "{point}");
        duplicate(&bed, point, Verb::Unbind, &id, status).await;
        eventually("the sweep", async || binding_of(&bed, &id).await.is_none().then_some(())).await;
        assert_eq!(bed.accounts(user).await, 0, "{point}");
        assert!(session.number("SELECT 1").await.is_err(), "{point}: the session has ended");
        bed.osb().unbind(&id, "b1").await.expect(410);
    }))
    .await;
}

#[tokio::test]
async fn a_broker_dies_at_each_step_of_a_change_of_plan() {
    let bed = bed(LEASE).await;
    let cases = [("C1", "updating", 10, 422), ("C2", "updating", 7, 422), ("C3", "ready", 7, 200)];
    join_all(cases.map(async |(point, state, limit, status)| {
        let id = guid();
        bed.osb().provision(&id).await.expect(201);
        let bound = bed.osb().bind(&id, "b1").await.expect(201);
        let user = bound["credentials"]["username"].as_str().unwrap();
        let limit_now = async || bed.number(&format!("SELECT max_user_connections FROM mysql.user WHERE User = '{user}'")).await;
        kill_at(&bed, point, Verb::Update, &id).await;
        assert_eq!(left(&bed, &id).await, row(state, 1, 20), "{point}: the room of the larger plan is held");
        assert_eq!(limit_now().await, limit, "{point}");
        duplicate(&bed, point, Verb::Update, &id, status).await;
        if status == 200 {
            return;
        }
        becomes(&bed, point, &id, row("ready", 1, 5)).await;
        assert_eq!(limit_now().await, 10, "{point}: as before");
        bed.osb().send(Verb::Update.request(bed.osb(), &id)).await.expect(200);
        assert_eq!((left(&bed, &id).await, limit_now().await), (row("ready", 1, 20), 7), "{point}");
    }))
    .await;
    assert_eq!(bed.reserved_mb().await, 60);
}

/// Stops a broker at a point until `meanwhile` is done, lets it go on, and hands back what it answered.
async fn stall(bed: &Bed, point: &str, verb: Verb, id: &str, meanwhile: impl AsyncFnOnce() -> ()) -> Answer {
    let (process, osb) = victim(bed, &format!("{point}:stop")).await;
    let request = verb.request(&osb, id);
    let answer = tokio::spawn(async move { osb.send(request).await });
    eventually(&format!("{point}: the broker stands still"), async || process.is_stopped().then_some(())).await;
    meanwhile().await;
    process.signal(Signal::CONT);
    answer.await.unwrap()
}

async fn swept(bed: &Bed, id: &str) {
    becomes(bed, "stall", id, nothing()).await;
}

async fn with_data(bed: &Bed, id: &str) -> Value {
    bed.osb().provision(id).await.expect(201);
    let bound = bed.osb().bind(id, "b1").await.expect(201);
    app(&bound).await.unwrap().execute("CREATE TABLE t (a INT); INSERT INTO t VALUES (1), (2)").await.unwrap();
    bound
}

#[tokio::test]
async fn a_deprovision_that_wakes_after_its_lease_destroys_nothing_of_its_successor() {
    let bed = bed(3.0).await;
    for point in ["D1", "D2.locked", "D2.database", "D2"] {
        let id = guid();
        bed.osb().provision(&id).await.expect(201);
        let mut bound = Value::Null;
        let answer = stall(&bed, point, Verb::Deprovision, &id, async || {
            swept(&bed, &id).await;
            bound = with_data(&bed, &id).await;
        })
        .await;
        assert_eq!(answer.expect(422)["error"], "ConcurrencyError");
        assert_eq!(left(&bed, &id).await, row("ready", 1, 5), "{point}");
        assert_eq!(app(&bound).await.unwrap().number("SELECT COUNT(*) FROM t").await.unwrap(), 2, "{point}");
    }
    assert_eq!(bed.reserved_mb().await, 20);
}

#[tokio::test]
async fn a_provision_that_wakes_after_its_lease_leaves_nothing_and_takes_nothing() {
    let bed = bed(3.0).await;
    for point in ["P1", "P2"] {
        let id = guid();
        let mut bound = Value::Null;
        let answer = stall(&bed, point, Verb::Provision, &id, async || {
            swept(&bed, &id).await;
            bound = with_data(&bed, &id).await;
        })
        .await;
        assert_eq!(answer.expect(422)["error"], "ConcurrencyError");
        assert_eq!(left(&bed, &id).await, row("ready", 1, 5), "{point}: one database, the successor's");
        assert_eq!(app(&bound).await.unwrap().number("SELECT COUNT(*) FROM t").await.unwrap(), 2, "{point}");
    }
    assert_eq!(bed.reserved_mb().await, 10);
}

#[tokio::test]
async fn a_bind_or_unbind_that_wakes_after_its_lease_leaves_the_successors_account_alone() {
    let bed = bed(3.0).await;
    for (point, verb) in [("B1", Verb::Bind), ("B2", Verb::Bind), ("B3", Verb::Bind), ("U1", Verb::Unbind), ("U2.account", Verb::Unbind)] {
        let id = guid();
        bed.osb().provision(&id).await.expect(201);
        if matches!(verb, Verb::Unbind) {
            bed.osb().bind(&id, "b1").await.expect(201);
        }
        let (mut bound, mut first) = (Value::Null, String::new());
        let answer = stall(&bed, point, verb, &id, async || {
            first = binding_of(&bed, &id).await.unwrap().1;
            eventually("the sweep", async || binding_of(&bed, &id).await.is_none().then_some(())).await;
            bound = bed.osb().bind(&id, "b1").await.expect(201);
        })
        .await;
        assert_eq!(answer.expect(422)["error"], "ConcurrencyError", "{point}");
        app(&bound).await.unwrap();
        assert_eq!(bed.accounts(&first).await, 0, "{point}");
    }
}

#[tokio::test]
async fn a_change_of_plan_waits_for_a_binding_that_is_being_made_with_the_old_limits() {
    let bed = bed(LEASE).await;
    let id = guid();
    bed.osb().provision(&id).await.expect(201);
    let bound = stall(&bed, "B1", Verb::Bind, &id, async || drop(duplicate(&bed, "B1", Verb::Update, &id, 422).await)).await.expect(201);
    bed.osb().send(Verb::Update.request(bed.osb(), &id)).await.expect(200);
    let user = bound["credentials"]["username"].as_str().unwrap();
    assert_eq!(bed.number(&format!("SELECT max_user_connections FROM mysql.user WHERE User = '{user}'")).await, 7);
}

#[tokio::test]
async fn a_bind_that_has_read_the_plan_before_its_change_has_the_limits_of_the_new_one() {
    let bed = bed(LEASE).await;
    let id = guid();
    bed.osb().provision(&id).await.expect(201);
    let change = async || drop(bed.osb().send(Verb::Update.request(bed.osb(), &id)).await.expect(200));
    let bound = stall(&bed, "B0", Verb::Bind, &id, change).await.expect(201);
    let user = bound["credentials"]["username"].as_str().unwrap();
    assert_eq!(bed.number(&format!("SELECT max_user_connections FROM mysql.user WHERE User = '{user}'")).await, 7);
}

#[tokio::test]
async fn the_same_update_again_is_accepted_again_while_it_goes_on() {
    let bed = bed(LEASE).await;
    let id = guid();
    bed.osb().provision(&id).await.expect(201);
    let accepting = format!("{}?accepts_incomplete=true", instance(&id));
    let update = async |osb: &Osb, plan: &str| osb.patch(&accepting, &json!({"service_id": SERVICE, "plan_id": plan})).await;
    let row = bed.number(&format!("SELECT id FROM service_instances WHERE guid = '{id}'")).await;
    stall(&bed, "C1", Verb::Update, &id, async || {
        let again = update(bed.osb(), PLAN_LARGE).await.expect(202);
        assert_eq!(again, json!({"operation": format!("update-{row}")}));
        update(bed.osb(), PLAN_SMALL).await.expect(422);
    })
    .await
    .expect(200);
    update(bed.osb(), PLAN_LARGE).await.expect(200);
}

#[tokio::test]
async fn what_wakes_after_a_delete_was_answered_makes_nothing() {
    let bed = bed(LEASE).await;
    for (point, verb) in [("P0", Verb::Provision), ("B0", Verb::Bind)] {
        let id = guid();
        if matches!(verb, Verb::Bind) {
            bed.osb().provision(&id).await.expect(201);
        }
        let delete = if matches!(verb, Verb::Bind) { Verb::Unbind } else { Verb::Deprovision };
        // nothing is there yet, and the platform hears so
        let answer = stall(&bed, point, verb, &id, async || drop(duplicate(&bed, point, delete, &id, 410).await)).await;
        assert_eq!(answer.expect(422)["error"], "ConcurrencyError", "{point}");
        assert!(binding_of(&bed, &id).await.is_none());
        // whoever comes after it is served
        bed.osb().send(verb.request(bed.osb(), &id)).await.expect(201);
        // the binding's instance was deleted, and is another one by now
        if matches!(verb, Verb::Bind) {
            bed.osb().unbind(&id, "b1").await.expect(200);
            let answer = stall(&bed, point, verb, &id, async || {
                bed.osb().deprovision(&id).await.expect(200);
                bed.osb().provision(&id).await.expect(201);
            })
            .await;
            assert_eq!(answer.expect(422)["error"], "ConcurrencyError", "{point}");
            assert!(binding_of(&bed, &id).await.is_none());
        }
    }
}

#[tokio::test]
async fn a_change_of_plan_that_wakes_after_its_lease_changes_nothing() {
    let bed = bed(3.0).await;
    for point in ["C1", "C2"] {
        let id = guid();
        bed.osb().provision(&id).await.expect(201);
        let bound = bed.osb().bind(&id, "b1").await.expect(201);
        let user = bound["credentials"]["username"].as_str().unwrap();
        let answer = stall(&bed, point, Verb::Update, &id, async || becomes(&bed, point, &id, row("ready", 1, 5)).await).await;
        assert_eq!(answer.expect(422)["error"], "ConcurrencyError", "{point}");
        let poll = bed.osb().get(&format!("{}/last_operation", instance(&id))).await.expect(200);
        assert_eq!(poll["state"], "failed", "{point}: what wakes does not make others forget that it was undone");
        assert_eq!(left(&bed, &id).await, row("ready", 1, 5), "{point}");
        assert_eq!(bed.number(&format!("SELECT max_user_connections FROM mysql.user WHERE User = '{user}'")).await, 10, "{point}");
    }
}

#[tokio::test]
async fn an_update_that_is_undone_under_other_settings_sells_nothing_twice() {
    let mut bed = bed(3.0).await;
    let id = guid();
    bed.osb().put(&instance(&id), &provision_body(PLAN_LARGE)).await.expect(201);
    bed.brokers.clear();
    let (mut process, osb) = victim(&bed, "C1").await;
    let smaller = osb.request(Method::PATCH, &instance(&id)).json(&json!({"service_id": SERVICE, "plan_id": PLAN_SMALL}));
    assert!(osb.try_send(smaller).await.is_err());
    assert_eq!(process.ended().await.0.signal(), Some(9));
    bed.change_settings(&json!({"capacity": {"per_instance": 10}}));
    bed.start_broker().await;
    eventually("the update is undone", async || (left(&bed, &id).await.state.as_deref() == Some("ready")).then_some(())).await;
    assert_eq!(bed.reserved_mb().await, 20, "what was taken for it, and no more");
}

/// A pass that dies at a point.
fn pass_that_dies(bed: &Bed, point: &str) {
    let arguments = ["quota-enforcer".as_ref(), "--config".as_ref(), bed.config.as_os_str(), "--once".as_ref()];
    let (code, _, stderr) = run(&arguments, &[("CF_MYSQL_BROKER_FAILPOINT", point)]);
    assert!(code == -1 && stderr.contains(&format!("failpoint {point}")), "{code} {stderr}");
}

#[tokio::test]
async fn a_session_that_began_with_a_right_taken_by_somebody_who_died_is_ended() {
    let bed = Bed::new().await;
    let (bound, mut tenant) = instance_with_table(&bed, "i1").await;
    fill(&mut tenant, 6).await;
    assert_eq!(once(&bed)["violators"], 1);
    let (user, pattern) = (bound["credentials"]["username"].as_str().unwrap(), bed.database_of("i1").await.replace('_', "\\_"));
    bed.execute(&format!("GRANT INSERT ON `{pattern}`.* TO '{user}'@'%'")).await;
    let mut late = app(&bound).await.unwrap();
    pass_that_dies(&bed, "E1");
    assert!(is_denied(&bound, MEGABYTE).await, "the right is gone");
    late.execute(MEGABYTE).await.unwrap();
    let report = once(&bed);
    assert!(late.execute(MEGABYTE).await.is_err(), "{report}");
    assert_eq!(once(&bed)["sessions_ended"], 0);
}

#[tokio::test]
async fn a_session_that_began_without_a_right_given_back_by_somebody_who_died_is_ended() {
    let bed = Bed::new().await;
    let (bound, mut tenant) = instance_with_table(&bed, "i1").await;
    fill(&mut tenant, 6).await;
    assert_eq!(once(&bed)["violators"], 1);
    let mut reader = app(&bound).await.unwrap();
    reader.execute("TRUNCATE TABLE t").await.unwrap();
    pass_that_dies(&bed, "E2");
    let report = once(&bed);
    assert_eq!((&report["reformers"], &report["sessions_ended"]), (&json!(1), &json!(1)), "{report}");
    assert!(reader.execute("DO 1").await.is_err() && !is_denied(&bound, MEGABYTE).await);
}
