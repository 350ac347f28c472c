use std::ffi::OsStr;

use serde_json::{Value, json};

use crate::support::broker::run;
use crate::support::{Bed, BedOptions, shared_server};

fn with_config<'a>(bed: &'a Bed, arguments: &[&'a str]) -> (i32, String, String) {
    let mut all: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
    all.extend([OsStr::new("--config"), bed.config.as_os_str()]);
    run(&all, &[])
}

#[tokio::test]
async fn exit_codes_mean_something() {
    let bed = Bed::prepare(shared_server(), &BedOptions::default()).await;
    assert_eq!(run(&[OsStr::new("no-such-verb")], &[]).0, 64);
    assert_eq!(run(&[OsStr::new("--version")], &[]).0, 0);
    assert_eq!(with_config(&bed, &["check-config"]).0, 0);
    let (code, _, stderr) = run(&["serve", "--config", "/nowhere.yml"].map(OsStr::new), &[]);
    assert_eq!(code, 78);
    assert!(stderr.contains("/nowhere.yml"), "{stderr}");
    bed.change_settings(&json!({"mysql": {"hosts": ["127.0.0.1:1"]}}));
    for verb in ["migrate", "capacity", "instances"] {
        assert_eq!(with_config(&bed, &[verb]).0, 69, "{verb} without a server");
    }
}

#[tokio::test]
async fn a_settings_file_with_five_mistakes_gets_five_messages() {
    let bed = Bed::prepare(shared_server(), &BedOptions::default()).await;
    bed.change_settings(&json!({
        "server": {"port": "eighty", "colour": "red"},
        "mysql": {"tls": {"mode": "sometimes"}},
        "capacity": {"persistent_disk": -5},
        "quota_enforcer": {"pause": 0},
    }));
    let (code, stdout, stderr) = with_config(&bed, &["check-config"]);
    assert_eq!((code, stdout.as_str()), (78, ""));
    let mut keys: Vec<_> = stderr.lines().map(|line| line.split(':').next().unwrap()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["capacity.persistent_disk", "mysql.tls.mode", "quota_enforcer.pause", "server.colour", "server.port"], "{stderr}");
}

#[tokio::test]
async fn migrations_run_once_however_many_run_them() {
    let bed = Bed::prepare(shared_server(), &BedOptions::default()).await;
    let runs = (0..4).map(|_| {
        let config = bed.config.clone();
        std::thread::spawn(move || run(&[OsStr::new("migrate"), OsStr::new("--config"), config.as_os_str()], &[]))
    });
    let results: Vec<_> = runs.collect::<Vec<_>>().into_iter().map(|run| run.join().unwrap()).collect();
    for (code, _, stderr) in &results {
        assert_eq!(*code, 0, "{stderr}");
    }
    assert_eq!(results.iter().filter(|(_, stdout, _)| stdout.contains("Migrations applied")).count(), 1, "{results:?}");
}

#[tokio::test]
async fn capacity_and_instances_for_people_and_for_scripts() {
    let bed = Bed::with(BedOptions { sellable_mb: 100, ..BedOptions::default() }).await;
    bed.osb().provision("i1").await.expect(201);
    bed.osb().bind("i1", "b1").await.expect(201);
    let (code, stdout, stderr) = with_config(&bed, &["capacity", "--json"]);
    assert_eq!(code, 0, "{stderr}");
    let capacity: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (&capacity["persistent_disk_mb"], &capacity["overhead_mb"], &capacity["reserved_mb"], &capacity["free_mb"], &capacity["instances"]),
        (&json!(100.0), &json!(0.0), &json!(5.0), &json!(95.0), &json!(1))
    );
    assert_eq!((&capacity["plans"][0]["plan"], &capacity["plans"][0]["still_fit"]), (&json!("plan-small"), &json!(19)));
    assert!(capacity["real_disk"]["total_mb"].as_f64().unwrap() > 100.0, "the server runs on this machine");

    let (_, stdout, _) = with_config(&bed, &["instances", "list", "--json"]);
    let instances: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(instances[0]["id"], "i1");
    for (key, value) in [("plan", json!("plan-small")), ("state", json!("ready")), ("quota_state", json!("ok")), ("bindings", json!(1))] {
        assert_eq!(instances[0][key], value, "{key}");
    }
    let (_, stdout, _) = with_config(&bed, &["instances", "show", "i1", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["database"], bed.database_of("i1").await);
    assert_eq!(with_config(&bed, &["instances", "show", "nowhere"]).0, 1);
    let (_, stdout, _) = with_config(&bed, &["capacity"]);
    assert!(stdout.contains("free to sell") && !stdout.contains('\u{1b}'), "{stdout}");
}

#[tokio::test]
async fn figures_are_read_from_the_server() {
    let bed = Bed::prepare(
        shared_server(),
        &BedOptions { settings: json!({"capacity": {"overhead": "auto", "gcache_size": 12}}), ..BedOptions::default() },
    )
    .await;
    assert_eq!(with_config(&bed, &["migrate"]).0, 0);
    let (_, stdout, _) = with_config(&bed, &["capacity", "--json"]);
    let overhead = &serde_json::from_str::<Value>(&stdout).unwrap()["overhead"];
    let redo = if crate::support::is_mariadb() { "@@innodb_log_file_size" } else { "@@innodb_redo_log_capacity" };
    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    let redo = bed.number(&format!("SELECT {redo} / 1048576")).await as f64;
    assert_eq!((&overhead["redo"], &overhead["gcache"]), (&json!(redo), &json!(12.0)));
    assert_eq!(overhead["fixed"], if crate::support::is_mariadb() { 35.0 } else { 100.0 });
}

