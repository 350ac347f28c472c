use super::*;

fn load_with(yaml: &str, environment: &[(&str, &str)]) -> Result<Settings, Problems> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("settings.yml");
    std::fs::write(&file, yaml).unwrap();
    Settings::load(Some(&file), environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
}

fn problems(yaml: &str, environment: &[(&str, &str)]) -> Vec<String> {
    load_with(yaml, environment).err().map(|p| p.0.into_iter().map(|p| format!("{}: {}", p.path, p.text)).collect()).unwrap_or_default()
}

const GOOD: &str = r#"
server: {credentials: [{username: admin, password: "007"}]}
mysql: {username: broker, password: "true"}
capacity: {persistent_disk: 10000}
bindings: {secrets: [{id: "1", key: "0123456789abcdef0123456789abcdef"}]}
services: [{id: s, name: p-mysql, description: d, plans: [{id: p, name: small, description: d, max_storage_mb: 10}]}]
"#;

#[test]
fn defaults_fill_what_the_file_leaves_out() {
    use secrecy::ExposeSecret as _;
    let settings = load_with(GOOD, &[]).unwrap();
    assert_eq!(settings.server.port, 8081);
    assert_eq!(settings.server.credentials[0].password.expose_secret(), "007");
    assert!(settings.catalog.services[0].bindable);
    assert_eq!(settings.ignored_users(), ["broker", "roadmin"]);
}

#[test]
fn the_example_is_accepted() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/example.yml");
    assert_eq!(Settings::load(Some(&file), []).err(), None);
}

