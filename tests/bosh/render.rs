use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::deployment::{bosh_folder, tests_folder, text};
use crate::support::broker::run;

/// One rendering that is wished for.
struct Wish {
    job: &'static str,
    properties: Value,
    links: Value,
}

/// Renders all of them in one process.
fn render(wishes: &[Wish]) -> Vec<Result<Value, String>> {
    let input: Vec<_> = wishes.iter().map(|wish| json!({"job": wish.job, "properties": wish.properties, "links": wish.links})).collect();
    let mut ruby = Command::new("ruby")
        .arg(tests_folder().join("render-cases.rb"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("ruby: {error}; run scripts/install-bosh-test-tools"));
    ruby.stdin.take().unwrap().write_all(Value::from(input).to_string().as_bytes()).unwrap();
    let output = ruby.wait_with_output().unwrap();
    let results: Vec<Value> = serde_json::from_str(&text(&output.stdout)).expect("results");
    assert_eq!(results.len(), wishes.len());
    results
        .into_iter()
        .map(|mut result| match result["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(result["files"].take()),
        })
        .collect()
}

fn broker() -> Value {
    json!({"cf_mysql": {
        "host": "10.0.0.10",
        "external_host": "p-mysql.example.com",
        "mysql": {"persistent_disk": 10_000},
        "broker": {
            "auth_password": "auth",
            "cookie_secret": "cookie",
            "db_password": "db",
            "quota_enforcer": {"password": "enforcer"},
            "services": [{"id": "s", "name": "p-mysql", "description": "d", "plans": [plan("p")]}],
        },
    }})
}

fn plan(id: &str) -> Value {
    json!({"id": id, "name": "small", "description": "d", "max_storage_mb": 10})
}

fn with(properties: &Value, path: &str, value: Value) -> Value {
    let mut changed = properties.clone();
    let pointer: Vec<_> = path.split('.').collect();
    let mut at = &mut changed;
    for key in &pointer {
        at = match key.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[*key],
        };
    }
    *at = value;
    changed
}

fn with_broker(changes: &[(&str, Value)]) -> Value {
    changes.iter().fold(broker(), |properties, (path, value)| with(&properties, path, value.clone()))
}

fn settings(files: &Value) -> Value {
    serde_json::from_str(files["config/broker.json"].as_str().expect("broker.json")).expect("JSON")
}

/// What `check-config` says of settings.
fn check_config(settings: &Value) -> (i32, String) {
    let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    std::fs::write(file.path(), settings.to_string()).unwrap();
    let (code, _, stderr) = run(&["check-config".as_ref(), "--config".as_ref(), file.path().as_os_str()], &[]);
    (code, stderr)
}

