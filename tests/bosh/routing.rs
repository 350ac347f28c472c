use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::deployment::{Database, Deployment, Router, Vm, Wishes, free_port, run, services, set, text};
use crate::support::osb::{Osb, bind_body, binding, instance, provision_body};
use crate::support::{bed::PLAN_SMALL, eventually};

/// Two instances of the manifest; only the port differs, because both run on this machine.
struct Two {
    // dropped first, so that a failure can show their logs
    vms: [Vm; 2],
    ports: [u16; 2],
    deployment: Deployment,
    database: Database,
}

impl Two {
    async fn start(more: Vec<Value>) -> Self {
        let database = Database::start().await;
        let mut operations = vec![set("cf_mysql.broker.services", services())];
        operations.extend(more);
        let deployment =
            Deployment::new(&Wishes { variables: json!({"mysql_host": database.host()}), more: operations, ..Wishes::default() });
        database.make_accounts(&deployment);
        let ports = [free_port(), free_port()];
        let mut vms = [0, 1].map(|i| deployment.instance("cf-mysql-broker", i, &[set("cf_mysql.broker.port", ports[i])]));
        for vm in &mut vms {
            vm.start().await;
        }
        Self { database, deployment, vms, ports }
    }

    async fn router(&self) -> Router {
        Router::start(self.deployment.folder(), &[(&self.vms[0], self.ports[0]), (&self.vms[1], self.ports[1])]).await
    }

    fn client(&self, url: String) -> Osb {
        Osb::new(url, self.deployment.variable("cf_mysql_broker_auth_password").to_owned())
    }
}

