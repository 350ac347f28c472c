use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::deployment::{Database, Deployment, Wishes, files, free_port, render, services, set};
use crate::support::broker::run;
use crate::support::osb::Osb;

/// The files of an instance, without what differs between any two renderings: their folder.
fn rendered(wishes: &Wishes, variables: &Value) -> BTreeMap<String, String> {
    let mut deployment = Deployment::new(wishes);
    for (name, value) in variables.as_object().unwrap() {
        deployment.variables[name] = value.clone();
    }
    std::fs::write(deployment.folder().join("variables.json"), deployment.variables.to_string()).unwrap();
    let vm = deployment.instance("cf-mysql-broker", 0, &[]);
    let root = vm.root.display().to_string();
    let (code, _, stderr) = run(&["check-config".as_ref(), "--config".as_ref(), vm.config().as_os_str()], &[]);
    assert_eq!(code, 0, "{:?}: {stderr}", wishes.operations);
    files(&vm.path("jobs")).into_iter().map(|(path, text)| (path, text.replace(&root, ""))).collect()
}

/// Lines that are in only one of both, as `file: line`.
fn difference(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let lines = |files: &BTreeMap<String, String>| {
        files
            .iter()
            .flat_map(|(path, text)| text.lines().map(move |line| format!("{path}: {}", line.trim())).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    let (before, after) = (lines(before), lines(after));
    let mut found: Vec<_> = before.iter().filter(|line| !after.contains(line)).map(|line| format!("- {line}")).collect();
    found.extend(after.iter().filter(|line| !before.contains(line)).map(|line| format!("+ {line}")));
    found
}

const CONFIG: &str = "cf-mysql-broker/config/broker.json";

#[test]
fn the_pause_is_one_line_of_one_file() {
    let secrets = crate::deployment::variables();
    let before = rendered(&Wishes::default(), &secrets);
    let wishes = Wishes { operations: vec!["quota-enforcer-pause"], variables: json!({"quota_enforcer_pause": 7}), ..Wishes::default() };
    let after = rendered(&wishes, &secrets);
    assert_eq!(difference(&before, &after), [format!("- {CONFIG}: \"pause\": 1,"), format!("+ {CONFIG}: \"pause\": 7,")]);
}

#[test]
fn ops_files_do_what_they_say_and_the_program_accepts_it() {
    let secrets = crate::deployment::variables();
    let settings = |operations: &[&'static str], variables: Value| -> Value {
        let wishes = Wishes { operations: operations.to_vec(), variables, ..Wishes::default() };
        serde_json::from_str(&rendered(&wishes, &secrets)[CONFIG]).unwrap()
    };
    let ignoring = settings(&["ignored-users"], json!({"quota_enforcer_ignored_users": ["backup"]}));
    assert_eq!(ignoring["quota_enforcer"]["ignored_users"], json!(["backup", "roadmin", "quota-enforcer"]));
    let disabled = settings(&["disable-quota-enforcer"], json!({}));
    assert_eq!(disabled["quota_enforcer"]["username"], Value::Null);
    let tls = settings(&["broker-tls"], json!({}));
    assert_eq!(tls["server"]["tls"]["certificate_file"], "/var/vcap/jobs/cf-mysql-broker/config/tls.crt");
    let ca = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----";
    let mysql = settings(&["mysql-tls"], json!({"mysql_ca_certificate": ca}));
    assert_eq!(mysql["mysql"]["tls"], json!({"mode": "verify_ca", "ca_file": "/var/vcap/jobs/cf-mysql-broker/config/mysql-ca.pem"}));
    let external = settings(&["external-mysql"], json!({"mysql_host": "db.example.com", "mysql_port": 3307, "mysql_ca_certificate": ca}));
    assert_eq!((&external["mysql"]["port"], &external["capacity"]["gcache_size"]), (&json!(3307), &json!(0)));
}

#[test]
fn scaling_pxc_and_the_router_are_seen_in_the_manifest() {
    let manifest = |operations: &[&'static str], more: Value| -> Value {
        let deployment = Deployment::new(&Wishes { operations: operations.to_vec(), variables: more, ..Wishes::default() });
        let base = crate::deployment::bosh_folder().join("manifests/cf-mysql-broker.yml");
        let variables = deployment.folder().join("variables.json");
        let files: Vec<_> = operations
            .iter()
            .map(|name| crate::deployment::bosh_folder().join(format!("operations/{name}.yml")).display().to_string())
            .collect();
        let mut arguments =
            vec!["--manifest", base.to_str().unwrap(), "--vars", variables.to_str().unwrap(), "--generate", "--interpolate"];
        for file in &files {
            arguments.extend(["--ops", file]);
        }
        let yaml = render(&arguments);
        let convert = "require 'yaml'; require 'json'; puts JSON.generate(YAML.safe_load(ARGV[0]))";
        let output = crate::deployment::run(std::process::Command::new("ruby").args(["-e", convert, "--", &yaml]));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let base = manifest(&[], json!({}));
    let group = &base["instance_groups"][0];
    assert!(group["instances"].as_u64() >= Some(2), "two or more brokers");
    let route = &group["jobs"][2]["properties"]["route_registrar"]["routes"][0];
    assert_eq!(route["health_check"]["script_path"], "/var/vcap/jobs/cf-mysql-broker/bin/healthcheck");
    let seconds = |value: &Value| value.as_str().unwrap().trim_end_matches('s').parse::<u64>().unwrap();
    let (interval, timeout) = (seconds(&route["registration_interval"]), seconds(&route["health_check"]["timeout"]));
    assert!(timeout < interval, "route_registrar refuses anything else");
    let deployment = Deployment::new(&Wishes::default());
    let vm = deployment.instance("cf-mysql-broker", 0, &[]);
    let withdrawal: u64 = vm.succeed("cf-mysql-broker", "drain").trim().parse().unwrap();
    assert!(withdrawal > interval + timeout, "a stopping instance must be out of the router before it stops");
    let tls = manifest(&["broker-tls"], json!({}));
    let route = &tls["instance_groups"][0]["jobs"][2]["properties"]["route_registrar"]["routes"][0];
    assert_eq!((&route["port"], &route["tls_port"]), (&Value::Null, &json!(8081)));
    assert_eq!(manifest(&["scale-broker"], json!({"broker_instances": 5}))["instance_groups"][0]["instances"], 5);
    let pxc = manifest(&["use-pxc"], json!({"pxc_deployment_name": "pxc"}));
    assert_eq!(pxc["instance_groups"][0]["jobs"][1]["consumes"]["database"], json!({"from": "mysql-database", "deployment": "pxc"}));
    let client = manifest(&["cf-client-credentials"], json!({"cf_client_id": "c", "cf_client_secret": "s"}));
    assert_eq!(client["instance_groups"][1]["jobs"][1]["properties"]["cf"], json!({"client_id": "c", "client_secret": "s"}));
}

#[tokio::test]
async fn restarting_the_enforcer_leaves_the_broker_and_its_requests_alone() {
    let database = Database::start().await;
    let deployment = Deployment::new(&Wishes { variables: json!({"mysql_host": database.host()}), ..Wishes::default() });
    database.make_accounts(&deployment);
    let port = free_port();
    let mut vm =
        deployment.instance("cf-mysql-broker", 0, &[set("cf_mysql.broker.port", port), set("cf_mysql.broker.services", services())]);
    vm.start().await;
    vm.logged("quota-enforcer", "\"message\"", 1).await;
    let (broker, enforcer) = (vm.pid("cf-mysql-broker"), vm.pid("quota-enforcer"));

    // a request in the middle of its work: the counter's row is locked
    let mut root = database.root().await;
    sqlx::raw_sql("START TRANSACTION; SELECT * FROM capacity FOR UPDATE").execute(&mut root).await.unwrap();
    let osb = Osb::new(format!("http://127.0.0.1:{port}"), deployment.variable("cf_mysql_broker_auth_password").to_owned());
    let provisioning = tokio::spawn(async move { osb.provision("i1").await });
    crate::support::eventually("a reservation waits", async || {
        let waiting = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'cf-mysql-broker' AND INFO LIKE 'UPDATE capacity%'";
        (database.number(waiting).await > 0).then_some(())
    })
    .await;

    vm.monit("stop", "quota-enforcer").await;
    vm.monit("start", "quota-enforcer").await;
    assert_ne!(vm.pid("quota-enforcer"), enforcer);
    sqlx::raw_sql("COMMIT").execute(&mut root).await.unwrap();
    assert_eq!(provisioning.await.unwrap().status, 201);
    assert!(vm.is_running("cf-mysql-broker") && vm.is_running("quota-enforcer"));
    assert_eq!(vm.pid("cf-mysql-broker"), broker);
    assert_eq!(vm.log("cf-mysql-broker").matches("\"listening\"").count(), 1, "it has not started twice");
}