fn render_broker(changes: &[(&str, Value)], links: Value) -> Value {
    let wish = Wish { job: "cf-mysql-broker", properties: with_broker(changes), links };
    render(&[wish]).remove(0).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn what_is_rendered_is_accepted_by_the_program() {
    let every = [
        ("cf.api_url", json!("https://api.example.com")),
        ("cf.skip_ssl_validation", json!(true)),
        ("cf.ca_cert", json!("-----BEGIN CERTIFICATE-----")),
        ("cf_mysql.host", json!(["10.0.0.10", "10.0.0.11:3307", "::1"])),
        ("cf_mysql.mysql.port", json!(3310)),
        ("cf_mysql.mysql.gcache_size", json!(0)),
        ("cf_mysql.mysql.ib_log_file_size", json!(96)),
        ("cf_mysql.broker.port", json!(8082)),
        ("cf_mysql.broker.auth_username", json!("operator")),
        ("cf_mysql.broker.auth_password", json!("a'\"\\#{1}<%= 2 %>: \u{fc}")),
        ("cf_mysql.broker.credentials", json!([{"username": "new", "password": "n", "platform": "cf"}])),
        ("cf_mysql.broker.binding_secrets", json!([{"id": "2", "key": "0123456789abcdef0123456789abcdef"}])),
        ("cf_mysql.broker.connection_pool_size", json!(5)),
        ("cf_mysql.broker.advertised_hosts", json!(["mysql.example.com:3306"])),
        ("cf_mysql.broker.mysql_tls.mode", json!("required")),
        ("cf_mysql.broker.ssl_enabled", json!(false)),
        ("cf_mysql.broker.max_operations", json!(10)),
        ("cf_mysql.broker.failed_logins_per_minute", json!(10)),
        ("cf_mysql.broker.audit_retention_days", json!(10)),
        ("cf_mysql.broker.protect_operator_endpoints", json!(true)),
        ("cf_mysql.broker.log_level", json!("debug")),
        ("cf_mysql.broker.max_user_connections_default", json!(7)),
        ("cf_mysql.broker.allow_table_locks", json!(true)),
        ("cf_mysql.broker.sync_wait", json!(2.5)),
        ("cf_mysql.broker.operation_lease", json!(60)),
        ("cf_mysql.broker.overhead", json!(123.5)),
        ("cf_mysql.broker.per_instance", json!(0)),
        ("cf_mysql.broker.binlog_allowance", json!(100)),
        ("cf_mysql.broker.quota_enforcer.ignored_users", json!(["backup", "roadmin"])),
        ("cf_mysql.broker.quota_enforcer.pause", json!(1.5)),
        ("cf_mysql.broker.quota_enforcer.metrics_address", json!("127.0.0.1:9104")),
        ("cf_mysql.broker.warn_at", json!([50])),
        ("cf_mysql.broker.quota_enforcer.minimum_dwell", json!(60)),
        ("cf_mysql.broker.quota_enforcer.restore_below", json!(95)),
    ];
    let minimal = settings(&render_broker(&[], json!({})));
    assert_eq!(check_config(&minimal), (0, String::new()));
    let full = settings(&render_broker(&every, json!({})));
    assert_eq!(check_config(&full), (0, String::new()));
    for (pointer, expected) in [
        ("/mysql/hosts/1", json!("10.0.0.11:3307")),
        ("/mysql/port", json!(3310)),
        ("/capacity/gcache_size", json!(0)),
        ("/capacity/redo_log_size", json!(96)),
        ("/capacity/overhead", json!(123.5)),
        ("/server/port", json!(8082)),
        ("/server/credentials/0/password", json!("a'\"\\#{1}<%= 2 %>: \u{fc}")),
        ("/server/credentials/1/username", json!("new")),
        ("/bindings/secrets/0/id", json!("2")),
        ("/bindings/secrets/1/id", json!("cookie_secret")),
        ("/quota_enforcer/pause", json!(1.5)),
        ("/quota_enforcer/ignored_users", json!(["backup", "roadmin", "quota-enforcer"])),
        ("/logging/level", json!("debug")),
    ] {
        assert_eq!(full.pointer(pointer), Some(&expected), "{pointer}");
    }
    assert_eq!(minimal["quota_enforcer"]["ignored_users"], json!(["roadmin", "quota-enforcer"]));
    assert_eq!((&minimal["capacity"]["gcache_size"], &minimal["quota_enforcer"]["pause"]), (&json!(512), &json!(1)));
    // every property but those that are only for scripts shows in the settings
    assert_ne!(full, minimal);
}

#[test]
fn both_spellings_of_pause_count_and_the_short_one_wins() {
    let pause = |changes: &[(&str, Value)]| settings(&render_broker(changes, json!({})))["quota_enforcer"]["pause"].clone();
    let long = ("cf_mysql.broker.quota_enforcer.pause", json!(5));
    let short = ("broker.quota_enforcer.pause", json!(9));
    assert_eq!(pause(std::slice::from_ref(&long)), json!(5));
    assert_eq!(pause(std::slice::from_ref(&short)), json!(9));
    assert_eq!(pause(&[long, short]), json!(9));
}

#[test]
fn links_are_optional_and_properties_win() {
    let database = json!({"address": "db.internal", "instances": [{"address": "10.1.0.1"}], "properties": {"port": 3333, "type": "mysql"}});
    let proxies = json!({"address": "proxy.internal", "instances": [{"address": "10.2.0.1"}, {"address": "10.2.0.2"}]});
    let mysql = |changes: &[(&str, Value)], links: Value| settings(&render_broker(changes, links))["mysql"].clone();
    let no_host = ("cf_mysql.host", Value::Null);
    let linked = mysql(std::slice::from_ref(&no_host), json!({"database": database, "proxy": proxies}));
    assert_eq!((&linked["hosts"], &linked["port"]), (&json!(["db.internal"]), &json!(3333)));
    for name in ["proxy", "mysql"] {
        let linked = mysql(std::slice::from_ref(&no_host), json!({name: proxies}));
        assert_eq!((&linked["hosts"], &linked["port"]), (&json!(["10.2.0.1", "10.2.0.2"]), &json!(3306)), "{name}");
    }
    let port = ("cf_mysql.mysql.port", json!(4444));
    assert_eq!(mysql(&[no_host, port], json!({"database": database}))["port"], json!(4444));
    let own = mysql(&[], json!({"database": database}));
    assert_eq!((&own["hosts"], &own["port"]), (&json!(["10.0.0.10"]), &json!(3306)), "the link's port is not this host's");
}

#[test]
fn a_disabled_enforcer_is_no_process_and_needs_no_password() {
    let changes = [("cf_mysql.broker.disable_quota_enforcer", json!(true)), ("cf_mysql.broker.quota_enforcer.password", Value::Null)];
    let files = render_broker(&changes, json!({}));
    for file in ["monit", "config/bpm.yml"] {
        assert!(!files[file].as_str().unwrap().contains("quota-enforcer"), "{file}");
    }
    assert_eq!(check_config(&settings(&files)).0, 0);
}

#[test]
fn the_templates_know_the_keys_the_program_knows() {
    let known = |path: &str| {
        let mut settings = settings(&render_broker(&[], json!({})));
        settings.pointer_mut(path).unwrap()["no_such_key"] = json!(1);
        let (_, problem) = check_config(&settings);
        let keys: BTreeSet<String> = problem.split('`').skip(3).step_by(2).map(str::to_owned).collect();
        assert!(keys.contains("name"), "{problem}");
        keys
    };
    let ours = |path: &str| {
        let error = render(&[Wish { job: "cf-mysql-broker", properties: with_broker(&[(path, json!(1))]), links: json!({}) }])
            .remove(0)
            .unwrap_err();
        let list = error.split("known are ").nth(1).unwrap_or_else(|| panic!("{error}")).split(')').next().unwrap().to_owned();
        list.split(", ").map(str::to_owned).collect::<BTreeSet<_>>()
    };
    assert_eq!(ours("cf_mysql.broker.services.0.plans.0.no_such_key"), known("/services/0/plans/0"));
    assert_eq!(ours("cf_mysql.broker.services.0.no_such_key"), known("/services/0"));
}

/// A setting that is added to the program shall not be forgotten here.
#[test]
fn every_setting_with_a_default_is_within_reach_of_a_property() {
    // the same for every deployment, or not an operator's affair under BOSH
    const FIXED: [&str; 2] = ["server.missing_api_version_status", "mysql.migrate"];
    let convert = "require 'yaml'; require 'json'; puts JSON.generate(YAML.load_file(ARGV[0]))";
    let defaults = concat!(env!("CARGO_MANIFEST_DIR"), "/config/default.yml");
    let output = crate::deployment::run(Command::new("ruby").args(["-e", convert, "--", defaults]));
    let defaults: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rendered = settings(&render_broker(&[], json!({})));
    for (section, keys) in defaults.as_object().unwrap() {
        for key in keys.as_object().unwrap().keys() {
            let path = format!("{section}.{key}");
            let is_rendered = rendered[section].get(key).is_some();
            assert!(is_rendered != FIXED.contains(&path.as_str()), "{path}: give it a property of job cf-mysql-broker, or list it here");
        }
    }
}

/// Per job: a property, a value it must not have, and the name in the message where that is more than the property.
fn wrong() -> Vec<(&'static str, &'static str, Value, &'static str)> {
    const B: &str = "cf-mysql-broker";
    let mut cases = vec![
        (B, "cf.api_url", json!("api.example.com"), ""),
        (B, "cf.skip_ssl_validation", json!("yes"), ""),
        (B, "cf.ca_cert", json!("not PEM"), ""),
        (B, "cf_mysql.host", Value::Null, ""),
        (B, "cf_mysql.host", json!("mysql://db"), ""),
        (B, "cf_mysql.host", json!([]), ""),
        (B, "cf_mysql.host", json!(["ok", "a b"]), ""),
        (B, "cf_mysql.external_host", Value::Null, ""),
        (B, "cf_mysql.external_host", json!("https://p-mysql.example.com"), ""),
        (B, "cf_mysql.external_host", json!("p-mysql.example.com:443"), ""),
        (B, "cf_mysql.mysql.port", json!("3306"), ""),
        (B, "cf_mysql.mysql.port", json!(0), ""),
        (B, "cf_mysql.mysql.persistent_disk", Value::Null, ""),
        (B, "cf_mysql.mysql.persistent_disk", json!(0), ""),
        (B, "cf_mysql.mysql.persistent_disk", json!("10 GB"), ""),
        (B, "cf_mysql.mysql.gcache_size", json!(-1), ""),
        (B, "cf_mysql.mysql.ib_log_file_size", json!("big"), ""),
        (B, "cf_mysql.broker.port", json!(65_536), ""),
        (B, "cf_mysql.broker.auth_username", json!("a:b"), ""),
        (B, "cf_mysql.broker.auth_password", Value::Null, ""),
        (B, "cf_mysql.broker.auth_password", json!(""), ""),
        (B, "cf_mysql.broker.auth_password", json!(4711), ""),
        (B, "cf_mysql.broker.credentials", json!({"username": "u"}), ""),
        (B, "cf_mysql.broker.credentials", json!([{"username": "u"}]), "cf_mysql.broker.credentials[0].password"),
        (B, "cf_mysql.broker.credentials", json!([{"username": "u:", "password": "p"}]), "cf_mysql.broker.credentials[0].username"),
        (B, "cf_mysql.broker.credentials", json!([{"username": "u", "password": "p", "x": 1}]), "cf_mysql.broker.credentials[0].x"),
        (B, "cf_mysql.broker.cookie_secret", Value::Null, ""),
        (B, "cf_mysql.broker.binding_secrets", json!("secret"), ""),
        (B, "cf_mysql.broker.binding_secrets", json!([{"id": "1", "key": "short"}]), "cf_mysql.broker.binding_secrets[0].key"),
        (
            B,
            "cf_mysql.broker.binding_secrets",
            json!([{"key": "0123456789abcdef0123456789abcdef"}]),
            "cf_mysql.broker.binding_secrets[0].id",
        ),
        (B, "cf_mysql.broker.binding_secrets", json!([{"id": "cookie_secret", "key": "0123456789abcdef0123456789abcdef"}]), ""),
        (B, "cf_mysql.broker.db_password", json!("  "), ""),
        (B, "cf_mysql.broker.connection_pool_size", json!(1), ""),
        (B, "cf_mysql.broker.advertised_hosts", json!("db"), ""),
        (B, "cf_mysql.broker.advertised_hosts", json!([""]), ""),
        (B, "cf_mysql.broker.mysql_tls.mode", json!("sometimes"), ""),
        (B, "cf_mysql.broker.mysql_tls.mode", json!("verify_ca"), "cf_mysql.broker.mysql_tls.ca"),
        (B, "cf_mysql.broker.mysql_tls.ca", json!("not PEM"), ""),
        (B, "cf_mysql.broker.tls.certificate", json!("-----BEGIN CERTIFICATE-----"), "cf_mysql.broker.tls.private_key"),
        (B, "cf_mysql.broker.tls.certificate", json!("not PEM"), ""),
        (B, "cf_mysql.broker.tls.private_key", json!("-----BEGIN PRIVATE KEY-----"), "cf_mysql.broker.tls.certificate"),
        (B, "cf_mysql.broker.tls.private_key", json!("not PEM"), ""),
        (B, "cf_mysql.broker.ssl_enabled", json!(1), ""),
        (B, "cf_mysql.broker.max_operations", json!(0), ""),
        (B, "cf_mysql.broker.failed_logins_per_minute", json!(0), ""),
        (B, "cf_mysql.broker.audit_retention_days", json!(0), ""),
        (B, "cf_mysql.broker.protect_operator_endpoints", json!("no"), ""),
        (B, "cf_mysql.broker.log_level", json!("loud"), ""),
        (B, "cf_mysql.broker.max_user_connections_default", json!(0), ""),
        (B, "cf_mysql.broker.allow_table_locks", json!("no"), ""),
        (B, "cf_mysql.broker.sync_wait", json!(51), ""),
        (B, "cf_mysql.broker.operation_lease", json!(0), ""),
        (B, "cf_mysql.broker.overhead", json!("much"), ""),
        (B, "cf_mysql.broker.per_instance", json!(-0.1), ""),
        (B, "cf_mysql.broker.binlog_allowance", json!(-1), ""),
        (B, "cf_mysql.broker.disable_quota_enforcer", json!("true"), ""),
        (B, "cf_mysql.broker.quota_enforcer.password", Value::Null, ""),
        (B, "cf_mysql.broker.quota_enforcer.ignored_users", json!("backup"), ""),
        (B, "cf_mysql.broker.quota_enforcer.ignored_users", json!(["ok", ""]), ""),
        (B, "cf_mysql.broker.quota_enforcer.ignored_users", json!([7]), ""),
        (B, "cf_mysql.broker.quota_enforcer.pause", json!(-3), ""),
        (B, "cf_mysql.broker.quota_enforcer.pause", json!(0), ""),
        (B, "cf_mysql.broker.quota_enforcer.pause", json!("1"), ""),
        (B, "broker.quota_enforcer.pause", json!(0.5), ""),
        (B, "cf_mysql.broker.quota_enforcer.metrics_address", json!("9104"), ""),
        (B, "cf_mysql.broker.warn_at", json!([0]), ""),
        (B, "cf_mysql.broker.warn_at", json!(80), ""),
        (B, "cf_mysql.broker.quota_enforcer.minimum_dwell", json!(-1), ""),
        (B, "cf_mysql.broker.quota_enforcer.restore_below", json!(101), ""),
        (B, "cf_mysql.broker.ready_timeout", json!(0), ""),
        (B, "cf_mysql.broker.route_withdrawal", json!(-1), ""),
        (B, "cf_mysql.broker.services", Value::Null, ""),
        (B, "cf_mysql.broker.services", json!([]), ""),
        (B, "cf_mysql.broker.services", json!("p-mysql"), ""),
        ("cf-mysql-broker-user", "cf_mysql.broker.db_password", Value::Null, ""),
        ("cf-mysql-broker-user", "cf_mysql.broker.db_password", json!(""), ""),
        ("cf-mysql-broker-user", "cf_mysql.broker.quota_enforcer.password", Value::Null, ""),
        ("cf-mysql-broker-user", "cf_mysql.broker.disable_quota_enforcer", json!(0), ""),
        ("cf-mysql-broker-user", "cf_mysql.mysql.client_path", json!("mysql"), ""),
        ("cf-mysql-broker-user", "cf_mysql.mysql.admin_defaults_file", json!("mylogin.cnf"), ""),
        ("cf-mysql-broker-user", "cf_mysql.mysql.start_timeout", json!("long"), ""),
        ("broker-registrar", "cf_mysql.external_host", json!("http://x"), ""),
        ("broker-registrar", "cf_mysql.broker.protocol", json!("ftp"), ""),
        ("broker-registrar", "cf_mysql.broker.port", json!("443"), ""),
        ("broker-registrar", "cf_mysql.broker.auth_username", json!(7), ""),
        ("broker-registrar", "cf_mysql.broker.auth_password", Value::Null, ""),
        ("smoke-tests", "cf.smoke_tests.use_existing_org", json!("x"), ""),
        ("smoke-tests", "cf.smoke_tests.use_existing_org", json!(true), "cf.smoke_tests.org"),
        ("smoke-tests", "cf_mysql.broker.services", json!([{"name": "s", "plans": [{"name": "p", "private": true}]}]), ""),
    ];
    let service = |path: &'static str, value: Value, named: &'static str| (B, path, value, named);
    cases.extend([
        service("cf_mysql.broker.services.0", json!("p-mysql"), "cf_mysql.broker.services[0]"),
        service("cf_mysql.broker.services.0.id", json!(""), "cf_mysql.broker.services[0].id"),
        service("cf_mysql.broker.services.0.id", json!("p"), "cf_mysql.broker.services[0].plans[0].id"),
        service("cf_mysql.broker.services.0.name", json!("P MySQL"), "cf_mysql.broker.services[0].name"),
        service("cf_mysql.broker.services.0.description", Value::Null, "cf_mysql.broker.services[0].description"),
        service("cf_mysql.broker.services.0.tags", json!("mysql"), "cf_mysql.broker.services[0].tags"),
        service("cf_mysql.broker.services.0.metadata", json!("m"), "cf_mysql.broker.services[0].metadata"),
        service("cf_mysql.broker.services.0.colour", json!("red"), "cf_mysql.broker.services[0].colour"),
        service("cf_mysql.broker.services.0.plans", json!([]), "cf_mysql.broker.services[0].plans"),
        service("cf_mysql.broker.services.0.plans.0", json!(1), "cf_mysql.broker.services[0].plans[0]"),
        service("cf_mysql.broker.services.0.plans.0.guid", json!("g"), "cf_mysql.broker.services[0].plans[0].guid"),
        service("cf_mysql.broker.services.0.plans", json!([plan("p"), plan("p")]), "cf_mysql.broker.services[0].plans[1].id"),
        service("cf_mysql.broker.services.0.plans", json!([plan("p"), plan("q")]), "cf_mysql.broker.services[0].plans[1].name"),
        service("cf_mysql.broker.services.0.plans.0.max_storage_mb", json!(0), "cf_mysql.broker.services[0].plans[0].max_storage_mb"),
        service(
            "cf_mysql.broker.services.0.plans.0.max_user_connections",
            json!(0),
            "cf_mysql.broker.services[0].plans[0].max_user_connections",
        ),
        service("cf_mysql.broker.services.0.plans.0.private", json!("yes"), "cf_mysql.broker.services[0].plans[0].private"),
        service("cf_mysql.broker.services.0.plans.0.free", json!("yes"), "cf_mysql.broker.services[0].plans[0].free"),
        service(
            "cf_mysql.broker.services.0.plans.0.binding_expires_after",
            json!(0),
            "cf_mysql.broker.services[0].plans[0].binding_expires_after",
        ),
    ]);
    for job in ["broker-registrar", "deregister-and-purge-instances", "smoke-tests"] {
        cases.extend([
            (job, "cf.api_url", json!("api.example.com"), ""),
            (job, "cf.skip_ssl_validation", json!("x"), ""),
            (job, "cf.ca_cert", json!("x"), ""),
            (job, "cf.admin_username", Value::Null, ""),
            (job, "cf.admin_password", json!(7), ""),
            (job, "cf.client_id", json!("beside a user"), "cf.client_secret"),
            (job, "cf.client_id", json!("beside a user"), "cf.admin_username"),
            (job, "cf_mysql.broker.services", json!([{"plans": []}]), ""),
            (job, "cf_mysql.broker.name", json!("a b"), ""),
        ]);
    }
    cases
}

fn errand() -> Value {
    json!({
        "cf": {"api_url": "https://api.example.com", "admin_username": "admin", "admin_password": "a"},
        "cf_mysql": {"external_host": "p-mysql.example.com", "broker": {
            "auth_password": "a", "services": [{"name": "p-mysql", "plans": [{"name": "small", "max_storage_mb": 5}]}],
        }},
    })
}

#[test]
fn every_wrong_property_is_refused_by_its_name() {
    let cases = wrong();
    let base = |job: &str| if job.starts_with("cf-mysql-broker") { broker() } else { errand() };
    let jobs = ["cf-mysql-broker", "cf-mysql-broker-user", "broker-registrar", "deregister-and-purge-instances", "smoke-tests"];
    let good = jobs.map(|job| {
        // the user job reads a part of the broker's properties; a director hides the others
        Wish { job, properties: base(job), links: json!({}) }
    });
    for (job, result) in jobs.iter().zip(render(&good)) {
        assert!(result.is_ok(), "{job}: {result:?}");
    }
    let wishes: Vec<_> = cases
        .iter()
        .map(|(job, path, value, _)| Wish { job, properties: with(&base(job), path, value.clone()), links: json!({}) })
        .collect();
    for ((job, path, value, named), result) in cases.iter().zip(render(&wishes)) {
        let named = if named.is_empty() { path } else { named };
        let error = result.err().unwrap_or_else(|| panic!("{job}: {path} = {value} is accepted"));
        let lines = error.lines().filter(|line| line.trim_start().starts_with(&format!("{named}:"))).count();
        assert_eq!(lines, 1, "{job}: {path} = {value}: {error}");
    }

    // no property is without such a case
    for job in jobs {
        let spec = std::fs::read_to_string(bosh_folder().join(format!("jobs/{job}/spec"))).unwrap();
        let properties = spec.split("\nproperties:\n").nth(1).unwrap();
        let declared =
            properties.lines().filter_map(|line| line.strip_prefix("  ")?.strip_suffix(':')).filter(|name| !name.starts_with(' '));
        for property in declared {
            let tried = cases.iter().any(|(tried, path, _, named)| *tried == job && (*path == property || *named == property));
            assert!(tried, "{job}: no wrong value of {property} is tried");
        }
    }
}

#[test]
fn several_mistakes_are_named_at_once_and_no_secret_is() {
    let changes = [
        ("cf_mysql.external_host", Value::Null),
        ("cf_mysql.broker.quota_enforcer.pause", json!(0)),
        ("cf_mysql.broker.auth_password", json!(["hunter2"])),
        ("cf_mysql.broker.binding_secrets", json!([{"id": "1", "key": "hunter2"}])),
    ];
    let error = render(&[Wish { job: "cf-mysql-broker", properties: with_broker(&changes), links: json!({}) }]).remove(0).unwrap_err();
    for named in
        ["cf_mysql.external_host: is required", "quota_enforcer.pause: must be", "auth_password: must be a text", "binding_secrets[0].key"]
    {
        assert!(error.contains(named), "{error}");
    }
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn errands_take_from_the_link_what_no_property_says() {
    let link = json!({"address": "b", "instances": [], "properties": {
        "cf": {"api_url": "https://link.example.com", "skip_ssl_validation": true},
        "cf_mysql": {"external_host": "linked.example.com", "broker": {
            "auth_username": "linked", "auth_password": "l", "services": [{"name": "linked", "plans": [{"name": "small", "max_storage_mb": 5}]}],
        }},
    }});
    let admin = json!({"cf": {"admin_username": "admin", "admin_password": "a"}});
    let wish = |job, properties| Wish { job, properties, links: json!({"broker": link}) };
    let results = render(&[
        wish("broker-registrar", admin.clone()),
        wish("broker-registrar", errand()),
        wish("deregister-and-purge-instances", admin.clone()),
        wish("smoke-tests", admin),
    ]);
    let file = |i: usize, name: &str| results[i].as_ref().unwrap()[name].as_str().unwrap().to_owned();
    assert!(file(0, "bin/run").contains("url='https://linked.example.com'") && file(0, "bin/run").contains("username='linked'"));
    assert!(file(0, "bin/cf-login").contains("cf api 'https://link.example.com' --skip-ssl-validation"));
    assert!(file(1, "bin/run").contains("url='https://p-mysql.example.com'") && file(1, "bin/run").contains("broker='p-mysql'"));
    assert!(file(1, "bin/cf-login").contains("cf api 'https://api.example.com'"));
    for i in [2, 3] {
        assert!(file(i, "bin/run").contains("broker='linked'"), "{}", file(i, "bin/run"));
    }
}