/// Clients that create, bind, look, unbind and delete until they are told to stop.
struct Load {
    clients: Vec<tokio::task::JoinHandle<()>>,
    done: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

const CLIENTS: usize = 6;

impl Load {
    /// `patient`: what fails is sent again, as a platform does. Otherwise every answer must be the right one at once.
    fn start(osb: &Osb, patient: bool) -> Self {
        let (done, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let clients = (0..CLIENTS)
            .map(|client| {
                let (osb, done, stop) = (osb.clone(), done.clone(), stop.clone());
                tokio::spawn(async move {
                    for turn in 0.. {
                        round(&osb, &format!("i-{client}-{turn}"), patient).await;
                        done.fetch_add(1, Ordering::Relaxed);
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                })
            })
            .collect();
        Self { clients, done, stop }
    }

    /// Waits until there have been so many more rounds that each client has had some.
    async fn goes_on(&self) {
        let before = self.done.load(Ordering::Relaxed);
        eventually("the calls go on", async || {
            let failed = self.clients.iter().any(tokio::task::JoinHandle::is_finished);
            (failed || self.done.load(Ordering::Relaxed) >= before + 3 * CLIENTS).then_some(())
        })
        .await;
    }

    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.expect("every answer was right");
        }
        self.done.load(Ordering::Relaxed)
    }
}

async fn round(osb: &Osb, id: &str, patient: bool) {
    let (provision, bind) = (provision_body(PLAN_SMALL), bind_body());
    expect(patient, &[201], &[200], || osb.request(reqwest::Method::PUT, &instance(id)).json(&provision), osb).await;
    expect(patient, &[201], &[200], || osb.request(reqwest::Method::PUT, &binding(id, "b")).json(&bind), osb).await;
    expect(patient, &[200], &[], || osb.request(reqwest::Method::GET, &binding(id, "b")), osb).await;
    let ids = format!("?service_id={}&plan_id={PLAN_SMALL}", crate::support::bed::SERVICE);
    expect(patient, &[200], &[410], || osb.request(reqwest::Method::DELETE, &(binding(id, "b") + &ids)), osb).await;
    expect(patient, &[200], &[410], || osb.request(reqwest::Method::DELETE, &(instance(id) + &ids)), osb).await;
}

/// `right` is the answer of a first call, `repeated` also that of one that is sent again.
async fn expect(patient: bool, right: &[u16], repeated: &[u16], request: impl Fn() -> reqwest::RequestBuilder, osb: &Osb) {
    let first = osb.try_send(request()).await;
    if first.as_ref().is_ok_and(|answer| right.contains(&answer.status)) {
        return;
    }
    assert!(patient, "a request was lost: {first:?}");
    eventually(&format!("the call is answered; first {first:?}"), async || {
        let answer = osb.try_send(request()).await.ok()?;
        let is_right = right.contains(&answer.status) || repeated.contains(&answer.status);
        // the lease of the dead broker's operation still runs, or the router has not seen yet that it is dead
        let is_passing = answer.status >= 500 || answer.status == 422 || answer.status == 202;
        assert!(is_right || is_passing, "{} {}", answer.status, answer.body);
        is_right.then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_stopped_loses_no_request_and_one_killed_stops_nobody() {
    let mut two = Two::start(vec![set("cf_mysql.broker.operation_lease", 2)]).await;
    let router = two.router().await;
    let osb = two.client(router.url());

    let load = Load::start(&osb, false);
    load.goes_on().await;
    for i in [0, 1] {
        // what BOSH does to stop an instance: drain, wait as long as that says (here: until it has come true), monit stop
        two.vms[i].succeed("cf-mysql-broker", "drain").trim().parse::<u32>().expect("seconds");
        router.has(i, false).await;
        for process in two.vms[i].watched() {
            two.vms[i].monit("stop", &process).await;
        }
        load.goes_on().await;
        two.vms[i].start().await;
        router.has(i, true).await;
        load.goes_on().await;
    }
    let rounds = load.end().await;
    assert!(rounds > CLIENTS * 5, "{rounds} rounds, none with a request lost");

    let load = Load::start(&osb, true);
    load.goes_on().await;
    two.vms[1].kill("cf-mysql-broker");
    router.has(1, false).await;
    load.goes_on().await;
    two.vms[1].monit("start", "cf-mysql-broker").await;
    router.has(1, true).await;
    load.goes_on().await;
    load.end().await;

    let left = "SELECT (SELECT COUNT(*) FROM service_instances) + (SELECT COUNT(*) FROM service_bindings)";
    assert_eq!(two.database.number(left).await, 0, "everything that was created was deleted");
    assert_eq!(two.database.number("SELECT reserved_bytes FROM capacity").await, 0);
    let databases = "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE 'cf\\_%'";
    assert_eq!(two.database.number(databases).await, 0);
}

#[tokio::test]
async fn the_health_check_withdraws_the_route_and_post_start_waits_for_ready() {
    let database = Database::start().await;
    let more = vec![set("cf_mysql.broker.ready_timeout", 1)];
    let deployment = Deployment::new(&Wishes { variables: json!({"mysql_host": database.host()}), more, ..Wishes::default() });
    let port = free_port();
    let mut vm = deployment.instance("cf-mysql-broker", 0, &[set("cf_mysql.broker.port", port)]);
    let healthy = |vm: &Vm| vm.script("cf-mysql-broker", "healthcheck").status.success();

    assert!(!healthy(&vm), "nobody listens");
    vm.succeed("cf-mysql-broker", "pre-start");
    vm.monit("start", "cf-mysql-broker").await;
    eventually("the health check passes", async || healthy(&vm).then_some(())).await;
    // no accounts yet: it lives, it is not ready
    let output = vm.script("cf-mysql-broker", "post-start");
    assert!(!output.status.success() && text(&output.stderr).contains("reasons"), "{output:?}");
    database.make_accounts(&deployment);
    eventually("post-start passes", async || vm.script("cf-mysql-broker", "post-start").status.success().then_some(())).await;

    vm.succeed("cf-mysql-broker", "drain");
    assert!(!healthy(&vm), "a draining instance gives up its route");
    let osb = Osb::new(format!("http://127.0.0.1:{port}"), deployment.variable("cf_mysql_broker_auth_password").to_owned());
    osb.get("/v2/catalog").await.expect(200);
    vm.monit("stop", "cf-mysql-broker").await;
    assert!(!healthy(&vm));
    vm.succeed("cf-mysql-broker", "pre-start");
    vm.monit("start", "cf-mysql-broker").await;
    eventually("it is back", async || healthy(&vm).then_some(())).await;
}

#[tokio::test]
async fn with_broker_tls_the_scripts_speak_it_too() {
    let database = Database::start().await;
    let deployment =
        Deployment::new(&Wishes { operations: vec!["broker-tls"], variables: json!({"mysql_host": database.host()}), ..Wishes::default() });
    database.make_accounts(&deployment);
    let port = free_port();
    let mut vm = deployment.instance("cf-mysql-broker", 0, &[set("cf_mysql.broker.port", port)]);
    vm.start().await;
    vm.succeed("cf-mysql-broker", "healthcheck");
    let plain = run(std::process::Command::new("curl").args(["--silent", "--max-time", "5", &format!("http://127.0.0.1:{port}/health")]));
    assert!(!text(&plain.stdout).contains("up"), "only TLS is spoken");
}