#[test]
fn the_environment_wins_and_texts_become_what_is_wanted() {
    use secrecy::ExposeSecret as _;
    let settings = load_with(
        GOOD,
        &[
            ("CF_MYSQL_BROKER__SERVER__PORT", "9999"),
            ("CF_MYSQL_BROKER__MYSQL__PASSWORD", "12345"),
            ("CF_MYSQL_BROKER__MYSQL__HOSTS", "db1, db2:3307"),
            ("CF_MYSQL_BROKER__QUOTA_ENFORCER__PAUSE", "1.5"),
            ("CF_MYSQL_BROKER__QUOTA_ENFORCER__IGNORED_USERS", "backup"),
            ("CF_MYSQL_BROKER__QUOTA_ENFORCER__ENABLED", "false"),
            ("CF_MYSQL_BROKER__QUOTA_ENFORCER__WARN_AT", "[50]"),
            ("CF_MYSQL_BROKER__BINDINGS__SECRETS", r#"[{"id":"x","key":"abcdefghijklmnopqrstuvwxyz0123456789"}]"#),
        ],
    )
    .unwrap();
    assert_eq!(settings.server.port, 9999);
    assert_eq!(settings.mysql.password.expose_secret(), "12345");
    assert_eq!(settings.mysql.endpoints().len(), 2);
    assert_eq!(settings.quota_enforcer.pause().as_millis(), 1500);
    assert_eq!(settings.quota_enforcer.ignored_users, ["backup"]);
    assert!(!settings.quota_enforcer.enabled);
    assert_eq!(settings.quota_enforcer.warn_at, [50]);
    assert_eq!(settings.bindings.current_secret().unwrap().id, "x");
}

#[test]
fn nothing_at_all_names_everything_that_is_required() {
    let paths: Vec<_> = Settings::load(None, []).unwrap_err().0.into_iter().map(|p| p.path).collect();
    assert_eq!(
        paths,
        ["server.credentials", "mysql.username", "mysql.password", "capacity.persistent_disk", "bindings.secrets", "services"]
    );
}

#[test]
fn every_mistake_is_reported_at_once_and_none_repeats_a_value() {
    let found = problems(
        r#"
server: {port: eighty, prot: 1, credentials: [{username: admin, password: 4711}]}
mysql: {username: broker, password: secret, tls: {mode: sometimes}, hosts: ["a b"]}
capacity: {persistent_disk: -5, overhead: much}
quota_enforcer: {pause: 0.5, ignored_users: [ok, ""]}
bindings: {secrets: [{id: "1", key: too-short-hunter2}]}
services: [{id: s, name: p-mysql, description: d, plans: [{id: p, name: small, description: d, max_storage_mb: 10}, {id: q, name: Big One, description: d, max_storage_mb: "ten"}]}]
sevrices: []
"#,
        &[],
    );
    let paths: Vec<_> = found.iter().map(|text| text.split(": ").next().unwrap()).collect();
    let mut sorted = paths.clone();
    sorted.sort_unstable();
    assert_eq!(
        sorted,
        [
            "bindings.secrets[0].key",
            "capacity.overhead",
            "capacity.persistent_disk",
            "mysql.hosts[0]",
            "mysql.tls.mode",
            "quota_enforcer.ignored_users[1]",
            "quota_enforcer.pause",
            "server.credentials[0].password",
            "server.port",
            "server.prot",
            "services[0].plans[1].max_storage_mb",
            "services[0].plans[1].name",
            "sevrices",
        ],
        "{found:#?}"
    );
    let text = found.join("\n");
    for secret in ["4711", "hunter2", "eighty", "much"] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn files_that_are_missing_or_broken_are_named() {
    let missing = Settings::load(Some(Path::new("/nowhere/settings.yml")), []).unwrap_err();
    assert!(missing.0[0].path.contains("/nowhere/settings.yml") && missing.0[0].text.contains("cannot be read"));
    let broken = problems("server: [unclosed, hunter2", &[]).join("\n");
    assert!(broken.contains("is not valid YAML") && !broken.contains("hunter2"), "{broken}");
}

#[test]
fn secrets_may_stand_in_files() {
    use secrecy::ExposeSecret as _;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, "from a file\n").unwrap();
    let with = |yaml: &str| load_with(&GOOD.replace("password: \"true\"", yaml), &[]);
    let settings = with(&format!("password_file: {}", file.display())).unwrap();
    assert_eq!(settings.mysql.password.expose_secret(), "from a file");
    let both = with(&format!("password: x, password_file: {}", file.display())).unwrap_err();
    assert_eq!(both.0[0].path, "mysql.password");
    let missing = with("password_file: /nowhere/password").unwrap_err();
    assert_eq!(missing.0[0].path, "mysql.password_file");
}

#[test]
fn debug_output_shows_no_secret() {
    let text = format!("{:?}", load_with(&GOOD.replace("007", "hunter2-007"), &[]).unwrap());
    assert!(!text.contains("hunter2") && !text.contains("0123456789abcdef"), "{text}");
}

#[test]
fn accounts_need_no_other_section() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("accounts.json");
    std::fs::write(
        &file,
        r#"{"mysql": {"username": "broker", "password": "b"}, "quota_enforcer": {"username": "enforcer", "password": "e"}}"#,
    )
    .unwrap();
    let settings = Settings::load_accounts(Some(&file), []).unwrap();
    assert_eq!((settings.mysql.database.as_str(), settings.enforcer_mysql().username.as_str()), ("mysql_broker", "enforcer"));
    std::fs::write(&file, r#"{"mysql": {"username": "broker"}}"#).unwrap();
    assert_eq!(Settings::load_accounts(Some(&file), []).unwrap_err().0[0].path, "mysql.password");
}

#[test]
fn one_account_has_one_password() {
    let with = |enforcer: &str| problems(&format!("{GOOD}quota_enforcer: {{username: broker, password: {enforcer}}}\n"), &[]);
    assert_eq!(with("\"true\""), Vec::<String>::new());
    let found = with("other").join("\n");
    assert!(found.starts_with("quota_enforcer.password: is not mysql.password") && !found.contains("other"), "{found}");
}

#[test]
fn a_running_process_keeps_what_it_cannot_change() {
    let old = load_with(GOOD, &[]).unwrap();
    let enforcer = [("CF_MYSQL_BROKER__QUOTA_ENFORCER__USERNAME", "e"), ("CF_MYSQL_BROKER__QUOTA_ENFORCER__PASSWORD", "p")];
    let changed =
        [("CF_MYSQL_BROKER__MYSQL__DATABASE", "other"), ("CF_MYSQL_BROKER__MYSQL__ADVERTISED_HOSTS", "apps"), enforcer[0], enforcer[1]];
    let mut new = load_with(GOOD, &changed).unwrap();
    assert_eq!(new.keep_fixed(&old), ["mysql", "quota_enforcer.username and quota_enforcer.password"]);
    assert_eq!((new.mysql.database.as_str(), new.mysql.advertised()[0].host.as_str()), ("mysql_broker", "apps"));
    assert_eq!((new.quota_enforcer.username.as_deref(), new.ignored_users()), (None, old.ignored_users()));
    assert_eq!(new.keep_fixed(&old), Vec::<&str>::new(), "nothing is left to keep");
    let mut same = load_with(GOOD, &[("CF_MYSQL_BROKER__QUOTA_ENFORCER__PAUSE", "9")]).unwrap();
    assert_eq!((same.keep_fixed(&old), same.quota_enforcer.pause().as_secs()), (vec![], 9));
}

const APPLICATION: (&str, &str) = ("VCAP_APPLICATION", r#"{"application_uris": ["p-mysql.apps.example.com/path"]}"#);

fn vcap(services: &str) -> [(&str, &str); 3] {
    [APPLICATION, ("PORT", "61001"), ("VCAP_SERVICES", services)]
}

#[test]
fn an_app_learns_port_route_and_database_from_cloud_foundry() {
    use secrecy::ExposeSecret as _;
    let provided = r#"{"redis": [{"name": "cache", "label": "redis", "tags": ["redis"], "credentials": {"uri": "redis://x"}}],
        "user-provided": [{"name": "db", "label": "user-provided", "credentials":
            {"hostname": "db.internal", "port": 3307, "username": "cf-mysql-broker", "password": "from vcap", "name": "broker_db"}}]}"#;
    let settings = load_with(&GOOD.replace("mysql: {", "mysql: {host: elsewhere, "), &vcap(provided)).unwrap();
    assert_eq!((settings.server.port, settings.server.external_host.as_str()), (61001, "p-mysql.apps.example.com"));
    let at = settings.mysql.endpoints();
    assert_eq!((at.len(), at[0].host.as_str(), at[0].port), (1, "db.internal", 3307));
    assert_eq!((settings.mysql.password.expose_secret(), settings.mysql.database.as_str()), ("from vcap", "broker_db"));
}

#[test]
fn a_bound_service_may_say_everything_in_its_uri() {
    use secrecy::ExposeSecret as _;
    let bound = r#"{"rds": [{"name": "db", "label": "rds", "credentials": {"uri": "mysql://br%40ker:p%2Fw@db.internal:3308/own?reconnect=true"}}]}"#;
    let settings = load_with(GOOD, &vcap(bound)).unwrap();
    let mysql = &settings.mysql;
    assert_eq!((mysql.username.as_str(), mysql.password.expose_secret(), mysql.database.as_str()), ("br@ker", "p/w", "own"));
    assert_eq!((mysql.endpoints()[0].host.as_str(), mysql.endpoints()[0].port), ("db.internal", 3308));
}

#[test]
fn the_programs_own_variables_win_over_cloud_foundrys_and_those_mean_nothing_outside_an_app() {
    let services = r#"{"p-mysql": [{"name": "db", "label": "p-mysql", "tags": ["mysql"], "credentials": {"hostname": "vcap", "username": "u", "password": "p"}}]}"#;
    let mut environment = vcap(services).to_vec();
    environment.extend([("CF_MYSQL_BROKER__SERVER__PORT", "9999"), ("CF_MYSQL_BROKER__MYSQL__HOST", "own")]);
    let settings = load_with(GOOD, &environment).unwrap();
    assert_eq!((settings.server.port, settings.mysql.endpoints()[0].host.as_str(), settings.mysql.username.as_str()), (9999, "own", "u"));
    let settings = load_with(GOOD, &[("PORT", "1"), ("VCAP_SERVICES", services)]).unwrap();
    assert_eq!((settings.server.port, settings.mysql.username.as_str()), (8081, "broker"));
}

#[test]
fn what_cloud_foundry_says_is_checked_too_and_no_password_repeated() {
    let several = r#"{"a": [{"name": "one", "tags": ["mysql"], "credentials": {"hostname": "h"}}], "b": [{"name": "two", "tags": ["mysql"], "credentials": {"hostname": "h"}}]}"#;
    let found = problems(GOOD, &vcap(several)).join("\n");
    assert!(found.starts_with("VCAP_SERVICES: has several") && found.contains("one, two"), "{found}");
    let mut chosen = vcap(several).to_vec();
    chosen.push(("CF_MYSQL_BROKER__MYSQL__HOSTS", "db"));
    assert_eq!(problems(GOOD, &chosen), Vec::<String>::new());
    let broken = problems(GOOD, &[APPLICATION, ("PORT", "http"), ("VCAP_SERVICES", r#"{"x": hunter2"#)]).join("\n");
    assert_eq!(broken, "PORT: must be a port number\nVCAP_SERVICES: is not JSON");
}