/// The keys of an object.
fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().unwrap_or_else(|| panic!("{value} is an object")).keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

fn json_of(bed: &Bed, arguments: &[&str]) -> Value {
    let (_, stdout, stderr) = with_config(bed, arguments);
    assert_eq!(stdout.lines().count(), 1, "one line: {stdout} {stderr}");
    serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout} {stderr}"))
}

/// Scripts rely on these names; docs/operations.md lists them.
#[tokio::test]
async fn the_fields_of_every_report_are_the_promised_ones() {
    let bed = Bed::new().await;
    bed.osb().provision("i1").await.expect(201);

    let capacity = json_of(&bed, &["capacity", "--json"]);
    let fields = ["free_mb", "instances", "overhead", "overhead_mb", "persistent_disk_mb", "plans", "real_disk", "reserved_mb"];
    assert_eq!(keys(&capacity), fields);
    assert_eq!(keys(&capacity["overhead"]), ["binlog", "configured", "gcache"]);
    assert_eq!(keys(&capacity["plans"][0]), ["instances", "plan", "plan_id", "reserved_mb", "still_fit"]);
    assert_eq!(keys(&capacity["real_disk"]), ["free_mb", "total_mb"]);

    let instance = ["bindings", "created_at", "database", "id", "max_storage_mb", "plan", "quota_state", "state", "usage_mb"];
    assert_eq!(keys(&json_of(&bed, &["instances", "list", "--json"])[0]), instance);
    assert_eq!(keys(&json_of(&bed, &["instances", "--json"])[0]), instance);
    assert_eq!(keys(&json_of(&bed, &["instances", "show", "i1", "--json"])), instance);

    let pass = json_of(&bed, &["quota-enforcer", "--once", "--json"]);
    let fields = [
        "databases",
        "failures",
        "milliseconds",
        "over",
        "reformers",
        "restored",
        "revoked",
        "rows",
        "scanned",
        "sessions_ended",
        "suspects",
        "violators",
        "warned",
    ];
    assert_eq!(keys(&pass), fields);
    assert_eq!((keys(&pass["milliseconds"]), keys(&pass["rows"])), (vec!["screen", "suspects"], vec!["screen", "suspects"]));

    bed.execute("UPDATE capacity SET reserved_bytes = reserved_bytes + 1").await;
    let reconciled = json_of(&bed, &["reconcile", "--json"]);
    assert_eq!((keys(&reconciled), keys(&reconciled["found"][0])), (vec!["applied", "found"], vec!["action", "kind", "name"]));

    let checks = json_of(&bed, &["doctor", "--json"]);
    assert_eq!((keys(&checks), keys(&checks["checks"][0])), (vec!["checks"], vec!["check", "found", "ok", "wanted"]));

    let reclaimed = json_of(&bed, &["reclaim", "i1", "--json"]);
    assert_eq!(keys(&reclaimed), ["after_mb", "before_mb", "database", "id", "tables"]);

    let entries = crate::support::eventually("the trail is written", async || {
        Some(json_of(&bed, &["audit", "--json"])).filter(|entries| entries.as_array().is_some_and(|entries| !entries.is_empty()))
    });
    let fields = ["at", "binding", "identity", "instance", "outcome", "platform", "request_identity", "status", "verb"];
    assert_eq!(keys(&entries.await[0]), fields);
}

/// What a process cannot change while it runs is named and stays; what stands beside it in the same file counts all the same.
#[tokio::test]
async fn a_reload_names_what_takes_a_restart() {
    let mut bed = Bed::alone().await;
    bed.osb().provision("i1").await.expect(201);
    bed.change_settings(&json!({
        "server": {"port": 1, "max_operations": 7},
        "mysql": {"hosts": ["127.0.0.1:1"], "advertised_hosts": ["apps.example.com:3307"]},
        "quota_enforcer": {"enabled": true, "password": "another"},
        "logging": {"level": "error"},
    }));
    bed.brokers[0].signal(rustix::process::Signal::HUP);
    let named = bed.brokers[0]
        .wait_for("what needs a restart", |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            line["message"].as_str()?.contains("need a restart").then(|| line["settings"].as_str().unwrap_or_default().to_owned())
        })
        .await;
    assert_eq!(
        named,
        "server.bind_address and server.port, server.max_operations, mysql, quota_enforcer.enabled, \
         quota_enforcer.username and quota_enforcer.password, logging"
    );
    bed.brokers[0].wait_for("the rest is in force", |line| line.contains("new settings are in force").then_some(())).await;
    let bound = bed.osb().bind("i1", "b1").await.expect(201);
    assert_eq!((&bound["credentials"]["hostname"], &bound["credentials"]["port"]), (&json!("apps.example.com"), &json!(3307)));
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_its_setting() {
    let bed = Bed::prepare(shared_server(), &BedOptions::default()).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    bed.change_settings(&json!({"server": {"port": port}, "quota_enforcer": {"metrics_address": format!("127.0.0.1:{port}")}}));
    for (verb, setting) in [("serve", "server.port"), ("quota-enforcer", "quota_enforcer.metrics_address")] {
        let (code, _, stderr) = run(&[verb.as_ref(), "--config".as_ref(), bed.config.as_os_str()], &[]);
        assert!(code == 1 && stderr.contains(setting) && stderr.contains(&format!("127.0.0.1:{port}")), "{verb} {code}: {stderr}");
    }
}
