use cf_mysql_broker::mysql::code;
use serde_json::json;

use crate::support::bed::{PLAN_LARGE, app};
use crate::support::osb::{bind_body, binding};
use crate::support::{Bed, eventually};

#[tokio::test]
async fn credentials_work_as_they_are() {
    let bed = Bed::new().await;
    let osb = bed.osb();
    osb.provision("i1").await.expect(201);
    let bound = osb.bind("i1", "b1").await.expect(201);
    let credentials = &bound["credentials"];
    let (host, port) = (credentials["hostname"].as_str().unwrap(), credentials["port"].as_u64().unwrap());
    let (user, password, name) =
        (credentials["username"].as_str().unwrap(), credentials["password"].as_str().unwrap(), credentials["name"].as_str().unwrap());
    assert_eq!(credentials["uri"], format!("mysql://{user}:{password}@{host}:{port}/{name}"));
    assert_eq!(credentials["jdbcUrl"], format!("jdbc:mysql://{host}:{port}/{name}?user={user}&password={password}"));
    assert_eq!((&credentials["host"], &credentials["database"]), (&credentials["hostname"], &credentials["name"]));
    assert_eq!(bound["endpoints"], json!([{"host": host, "ports": [port.to_string()], "protocol": "tcp"}]));
    assert!(osb.speaking("2.14").bind("i1", "b1").await.expect(200).get("endpoints").is_none());
    let mut app = app(&bound).await.unwrap();
    for statement in [
        "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(20), KEY (text))",
        "INSERT INTO t (text) VALUES ('a'), ('b')",
        "UPDATE t SET text = 'c'",
        "ALTER TABLE t ADD COLUMN more INT",
        "CREATE VIEW v AS SELECT id FROM t",
        "CREATE PROCEDURE p() SELECT 1",
        "CALL p()",
        "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET NEW.more = 1",
        "CREATE TEMPORARY TABLE tt (id INT)",
        "DELETE FROM t",
        "DROP TABLE t",
    ] {
        app.execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    assert_eq!(app.execute("LOCK TABLES v READ").await.unwrap_err().code(), None, "a lock can hold up the enforcer");
}

#[tokio::test]
async fn the_same_request_again_gets_the_same_credentials() {
    let bed = Bed::new().await;
    let osb = bed.osb();
    osb.provision("i1").await.expect(201);
    let first = osb.bind("i1", "b1").await.expect(201);
    assert_eq!(osb.bind("i1", "b1").await.expect(200), first);
    assert_eq!(osb.get(&binding("i1", "b1")).await.expect(200), first);
    let other = osb.bind("i1", "b2").await.expect(201);
    for key in ["username", "password"] {
        assert_ne!(first["credentials"][key], other["credentials"][key]);
    }
    for (field, value) in
        [("bind_resource", json!({"app_guid": "a2"})), ("plan_id", json!(PLAN_LARGE)), ("parameters", json!({"read-only": true}))]
    {
        let mut body = bind_body();
        body[field] = value;
        osb.put(&binding("i1", "b1"), &body).await.expect(409);
    }
    assert_eq!(bed.number("SELECT COUNT(*) FROM service_bindings").await, 2);
}

#[tokio::test]
async fn a_new_secret_makes_new_credentials_and_keeps_the_old_ones() {
    let bed = Bed::new().await;
    bed.osb().provision("i1").await.expect(201);
    let first = bed.osb().bind("i1", "b1").await.expect(201);
    let old_key = bed.secrets[3].clone();
    bed.change_settings(&json!({"bindings": {"secrets": [{"id": "second", "key": "another secret of more than 32 characters"}, {"id": "first", "key": old_key}]}}));
    bed.brokers[0].signal(rustix::process::Signal::HUP);
    let second = eventually("a binding with the new secret", async || {
        bed.osb().bind("i1", &crate::support::unique()).await.expect(201);
        (bed.number("SELECT COUNT(*) FROM service_bindings WHERE secret_id = 'second'").await > 0).then_some(())
    });
    second.await;
    assert_eq!(bed.osb().bind("i1", "b1").await.expect(200), first);
}

#[tokio::test]
async fn unbinding_ends_the_account_and_its_sessions() {
    let bed = Bed::new().await;
    let osb = bed.osb();
    osb.provision("i1").await.expect(201);
    let bound = osb.bind("i1", "b1").await.expect(201);
    let mut session = app(&bound).await.unwrap();
    session.number("SELECT 1").await.unwrap();
    assert_eq!(osb.unbind("i1", "b1").await.expect(200), json!({}));
    session.number("SELECT 1").await.unwrap_err();
    assert!(app(&bound).await.is_err());
    assert_eq!(osb.unbind("i1", "b1").await.expect(410), json!({}));
    osb.get(&binding("i1", "b1")).await.expect(404);

    let bound = osb.bind("i1", "b2").await.expect(201);
    let user = bound["credentials"]["username"].as_str().unwrap();
    bed.execute(&format!("DROP USER '{user}'@'%'")).await;
    osb.unbind("i1", "b2").await.expect(200);
}

#[tokio::test]
async fn a_read_only_binding_reads_and_nothing_else() {
    let bed = Bed::new().await;
    let osb = bed.osb();
    osb.provision("i1").await.expect(201);
    let mut writer = app(&osb.bind("i1", "writer").await.expect(201)).await.unwrap();
    writer.execute("CREATE TABLE t (id INT PRIMARY KEY)").await.unwrap();
    let mut body = bind_body();
    body["parameters"] = json!({"read-only": true});
    let bound = osb.put(&binding("i1", "reader"), &body).await.expect(201);
    let mut reader = app(&bound).await.unwrap();
    assert_eq!(reader.number("SELECT COUNT(*) FROM t").await.unwrap(), 0);
    for statement in ["INSERT INTO t VALUES (1)", "DELETE FROM t", "DROP TABLE t", "CREATE TABLE u (id INT)"] {
        assert_eq!(reader.execute(statement).await.unwrap_err().code(), Some(code::TABLE_ACCESS_DENIED), "{statement}");
    }
    assert_eq!(osb.get(&binding("i1", "reader")).await.expect(200)["parameters"], json!({"read-only": true}));
    assert_eq!(bed.number("SELECT COUNT(*) FROM read_only_users").await, 1, "the old enforcer reads this");
    osb.unbind("i1", "reader").await.expect(200);
    assert_eq!(bed.number("SELECT COUNT(*) FROM read_only_users").await, 0);
}

#[tokio::test]
async fn a_plan_limits_the_connections_of_a_binding() {
    let bed = Bed::new().await;
    bed.osb().provision("i1").await.expect(201);
    let bound = bed.osb().bind("i1", "b1").await.expect(201);
    let mut sessions = Vec::new();
    for _ in 0..10 {
        sessions.push(app(&bound).await.unwrap());
    }
    assert!(app(&bound).await.is_err(), "the eleventh");
}

#[tokio::test]
async fn every_kind_of_binding_is_accepted() {
    let bed = Bed::new().await;
    let osb = bed.osb();
    osb.provision("i1").await.expect(201);
    for (id, field, value) in [
        ("app", "bind_resource", json!({"app_guid": "a1", "space_guid": "s1"})),
        ("key", "bind_resource", json!({})),
        ("credhub", "bind_resource", json!({"credential_client_id": "c1"})),
        ("old", "app_guid", json!("a1")),
        ("none", "bind_resource", json!(null)),
    ] {
        let mut body = bind_body();
        body[field] = value;
        osb.put(&binding("i1", id), &body).await.expect(201);
    }
    osb.bind("nowhere", "b1").await.expect(404);
    osb.unbind("nowhere", "b1").await.expect(410);
    let mut body = bind_body();
    body["plan_id"] = json!("nonsense");
    osb.put(&binding("i1", "b9"), &body).await.expect(400);
    body = bind_body();
    body["parameters"] = json!({"read-only": "yes"});
    let wrong = osb.put(&binding("i1", "b9"), &body).await.expect(400);
    assert!(wrong["description"].as_str().unwrap().contains("/read-only"), "{wrong}");
}

#[tokio::test]
async fn ten_at_once() {
    let bed = Bed::new().await;
    bed.osb().provision("i1").await.expect(201);
    let binds = (0..10).map(|i| {
        let osb = bed.osb().clone();
        tokio::spawn(async move { osb.bind("i1", &format!("b{i}")).await.status })
    });
    for bind in binds {
        assert_eq!(bind.await.unwrap(), 201);
    }
}
