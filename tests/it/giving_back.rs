//! Taking and giving back when somebody is in the way: an account that is gone, or not there yet, a REVOKE or a KILL that is refused.

use cf_mysql_broker::mysql::app_session::AppSession;
use serde_json::{Value, json};
use sqlx::Row as _;
use sqlx::mysql::MySqlRow;

use crate::enforcer::{MEGABYTE, fill, instance_with_table, is_denied, once};
use crate::support::bed::app;
use crate::support::broker::run;
use crate::support::{Bed, BedOptions, BrokerProcess, eventually, is_mariadb, shared_server, unique};

/// A pass in which something fails.
fn once_in_vain(bed: &Bed) -> Value {
    let arguments = ["quota-enforcer".as_ref(), "--config".as_ref(), bed.config.as_os_str(), "--once".as_ref(), "--json".as_ref()];
    let (code, stdout, stderr) = run(&arguments, &[]);
    assert_eq!(code, 1, "{stderr}");
    serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}"))
}

fn user_of(bound: &Value) -> &str {
    bound["credentials"]["username"].as_str().unwrap()
}

/// A bed whose broker and enforcer share an account, with the rights of both.
pub async fn with_one_account(options: &BedOptions) -> Bed {
    let mut bed = Bed::prepare(shared_server(), options).await;
    let mut settings: Value = serde_json::from_str(&std::fs::read_to_string(&bed.config).unwrap()).unwrap();
    settings["quota_enforcer"].as_object_mut().unwrap().retain(|key, _| key != "username" && key != "password");
    std::fs::write(&bed.config, settings.to_string()).unwrap();
    let rights = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, ALTER, CREATE TEMPORARY TABLES, EXECUTE, CREATE VIEW, \
                  SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, EVENT, TRIGGER, LOCK TABLES";
    bed.execute(&format!("GRANT SELECT ON *.* TO '{0}'@'%'; GRANT {rights} ON `cf_%`.* TO '{0}'@'%' WITH GRANT OPTION", bed.account)).await;
    bed.start_broker().await;
    bed.all_ready().await;
    bed
}

#[tokio::test]
async fn an_account_that_was_dropped_is_not_made_again() {
    // whoever may make accounts makes one on MariaDB by giving it rights
    let bed = with_one_account(&BedOptions::default()).await;
    let (bound, mut tenant) = instance_with_table(&bed, "i1").await;
    fill(&mut tenant, 6).await;
    assert_eq!(once(&bed)["violators"], 1);
    bed.execute(&format!("DROP USER '{}'@'%'; TRUNCATE TABLE `{}`.t", user_of(&bound), bed.database_of("i1").await)).await;
    let report = once(&bed);
    assert_eq!((&report["reformers"], &report["failures"]), (&json!(1), &json!(0)), "{report}");
    assert_eq!(bed.accounts(user_of(&bound)).await, 0);
    assert_eq!(bed.number("SELECT COUNT(*) FROM quota_revocations").await, 0);
}

#[tokio::test]
async fn what_was_withheld_from_an_account_that_is_being_made_is_given_when_it_is_there() {
    let bed = Bed::new().await;
    let (_, mut tenant) = instance_with_table(&bed, "i1").await;
    fill(&mut tenant, 6).await;
    assert_eq!(once(&bed)["violators"], 1);
    let fresh = bed.osb().bind("i1", "fresh").await.expect(201);
    let (user, database) = (user_of(&fresh), bed.database_of("i1").await);
    // as it was before CREATE USER, when the right to write was noted already
    bed.execute(&format!(
        "DROP USER '{user}'@'%'; UPDATE service_bindings SET state = 'creating', op_id = 'op', \
         lease_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR WHERE username = '{user}'; TRUNCATE TABLE `{database}`.t"
    ))
    .await;
    once(&bed);
    assert_eq!(bed.accounts(user).await, 0);
    bed.execute(&format!(
        "CREATE USER '{user}'@'%' IDENTIFIED BY 'pw'; GRANT SELECT ON `{}`.* TO '{user}'@'%'; \
         UPDATE service_bindings SET state = 'ready', op_id = NULL, lease_until = NULL WHERE username = '{user}'",
        database.replace('_', "\\_")
    ))
    .await;
    once(&bed);
    AppSession::connect(&bed.server, user, "pw", &database).await.unwrap().execute(MEGABYTE).await.unwrap();
    assert_eq!(bed.number("SELECT COUNT(*) FROM quota_revocations").await + bed.number("SELECT COUNT(*) FROM quota_violations").await, 0);
}

