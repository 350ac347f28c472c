use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::deployment::{Database, Deployment, Killed, Wishes, free_port};
use crate::support::broker::PROGRAM;
use crate::support::eventually;
use crate::support::osb::Osb;

/// The files of `cf push`, started as a cell starts an app: in its folder, with the variables a cell sets, by the manifest's command.
#[tokio::test]
async fn the_pushed_app_serves_with_what_cloud_foundry_tells_it() {
    let database = Database::start().await;
    let deployment = Deployment::new(&Wishes::default());
    database.make_accounts(&deployment);
    let [password, enforcer] =
        ["db_password", "quota_enforcer_password"].map(|name| deployment.variable(&format!("cf_mysql_broker_{name}")));

    let pushed = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/cf-push");
    let app = tempfile::tempdir().unwrap();
    std::fs::copy(pushed.join("broker.yml"), app.path().join("broker.yml")).unwrap();
    std::os::unix::fs::symlink(PROGRAM, app.path().join("cf-mysql-broker")).unwrap();
    let manifest = std::fs::read_to_string(pushed.join("manifest.yml")).unwrap();
    let value = |key: &str| manifest.lines().find_map(|line| line.trim().strip_prefix(&format!("{key}: "))).expect("a key of the manifest");
    assert_eq!(value("health-check-http-endpoint"), "/health");
    assert!(manifest.contains("  services:\n  - cf-mysql-broker-mysql\n"), "the name the document gives to the service");

    let port = free_port();
    let services = json!({"user-provided": [{"name": "cf-mysql-broker-mysql", "label": "user-provided", "tags": ["mysql"], "credentials": {
        "hostname": database.server.endpoint.host, "port": database.server.endpoint.port,
        "username": "cf-mysql-broker", "password": password, "name": "mysql_broker",
    }}]});
    let _app = Killed(
        Command::new("sh")
            .args(["-c", &format!("exec {}", value("command"))])
            .current_dir(app.path())
            .env_clear()
            .env("PORT", port.to_string())
            .env("VCAP_APPLICATION", json!({"application_uris": ["p-mysql.example.com"]}).to_string())
            .env("VCAP_SERVICES", services.to_string())
            .env("CF_MYSQL_BROKER__SERVER__CREDENTIALS", json!([{"username": "admin", "password": "app"}]).to_string())
            .env("CF_MYSQL_BROKER__BINDINGS__SECRETS", json!([{"id": "1", "key": "0123456789abcdef0123456789abcdef"}]).to_string())
            .env("CF_MYSQL_BROKER__QUOTA_ENFORCER__USERNAME", "quota-enforcer")
            .env("CF_MYSQL_BROKER__QUOTA_ENFORCER__PASSWORD", enforcer)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let osb = Osb::new(format!("http://127.0.0.1:{port}"), "app".to_owned());
    eventually("the app is ready", async || {
        let ready = osb.try_send(osb.bare(reqwest::Method::GET, "/ready")).await.ok()?;
        (ready.status == 200).then_some(())
    })
    .await;
    assert_eq!(osb.get("/v2/catalog").await.expect(200)["services"][0]["name"], "team-mysql");
}
