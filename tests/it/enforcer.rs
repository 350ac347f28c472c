use std::ffi::OsStr;

use cf_mysql_broker::mysql::app_session::AppSession;
use cf_mysql_broker::mysql::code;
use serde_json::{Value, json};

use crate::support::bed::{app, make_room};
use crate::support::broker::run;
use crate::support::osb::{bind_body, binding};
use crate::support::{Bed, BedOptions, BrokerProcess, cluster, eventually, is_galera};

pub const MEGABYTE: &str = "INSERT INTO t (body) VALUES (REPEAT('x', 1048576))";

fn enforcing() -> BedOptions {
    BedOptions { enforce: true, ..BedOptions::default() }
}

/// One pass as a process of its own.
pub fn once(bed: &Bed) -> Value {
    let arguments: Vec<&OsStr> =
        vec!["quota-enforcer".as_ref(), "--config".as_ref(), bed.config.as_os_str(), "--once".as_ref(), "--json".as_ref()];
    let (code, stdout, stderr) = run(&arguments, &[]);
    assert_eq!(code, 0, "{stderr}");
    serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}"))
}

/// An instance of 5 MB with one binding and a table.
pub async fn instance_with_table(bed: &Bed, id: &str) -> (Value, AppSession) {
    bed.osb().provision(id).await.expect(201);
    let bound = bed.osb().bind(id, "writer").await.expect(201);
    let mut session = app(&bound).await.unwrap();
    session.execute("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, body LONGBLOB)").await.unwrap();
    (bound, session)
}

