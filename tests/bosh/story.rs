use cf_mysql_broker::mysql::app_session::AppSession;
use cf_mysql_broker::mysql::{Error, code};
use serde_json::{Value, json};

use crate::deployment::{Cloud, Database, Deployment, Router, Wishes, free_port, services, set, set_in, text};
use crate::support::bed::{app, make_room};
use crate::support::eventually;

const MEGABYTE: &str = "INSERT INTO t (body) VALUES (REPEAT('x', 1048576))";

/// Whether a new session may write; one that the enforcer ends is begun again.
async fn may_write(key: &Value) -> bool {
    loop {
        let Ok(mut session) = app(key).await else { continue };
        match session.execute("INSERT INTO t (body) VALUES ('x')").await {
            Ok(_) => return true,
            Err(error) if error.code() == Some(code::TABLE_ACCESS_DENIED) => return false,
            Err(Error::ConnectionLost(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// The whole of it, as an operator and a developer see it.
#[tokio::test]
async fn from_the_registrar_to_deregistering() {
    let database = Database::start().await;
    let ports = [free_port(), free_port()];
    let mut deployment = Deployment::new(&Wishes {
        more: vec![set("cf_mysql.broker.services", services())],
        variables: json!({"mysql_host": database.host(), "quota_enforcer_pause": 2}),
        ..Wishes::default()
    });
    database.make_accounts(&deployment);
    let own = |i: usize| [set("cf_mysql.broker.port", ports[i])];
    let mut vms = [0, 1].map(|i| deployment.instance("cf-mysql-broker", i, &own(i)));
    for vm in &mut vms {
        vm.start().await;
    }
    let router = Router::start(deployment.folder(), &[(&vms[0], ports[0]), (&vms[1], ports[1])]).await;
    deployment.add(set_in("broker-registrar", "cf_mysql.broker", json!({"protocol": "http", "port": router.port})));
    let cloud = Cloud::new(&deployment);
    let errand = |deployment: &Deployment, name: &str| {
        let vm = deployment.instance(name, 0, &[]);
        cloud.install(&vm);
        let output = vm.script(name, "run");
        assert!(output.status.success(), "{name}: {} {}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    };

    // the operator registers the broker and tries it
    errand(&deployment, "broker-registrar");
    let said = errand(&deployment, "smoke-tests");
    assert!(said.contains("The smoke tests have passed.") && said.matches("a row was written and read").count() == 2, "{said}");
    assert_eq!((&cloud.state()["instances"], &cloud.state()["orgs"]), (&json!({}), &json!({})), "it leaves nothing");

    // a developer takes a database
    cloud.cf(&["create-service", "p-mysql", "plan-small", "db", "--wait"]);
    cloud.cf(&["create-service-key", "db", "key", "--wait"]);
    let printed = cloud.cf(&["service-key", "db", "key"]);
    let key: Value = serde_json::from_str(&printed[printed.find('{').unwrap()..]).unwrap();
    let mut session = app(&key).await.unwrap();
    session.execute("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, body LONGBLOB)").await.unwrap();

    // over the quota of 5 MB: writing is taken, reading is not
    fill(&mut session).await;
    eventually("writing is taken", async || (!may_write(&key).await).then_some(())).await;
    assert!(app(&key).await.unwrap().number("SELECT COUNT(*) FROM t").await.unwrap() >= 4);

    // the operator changes the pause: the enforcers are restarted, the brokers are not
    let brokers = [0, 1].map(|i| vms[i].pid("cf-mysql-broker"));
    deployment.operate("quota-enforcer-pause");
    for (i, vm) in vms.iter_mut().enumerate() {
        let before = std::fs::read_to_string(vm.config()).unwrap();
        vm.rerender(&deployment, i, &own(i));
        let after = std::fs::read_to_string(vm.config()).unwrap();
        let changed: Vec<_> = before.lines().zip(after.lines()).filter(|(before, after)| before != after).collect();
        assert_eq!(changed, [("    \"pause\": 1,", "    \"pause\": 2,")]);
        vm.monit("stop", "quota-enforcer").await;
        vm.monit("start", "quota-enforcer").await;
    }
    assert_eq!([0, 1].map(|i| vms[i].pid("cf-mysql-broker")), brokers);
    assert!(!may_write(&key).await, "what was taken stays taken");

    // the developer makes room and has his rights back
    make_room(&key, "TRUNCATE TABLE t").await;
    eventually("writing is given back", async || may_write(&key).await.then_some(())).await;

    // the operator takes the broker away: the platform forgets, the database stays
    errand(&deployment, "deregister-and-purge-instances");
    assert_eq!((&cloud.state()["brokers"], &cloud.state()["instances"]), (&json!({}), &json!({})));
    assert!(app(&key).await.unwrap().number("SELECT COUNT(*) FROM t").await.unwrap() >= 1);
    assert_eq!(database.number("SELECT COUNT(*) FROM service_instances").await, 1);
}

async fn fill(session: &mut AppSession) {
    for _ in 0..6 {
        // the enforcer may be quicker than this loop
        if let Err(error) = session.execute(MEGABYTE).await {
            assert!(error.code() == Some(code::TABLE_ACCESS_DENIED) || matches!(error, Error::ConnectionLost(_)), "{error}");
        }
    }
}

/// An errand that cannot do its work fails, says so, and cleans up.
#[tokio::test]
async fn smoke_tests_fail_where_there_is_no_database() {
    let port = free_port();
    let more = vec![
        set("cf_mysql.broker.port", port),
        set("cf_mysql.broker.services", services()),
        set_in("broker-registrar", "cf_mysql.broker", json!({"protocol": "http", "port": port})),
    ];
    let deployment = Deployment::new(&Wishes { more, variables: json!({"mysql_host": "127.0.0.1:1"}), ..Wishes::default() });
    let mut vm = deployment.instance("cf-mysql-broker", 0, &[]);
    vm.monit("start", "cf-mysql-broker").await;
    eventually("the broker listens", async || vm.script("cf-mysql-broker", "healthcheck").status.success().then_some(())).await;
    let cloud = Cloud::new(&deployment);
    let errand = |name: &str| {
        let vm = deployment.instance(name, 0, &[]);
        cloud.install(&vm);
        vm.script(name, "run")
    };
    assert!(errand("broker-registrar").status.success());
    let output = errand("smoke-tests");
    assert!(!output.status.success());
    assert!(
        text(&output.stderr).contains("THE SMOKE TESTS HAVE FAILED.") && text(&output.stderr).contains("503"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(cloud.state()["orgs"], json!({}), "it leaves nothing");
}
