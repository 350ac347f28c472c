use serde_json::json;

use crate::deployment::{Cloud, Deployment, Vm, Wishes, free_port, services, set, set_in, text};
use crate::support::eventually;
use crate::support::osb::Osb;

/// A broker that answers for its catalog (there is no database), and a platform.
struct Errands {
    _broker: Vm,
    cloud: Cloud,
    port: u16,
    deployment: Deployment,
}

impl Errands {
    async fn start(operations: Vec<&'static str>) -> Self {
        let port = free_port();
        let more = vec![
            set("cf_mysql.broker.port", port),
            set("cf_mysql.broker.services", services()),
            set_in("broker-registrar", "cf_mysql.broker", json!({"protocol": "http", "port": port})),
        ];
        let variables = json!({"mysql_host": "127.0.0.1:1", "cf_client_id": "a-client", "cf_client_secret": "its secret"});
        let deployment = Deployment::new(&Wishes { operations, more, variables });
        let mut broker = deployment.instance("cf-mysql-broker", 0, &[]);
        broker.monit("start", "cf-mysql-broker").await;
        let osb = Osb::new(format!("http://127.0.0.1:{port}"), String::new());
        eventually("the broker listens", async || osb.try_send(osb.bare(reqwest::Method::GET, "/health")).await.ok()).await;
        Self { cloud: Cloud::new(&deployment), deployment, port, _broker: broker }
    }

    fn errand(&self, name: &str) -> Vm {
        let vm = self.deployment.instance(name, 0, &[]);
        self.cloud.install(&vm);
        vm
    }

    /// The commands of a run, each checked for what is nobody's to see.
    fn commands(&self) -> Vec<String> {
        let secrets = ["cf_admin_password", "cf_mysql_broker_auth_password", "cf_mysql_broker_db_password"]
            .map(|name| self.deployment.variable(name));
        self.cloud
            .commands()
            .into_iter()
            .map(|(command, environment)| {
                assert!(!secrets.iter().any(|secret| command.contains(secret)) && !command.contains("its secret"), "{command}");
                let home = environment["CF_HOME"].as_str().expect("a CF_HOME of its own");
                assert!(!std::path::Path::new(home).exists(), "{home} is left behind");
                command
            })
            .collect()
    }
}

#[tokio::test]
async fn the_registrar_registers_updates_and_opens_what_is_not_private() {
    let errands = Errands::start(vec![]).await;
    let registrar = errands.errand("broker-registrar");
    registrar.succeed("broker-registrar", "run");
    let url = format!("http://127.0.0.1:{}", errands.port);
    let look = "curl --fail /v3/service_brokers?names=p-mysql";
    let opened = [
        "enable-service-access p-mysql -b p-mysql -p plan-small",
        "enable-service-access p-mysql -b p-mysql -p plan-large",
        "curl --fail /v3/service_plans?service_broker_names=p-mysql&service_offering_names=p-mysql&names=plan-hidden",
        "enable-service-access p-mysql-2 -b p-mysql -p plan-other",
    ];
    let (login, create) = (["api https://api.example.com", "auth"], format!("create-service-broker p-mysql admin {url}"));
    let expected: Vec<&str> = login.into_iter().chain([look, &create]).chain(opened).collect();
    assert_eq!(errands.commands(), expected);

    registrar.succeed("broker-registrar", "run");
    let update = create.replace("create-", "update-");
    let again: Vec<&str> = login.into_iter().chain([look, &update]).chain(opened).collect();
    assert_eq!(errands.commands(), again);
    let plans = |state: &serde_json::Value| {
        let offerings = state["brokers"]["p-mysql"]["offerings"].as_array().unwrap().clone();
        let plans = offerings.iter().flat_map(|offering| offering["plans"].as_array().unwrap().clone());
        plans
            .map(|plan| (plan["name"].as_str().unwrap().to_owned(), plan["visibility_type"].as_str().unwrap().to_owned()))
            .collect::<Vec<_>>()
    };
    let of = |name: &str, visibility: &str| (name.to_owned(), visibility.to_owned());
    let wanted = vec![of("plan-small", "public"), of("plan-large", "public"), of("plan-hidden", "admin"), of("plan-other", "public")];
    assert_eq!(plans(&errands.cloud.state()), wanted);

    // a plan that has become private is closed; one whose organizations somebody chose stays
    for (before, after) in [("public", "admin"), ("organization", "organization")] {
        errands.cloud.change(|state| state["brokers"]["p-mysql"]["offerings"][0]["plans"][2]["visibility_type"] = before.into());
        registrar.succeed("broker-registrar", "run");
        assert_eq!(plans(&errands.cloud.state())[2], of("plan-hidden", after));
    }
}

#[tokio::test]
async fn deregistering_forgets_everything_and_can_be_run_again() {
    let errands = Errands::start(vec!["cf-client-credentials"]).await;
    errands.errand("broker-registrar").succeed("broker-registrar", "run");
    assert_eq!(errands.commands()[1], "auth --client-credentials");
    errands
        .cloud
        .change(|state| state["instances"]["db"] = json!({"broker": "p-mysql", "service_id": crate::support::bed::SERVICE, "keys": {}}));
    let deregister = errands.errand("deregister-and-purge-instances");
    deregister.succeed("deregister-and-purge-instances", "run");
    let commands = errands.commands();
    let changing: Vec<_> = commands.iter().filter(|command| !command.starts_with("curl")).skip(2).collect();
    assert_eq!(
        changing,
        [
            "purge-service-offering p-mysql -b p-mysql -f",
            "purge-service-offering p-mysql-2 -b p-mysql -f",
            "delete-service-broker p-mysql -f"
        ]
    );
    let state = errands.cloud.state();
    assert_eq!((&state["brokers"], &state["instances"]), (&json!({}), &json!({})));

    let said = deregister.succeed("deregister-and-purge-instances", "run");
    assert!(said.contains("There is no broker p-mysql: nothing to do."), "{said}");
    assert_eq!(errands.commands().len(), 3);
}

#[tokio::test]
async fn what_cannot_be_asked_is_not_taken_for_nothing() {
    let errands = Errands::start(vec![]).await;
    for name in ["broker-registrar", "deregister-and-purge-instances"] {
        let errand = errands.errand(name);
        errands.cloud.change(|state| state["broken"] = "curl".into());
        let output = errand.script(name, "run");
        assert!(!output.status.success(), "{name}: {}", text(&output.stdout));
        assert_eq!(errands.commands().last().unwrap(), "curl --fail /v3/service_brokers?names=p-mysql", "{name} has gone on");
        errands.cloud.change(|state| state["broken"] = json!(null));

        let admin = errands.cloud.state()["admin"].clone();
        errands.cloud.change(|state| state["admin"] = json!(["admin", "another"]));
        assert!(!errand.script(name, "run").status.success());
        assert_eq!(errands.commands().last().unwrap(), "auth", "{name} has gone on without a login");
        errands.cloud.change(|state| state["admin"] = admin);
    }
}