/// Writes so much, or less where an enforcer at work says no before.
pub async fn fill(session: &mut AppSession, megabytes: usize) {
    for _ in 0..megabytes {
        match session.execute(MEGABYTE).await {
            Ok(_) => {}
            Err(cf_mysql_broker::mysql::Error::ConnectionLost(_)) => return,
            Err(error) if error.code() == Some(code::TABLE_ACCESS_DENIED) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Whether a new session is refused a statement; one that the enforcer ends is begun again.
pub async fn is_denied(bound: &Value, statement: &str) -> bool {
    let mut again = false;
    loop {
        let Ok(mut session) = app(bound).await else { continue };
        match session.execute(statement).await {
            Ok(_) => return false,
            // the statement had run when its session was ended: what it makes is there already (1050, 1060, 1304)
            Err(error) if again && matches!(error.code(), Some(1050 | 1060 | 1304)) => return false,
            Err(error) if error.code() == Some(code::TABLE_ACCESS_DENIED) => return true,
            Err(error) if error.to_string().contains("1044") || error.to_string().contains("1370") => return true,
            Err(cf_mysql_broker::mysql::Error::ConnectionLost(_)) => again = true,
            Err(error) => panic!("{statement}: {error}"),
        }
    }
}

#[tokio::test]
async fn over_quota_reading_and_deleting_stay_and_everything_that_stores_goes() {
    let bed = Bed::with(enforcing()).await;
    let (bound, mut session) = instance_with_table(&bed, "i1").await;
    session.execute("CREATE VIEW v AS SELECT id FROM t").await.unwrap();
    fill(&mut session, 6).await;
    eventually("writing is taken", async || is_denied(&bound, MEGABYTE).await.then_some(())).await;
    // the session that began before is ended a moment after the right is taken
    while session.execute(MEGABYTE).await.is_ok() {}
    for statement in [
        "UPDATE t SET body = 'y'",
        "CREATE TABLE u (id INT)",
        "ALTER TABLE t ADD COLUMN more LONGBLOB",
        "CREATE INDEX i ON t (id)",
        "CREATE TEMPORARY TABLE u (id INT)",
        "CREATE VIEW w AS SELECT 1",
        "CREATE PROCEDURE p() SELECT 1",
        "CREATE TABLE u AS SELECT * FROM t",
        "INSERT INTO t (body) SELECT body FROM t",
        "REPLACE INTO t (id, body) VALUES (1, 'y')",
    ] {
        assert!(is_denied(&bound, statement).await, "{statement}");
    }
    let mut reader = app(&bound).await.unwrap();
    assert!(reader.number("SELECT COUNT(*) FROM v").await.unwrap() >= 4);
    reader.execute("DROP VIEW v").await.unwrap();
    make_room(&bound, "DELETE FROM t").await;
    eventually("writing is given back", async || (!is_denied(&bound, MEGABYTE).await).then_some(())).await;
    for statement in [
        "UPDATE t SET body = 'y'",
        "ALTER TABLE t ADD COLUMN more INT",
        "CREATE PROCEDURE p() SELECT 1",
        "DROP PROCEDURE p",
        "TRUNCATE TABLE t",
    ] {
        assert!(!is_denied(&bound, statement).await, "{statement}");
    }
    assert_eq!(bed.number("SELECT COUNT(*) FROM quota_revocations").await + bed.number("SELECT COUNT(*) FROM quota_violations").await, 0);
}

#[tokio::test]
async fn a_pass_of_its_own_reports_what_it_saw_and_did() {
    let bed = Bed::new().await;
    let (bound, mut session) = instance_with_table(&bed, "i1").await;
    bed.osb().provision("i2").await.expect(201);
    let quiet = once(&bed);
    assert_eq!((&quiet["databases"], &quiet["suspects"], &quiet["failures"]), (&json!(2), &json!(0), &json!(0)));
    fill(&mut session, 6).await;
    let report = once(&bed);
    assert_eq!(
        (&report["violators"], &report["over"], &report["revoked"], &report["sessions_ended"]),
        (&json!(1), &json!(1), &json!(1), &json!(1)),
        "{report}"
    );
    assert!(is_denied(&bound, MEGABYTE).await);
    let again = once(&bed);
    assert_eq!(
        (&again["violators"], &again["over"], &again["revoked"], &again["sessions_ended"]),
        (&json!(0), &json!(1), &json!(0), &json!(0))
    );
    app(&bound).await.unwrap().execute("TRUNCATE TABLE t").await.unwrap();
    let back = once(&bed);
    assert_eq!((&back["reformers"], &back["restored"], &back["over"]), (&json!(1), &json!(1), &json!(0)), "{back}");
    assert!(!is_denied(&bound, MEGABYTE).await);
}

#[tokio::test]
async fn a_binding_made_while_over_quota_cannot_write_until_usage_falls() {
    let bed = Bed::new().await;
    let (_, mut session) = instance_with_table(&bed, "i1").await;
    fill(&mut session, 6).await;
    once(&bed);
    let fresh = bed.osb().bind("i1", "fresh").await.expect(201);
    assert!(is_denied(&fresh, MEGABYTE).await);
    app(&fresh).await.unwrap().execute("TRUNCATE TABLE t").await.unwrap();
    once(&bed);
    assert!(!is_denied(&fresh, MEGABYTE).await);
}

#[tokio::test]
async fn a_read_only_binding_never_becomes_a_writer() {
    let bed = Bed::new().await;
    let (_, mut session) = instance_with_table(&bed, "i1").await;
    let mut body = bind_body();
    body["parameters"] = json!({"read-only": true});
    let reader = bed.osb().put(&binding("i1", "reader"), &body).await.expect(201);
    let mut reading = app(&reader).await.unwrap();
    fill(&mut session, 6).await;
    let report = once(&bed);
    assert_eq!(report["revoked"], 1);
    reading.number("SELECT COUNT(*) FROM t").await.expect("its session is not ended");
    bed.execute(&format!("TRUNCATE TABLE {}.t", bed.database_of("i1").await)).await;
    once(&bed);
    assert!(is_denied(&reader, MEGABYTE).await);
}

#[tokio::test]
async fn ignored_users_keep_their_rights_and_their_sessions() {
    let bed = Bed::new().await;
    let (bound, mut session) = instance_with_table(&bed, "i1").await;
    let database = bed.database_of("i1").await;
    let user = format!("backup-{}", crate::support::unique());
    bed.execute(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'pw'; GRANT ALL ON `{}`.* TO '{user}'@'%'", database.replace('_', "\\_")))
        .await;
    bed.change_settings(&json!({"quota_enforcer": {"ignored_users": [user]}}));
    let mut backup = AppSession::connect(&bed.server, &user, "pw", &database).await.unwrap();
    fill(&mut session, 6).await;
    let report = once(&bed);
    assert_eq!((&report["revoked"], &report["sessions_ended"]), (&json!(1), &json!(1)));
    assert!(is_denied(&bound, MEGABYTE).await);
    backup.execute(MEGABYTE).await.expect("rights and session are untouched");
    bed.execute(&format!("DROP USER '{user}'@'%'")).await;
}

#[tokio::test]
async fn a_grant_by_an_operator_with_the_plain_name_is_found_and_given_back_as_it_was() {
    let bed = Bed::new().await;
    let (_, mut session) = instance_with_table(&bed, "i1").await;
    let database = bed.database_of("i1").await;
    let user = format!("old-{}", crate::support::unique());
    // unescaped, as cf-mysql's broker granted; and not on %
    bed.execute(&format!("CREATE USER '{user}'@'127.0.0.1' IDENTIFIED BY 'pw'; GRANT SELECT, DELETE, DROP, INSERT, UPDATE ON `{database}`.* TO '{user}'@'127.0.0.1'")).await;
    fill(&mut session, 6).await;
    let report = once(&bed);
    let writes = format!("SELECT COUNT(*) FROM mysql.db WHERE User = '{user}' AND Insert_priv = 'Y' AND Update_priv = 'Y'");
    if report["failures"] == 0 {
        assert_eq!(bed.number(&writes).await, 0);
        session = AppSession::connect(&bed.server, &user, "pw", &database).await.unwrap();
        session.execute("TRUNCATE TABLE t").await.unwrap();
        once(&bed);
        assert_eq!(bed.number(&writes).await, 1);
        assert_eq!(
            bed.number(&format!("SELECT COUNT(*) FROM mysql.db WHERE User = '{user}' AND Create_priv = 'Y'")).await,
            0,
            "no more than it had"
        );
    }
    assert_eq!(report["failures"], 0, "{report}");
    bed.execute(&format!("DROP USER '{user}'@'127.0.0.1'")).await;
}

#[tokio::test]
async fn what_a_crash_left_half_done_is_repaired() {
    let bed = Bed::new().await;
    let (bound, mut session) = instance_with_table(&bed, "i1").await;
    fill(&mut session, 6).await;
    let database = bed.database_of("i1").await;
    // written down, and then killed: nothing is revoked, nobody's session ended
    bed.execute(&format!(
        "INSERT INTO {}.quota_violations (db_name, watermarks, since) VALUES ('{database}', '', UTC_TIMESTAMP())",
        bed.database
    ))
    .await;
    let report = once(&bed);
    assert_eq!((&report["over"], &report["revoked"], &report["sessions_ended"]), (&json!(1), &json!(1), &json!(1)), "{report}");
    assert!(is_denied(&bound, MEGABYTE).await);
    app(&bound).await.unwrap().execute("TRUNCATE TABLE t").await.unwrap();
    once(&bed);
    assert!(!is_denied(&bound, MEGABYTE).await, "and still everything can be given back");
}

#[tokio::test]
async fn an_error_about_one_database_does_not_stop_the_others() {
    let bed = Bed::new().await;
    let (first, mut session) = instance_with_table(&bed, "i1").await;
    let (second, mut other) = instance_with_table(&bed, "i2").await;
    fill(&mut session, 6).await;
    fill(&mut other, 6).await;
    // the enforcer's rights on the first one are taken: whatever it does there fails
    let database = bed.database_of("i1").await;
    bed.execute(&format!(
        "REVOKE INSERT, UPDATE, CREATE, ALTER, INDEX, REFERENCES, CREATE TEMPORARY TABLES, CREATE VIEW, CREATE ROUTINE, ALTER ROUTINE ON `cf_%`.* FROM '{}'@'%'; \
         GRANT SELECT, DELETE, DROP, EXECUTE, SHOW VIEW, TRIGGER, EVENT, INSERT, UPDATE, CREATE, ALTER, INDEX, REFERENCES, CREATE TEMPORARY TABLES, CREATE VIEW, CREATE ROUTINE, ALTER ROUTINE \
         ON `{}`.* TO '{}'@'%' WITH GRANT OPTION",
        bed.enforcer_account,
        bed.database_of("i2").await.replace('_', "\\_"),
        bed.enforcer_account,
    ))
    .await;
    let arguments: Vec<&OsStr> =
        vec!["quota-enforcer".as_ref(), "--config".as_ref(), bed.config.as_os_str(), "--once".as_ref(), "--json".as_ref()];
    let (code, stdout, stderr) = run(&arguments, &[]);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &report["failures"]), (1, &json!(1)), "{report} {stderr}");
    assert!(stderr.contains(&database), "the log names it: {stderr}");
    assert!(is_denied(&second, MEGABYTE).await);
    assert!(!is_denied(&first, MEGABYTE).await);
}

#[tokio::test]
async fn the_enforcer_as_a_process_of_its_own_leads_alone_and_is_replaced() {
    let bed = Bed::new().await;
    let mut enforcers = vec![];
    for _ in 0..2 {
        let mut enforcer = BrokerProcess::start("quota-enforcer", &bed.config);
        enforcer.wait_for("it is in force", |line| line.contains("is in force").then_some(())).await;
        enforcers.push(enforcer);
    }
    let leads = |enforcer: &BrokerProcess| {
        enforcer.output().iter().rev().find(|line| line.contains("\"leads\":")).is_some_and(|line| line.contains("\"leads\":true"))
    };
    let (bound, mut session) = instance_with_table(&bed, "i1").await;
    fill(&mut session, 6).await;
    eventually("writing is taken", async || is_denied(&bound, MEGABYTE).await.then_some(())).await;
    // a machine that stands still for seconds may change who it is
    let leader = eventually("one of them leads, and only one", async || {
        let leaders: Vec<usize> = (0..2).filter(|i| leads(&enforcers[*i])).collect();
        (leaders.len() == 1).then(|| leaders[0])
    })
    .await;
    enforcers.remove(leader).signal(rustix::process::Signal::KILL);
    eventually("the other one leads", async || leads(&enforcers[0]).then_some(())).await;
    make_room(&bound, "TRUNCATE TABLE t").await;
    eventually("writing is given back", async || (!is_denied(&bound, MEGABYTE).await).then_some(())).await;
    let (status, output) = enforcers.remove(0).terminate().await;
    assert!(status.success(), "{output:#?}");
    assert_eq!(bed.number("SELECT COUNT(*) FROM leader WHERE until > UTC_TIMESTAMP()").await, 0, "a clean stop gives the lease back");
}

#[tokio::test]
async fn pause_and_ignored_users_change_without_a_restart() {
    let bed = Bed::new().await;
    let mut enforcer = BrokerProcess::start("quota-enforcer", &bed.config);
    enforcer.wait_for("it is in force", |line| (line.contains("is in force") && line.contains("\"pause\":1.0")).then_some(())).await;
    bed.change_settings(&json!({"quota_enforcer": {"pause": 3.5, "ignored_users": ["somebody"]}}));
    enforcer.signal(rustix::process::Signal::HUP);
    enforcer
        .wait_for("the change", |line| {
            (line.contains("SIGHUP") && line.contains("\"pause\":3.5") && line.contains("somebody")).then_some(())
        })
        .await;
    bed.change_settings(&json!({"quota_enforcer": {"pause": 0.1}, "server": {"port": "eighty"}}));
    enforcer.signal(rustix::process::Signal::HUP);
    enforcer
        .wait_for("the refusal", |line| {
            (line.contains("refused") && line.contains("quota_enforcer.pause") && line.contains("server.port")).then_some(())
        })
        .await;
}

#[tokio::test]
async fn after_a_restart_of_the_server_nobody_is_older_than_it() {
    let bed = Bed::new().await;
    let (bound, mut session) = instance_with_table(&bed, "i1").await;
    fill(&mut session, 6).await;
    assert_eq!(once(&bed)["violators"], 1);
    // as if the server had counted far, and were started anew
    bed.execute(&format!("UPDATE quota_violations SET watermarks = '{{\"{}:{}\": 1000000000000}}'", bed.server.host, bed.server.port))
        .await;
    let mut reader = app(&bound).await.unwrap();
    assert_eq!(once(&bed)["sessions_ended"], 0);
    reader.execute("TRUNCATE TABLE t").await.expect("it may delete in peace");
}

#[tokio::test]
async fn sessions_on_a_node_that_lags_are_ended_until_it_has_caught_up() {
    if !is_galera() {
        return;
    }
    let server = cluster().await;
    let bed = Bed::on(&server, BedOptions::default()).await;
    let (mut bound, mut session) = instance_with_table(&bed, "i1").await;
    let lagging = &server.others[1];
    bound["credentials"]["port"] = lagging.port().into();
    eventually("the account is there", async || app(&bound).await.ok()).await;
    fill(&mut session, 6).await;
    let endpoint = cf_mysql_broker::domain::credentials::Endpoint { host: lagging.host().to_owned(), port: lagging.port() };
    let mut root = crate::support::server::connect(&endpoint, "root", &server.root_password).await.unwrap();
    // it applies nothing from here on
    sqlx::raw_sql("FLUSH TABLES WITH READ LOCK").execute(&mut root).await.unwrap();
    let report = once(&bed);
    assert_eq!((&report["violators"], &report["failures"]), (&json!(1), &json!(0)), "{report}");
    let nodes = "SELECT JSON_LENGTH(watermarks) FROM quota_violations";
    assert_eq!(bed.number(nodes).await, 2, "whoever begins there begins with the old rights");
    let mut late = app(&bound).await.unwrap();
    once(&bed);
    late.number("SELECT 1").await.expect_err("it is ended");
    sqlx::raw_sql("UNLOCK TABLES").execute(&mut root).await.unwrap();
    eventually("the node has caught up", async || {
        once(&bed);
        (bed.number(nodes).await == 3).then_some(())
    })
    .await;
    let mut reader = app(&bound).await.unwrap();
    assert_eq!(once(&bed)["sessions_ended"], 0);
    reader.number("SELECT 1").await.expect("who begins now has the new rights");
    assert!(is_denied(&bound, MEGABYTE).await);
}