#[tokio::test]
async fn a_revoke_that_is_refused_ends_no_session_again_and_again() {
    let bed = Bed::new().await;
    let (bound, mut tenant) = instance_with_table(&bed, "i1").await;
    fill(&mut tenant, 6).await;
    assert_eq!(once(&bed)["violators"], 1);
    let mut reader = app(&bound).await.unwrap();
    // a narrower grant hides the wider one, and with it the right to REVOKE
    let pattern = bed.database_of("i1").await.replace('_', "\\_");
    let user = format!("u{}", unique());
    bed.execute(&format!(
        "CREATE USER '{user}'@'%' IDENTIFIED BY 'pw'; GRANT INSERT ON `{pattern}`.* TO '{user}'@'%'; \
         GRANT SELECT ON `{pattern}`.* TO '{}'@'%'",
        bed.enforcer_account
    ))
    .await;
    let report = once_in_vain(&bed);
    assert_eq!((&report["revoked"], &report["sessions_ended"]), (&json!(0), &json!(0)), "{report}");
    reader.execute("DELETE FROM t LIMIT 1").await.unwrap();
}

#[tokio::test]
async fn a_session_that_cannot_be_ended_keeps_nobody_elses_alive() {
    if is_mariadb() {
        // CONNECTION ADMIN ends every session there
        return;
    }
    let bed = Bed::new().await;
    let (bound, mut tenant) = instance_with_table(&bed, "i1").await;
    let database = bed.database_of("i1").await;
    let user = format!("u{}", unique());
    bed.execute(&format!(
        "CREATE USER '{user}'@'%' IDENTIFIED BY 'pw'; GRANT SYSTEM_USER ON *.* TO '{user}'@'%'; GRANT ALL ON `{}`.* TO '{user}'@'%'",
        database.replace('_', "\\_")
    ))
    .await;
    let mut operator = AppSession::connect(&bed.server, &user, "pw", &database).await.unwrap();
    fill(&mut tenant, 6).await;
    // begun after the operator's, and so after it in the list of sessions
    let mut late = app(&bound).await.unwrap();
    let report = once_in_vain(&bed);
    assert_eq!((&report["violators"], &report["revoked"]), (&json!(1), &json!(1)), "what was taken is told: {report}");
    assert!(late.execute("DO 1").await.is_err() && is_denied(&bound, MEGABYTE).await);
    operator.execute("DO 1").await.unwrap();
}

#[tokio::test]
async fn an_enforcer_that_cannot_work_says_so() {
    let bed = Bed::new().await;
    bed.change_settings(&json!({"quota_enforcer": {"password": "not-the-enforcers"}}));
    let mut enforcer = BrokerProcess::start("quota-enforcer", &bed.config);
    let line = enforcer.wait_for("a warning", |line| line.contains("can neither lead").then(|| line.to_owned())).await;
    assert!(line.contains("\"WARN\"") && line.contains("1045") && !line.contains("not-the-enforcers"), "{line}");
}

#[tokio::test]
async fn a_statement_with_odd_letters_keeps_no_session_alive() {
    let bed = Bed::new().await;
    let (bound, mut tenant) = instance_with_table(&bed, "i1").await;
    let mut other = app(&bound).await.unwrap();
    fill(&mut tenant, 6).await;
    // MySQL cannot show a list of sessions in utf8mb3 meanwhile
    let odd = tokio::spawn(async move { other.execute("SELECT SLEEP(600), '\u{1F600}'").await });
    let sleeps = Some("User sleep".to_owned());
    eventually("it runs", async || {
        let sessions = sqlx::raw_sql("SHOW PROCESSLIST").fetch_all(&mut bed.root().await).await.unwrap();
        let is_it = |row: &MySqlRow| row.get::<String, _>("User") == user_of(&bound) && row.get::<Option<String>, _>("State") == sleeps;
        sessions.iter().any(is_it).then_some(())
    })
    .await;
    let report = once(&bed);
    assert_eq!((&report["revoked"], &report["failures"]), (&json!(1), &json!(0)), "{report}");
    assert!(tenant.execute("DO 1").await.is_err());
    assert!(odd.await.unwrap().is_err());
}
