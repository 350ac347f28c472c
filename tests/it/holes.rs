//! Every hole of cf-mysql's quota enforcer, as a test that is red for a naive enforcer and green for ours.

use cf_mysql_broker::mysql::app_session::AppSession;
use serde_json::{Value, json};

use crate::enforcer::{MEGABYTE, fill, instance_with_table, is_denied, once};
use crate::support::bed::{PLAN_LARGE, app};
use crate::support::naive::{self, Naive};
use crate::support::osb::{bind_body, binding, instance, provision_body};
use crate::support::{Bed, BedOptions, BrokerProcess, eventually, is_mariadb, own_server, unique};

async fn naive(bed: &Bed) -> usize {
    naive::pass(&mut bed.root().await, Naive::default()).await.expect("a naive pass")
}

/// Makes every figure of the statistics true, so that a test of the naive one shows nothing but its hole.
async fn analyse(bed: &Bed, database: &str, table: &str) {
    bed.execute(&format!("ANALYZE TABLE `{database}`.`{table}`")).await;
}

/// An account of an operator, dropped at the end of the suite's server.
async fn account(bed: &Bed, host: &str, grants: &[String]) -> String {
    let user = format!("u{}", unique());
    account_named(bed, &user, host, grants).await;
    user
}

async fn account_named(bed: &Bed, user: &str, host: &str, grants: &[String]) {
    bed.execute(&format!("CREATE USER '{user}'@'{host}' IDENTIFIED BY 'pw'")).await;
    for grant in grants {
        bed.execute(&format!("GRANT {grant} TO '{user}'@'{host}'")).await;
    }
}

fn escaped(database: &str) -> String {
    format!("`{}`.*", database.replace('_', "\\_"))
}

async fn session(bed: &Bed, user: &str, database: &str) -> AppSession {
    AppSession::connect(&bed.server, user, "pw", database).await.expect("a session")
}

async fn can(bed: &Bed, user: &str, database: &str, statement: &str) -> bool {
    session(bed, user, database).await.execute(statement).await.is_ok()
}

#[tokio::test]
async fn statistics_that_a_tenant_froze_hide_nothing() {
    let bed = Bed::new().await;
    bed.osb().provision("i1").await.expect(201);
    let bound = bed.osb().bind("i1", "b1").await.expect(201);
    let mut tenant = app(&bound).await.unwrap();
    tenant
        .execute("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, body LONGBLOB) STATS_PERSISTENT=1 STATS_AUTO_RECALC=0")
        .await
        .unwrap();
    fill(&mut tenant, 8).await;
    naive(&bed).await;
    assert!(!is_denied(&bound, MEGABYTE).await, "the naive one sees nothing");
    once(&bed);
    assert!(is_denied(&bound, MEGABYTE).await);
}

#[tokio::test]
async fn a_lock_that_nobody_gives_back_hides_nothing() {
    let options = BedOptions { settings: json!({"bindings": {"allow_table_locks": true}}), ..BedOptions::default() };
    // a server of its own: naive passes of other tests would wait for the lock
    let server = own_server().await;
    let bed = Bed::on(&server, options).await;
    bed.osb().provision("i1").await.expect(201);
    let bound = bed.osb().bind("i1", "b1").await.expect(201);
    let mut tenant = app(&bound).await.unwrap();
    tenant
        .execute("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, body LONGBLOB) STATS_PERSISTENT=1 STATS_AUTO_RECALC=0")
        .await
        .unwrap();
    fill(&mut tenant, 8).await;
    tenant.execute("LOCK TABLES t WRITE").await.unwrap();
    let mut root = bed.root().await;
    sqlx::raw_sql("SET SESSION lock_wait_timeout = 1").execute(&mut root).await.unwrap();
    // it sees nothing, or fails because of the lock
    let _ = naive::pass(&mut root, Naive::default()).await;
    tenant.execute(MEGABYTE).await.expect("the naive one does nothing");
    let report = once(&bed);
    assert_eq!((&report["violators"], &report["failures"]), (&json!(1), &json!(0)), "{report}");
    assert!(is_denied(&bound, MEGABYTE).await);
}

#[tokio::test]
async fn a_table_that_is_being_made_stops_nobody_else() {
    let server = own_server().await;
    let bed = Bed::on(&server, BedOptions::default()).await;
    let (blocker, mut making) = instance_with_table(&bed, "i1").await;
    let (bound, mut tenant) = instance_with_table(&bed, "i2").await;
    fill(&mut making, 6).await;
    fill(&mut tenant, 6).await;
    // the naive one waits for the table of i1 on MariaDB as long as the statement runs; nothing to be seen there but the wait
    let making = tokio::spawn(async move { making.execute("CREATE TABLE slow AS SELECT SLEEP(600) AS body").await });
    let query = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'CREATE TABLE slow%'";
    eventually("the table is being made", async || (bed.number(query).await == 1).then_some(())).await;
    if is_mariadb() {
        let mut root = bed.root().await;
        sqlx::raw_sql("SET SESSION lock_wait_timeout = 1").execute(&mut root).await.unwrap();
        let database = bed.database_of("i1").await;
        let seen: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{database}' AND DATA_LENGTH IS NOT NULL"
        )))
        .fetch_one(&mut root)
        .await
        .unwrap();
        assert_eq!(seen, 1, "whoever asks without patience does not see the new one, and with patience waits for ever");
    }
    let report = once(&bed);
    assert_eq!((&report["violators"], &report["failures"]), (&json!(2), &json!(0)), "{report}");
    assert!(is_denied(&bound, MEGABYTE).await);
    assert!(is_denied(&blocker, MEGABYTE).await);
    making.await.unwrap().expect_err("its session is ended");
}

#[tokio::test]
async fn a_sibling_database_by_wildcard_cannot_be_made() {
    let bed = Bed::new().await;
    let (bound, mut tenant) = instance_with_table(&bed, "i1").await;
    let database = bed.database_of("i1").await;
    let sibling = database.replacen("cf_", "cfx", 1);
    // as the reference granted
    let naive = account(&bed, "%", &[format!("ALL ON `{database}`.*")]).await;
    assert!(can(&bed, &naive, &database, &format!("CREATE DATABASE `{sibling}`")).await, "outside every quota");
    bed.execute(&format!("DROP DATABASE `{sibling}`")).await;
    tenant.execute(&format!("CREATE DATABASE `{sibling}`")).await.expect_err("no such right");
    drop(bound);
}

#[tokio::test]
async fn a_session_that_outlived_a_crash_is_ended() {
    let bed = Bed::new().await;
    let (_, mut tenant) = instance_with_table(&bed, "i1").await;
    fill(&mut tenant, 6).await;
    let database = bed.database_of("i1").await;
    analyse(&bed, &database, "t").await;
    let mut root = bed.root().await;
    // it died between REVOKE and KILL
    assert!(naive::pass(&mut root, Naive { kills: false, ..Naive::default() }).await.unwrap() > 0);
    naive::pass(&mut root, Naive::default()).await.unwrap();
    tenant.execute(MEGABYTE).await.expect("three clean passes later it still writes");
    once(&bed);
    tenant.execute(MEGABYTE).await.expect_err("ended");
}

#[tokio::test]
async fn sessions_are_ended_on_every_node() {
    let bed = Bed::new().await;
    let other = own_server().await;
    bed.also_on(&other).await;
    let (_, mut tenant) = instance_with_table(&bed, "i1").await;
    let database = bed.database_of("i1").await;
    let user = account(&bed, "%", &[format!("ALL ON {}", escaped(&database))]).await;
    // a session of the same account on the other node, as a cluster would have it
    let mut root = crate::support::server::connect(&other.endpoint, "root", &other.root_password).await.unwrap();
    let statements = format!(
        "CREATE DATABASE `{database}`; CREATE USER '{user}'@'%' IDENTIFIED BY 'pw'; GRANT ALL ON {} TO '{user}'@'%'",
        escaped(&database)
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements)).execute(&mut root).await.unwrap();
    let mut elsewhere = AppSession::connect(&other.endpoint, &user, "pw", &database).await.unwrap();
    fill(&mut tenant, 6).await;
    analyse(&bed, &database, "t").await;
    naive(&bed).await;
    elsewhere.execute("CREATE TABLE naive (id INT)").await.expect("the naive one does not look there");
    bed.execute(&format!("GRANT ALL ON {} TO '{user}'@'%'", escaped(&database))).await;
    let hosts = [&bed.server, &other.endpoint].map(|node| format!("{}:{}", node.host, node.port));
    bed.change_settings(&json!({"mysql": {"hosts": hosts}}));
    once(&bed);
    elsewhere.execute("CREATE TABLE ours (id INT)").await.expect_err("ended");
}

#[tokio::test]
async fn rights_on_a_table_a_column_or_a_routine_are_taken_and_given_back() {
    let bed = Bed::new().await;
    let (_, mut tenant) = instance_with_table(&bed, "i1").await;
    let database = bed.database_of("i1").await;
    tenant.execute("CREATE PROCEDURE p() COMMENT 'x' SELECT 1").await.unwrap();
    let table = account(&bed, "%", &[format!("SELECT, INSERT, DELETE ON `{database}`.t")]).await;
    let column = account(&bed, "%", &[format!("SELECT, INSERT (body), UPDATE (body) ON `{database}`.t")]).await;
    let routine = account(&bed, "%", &[format!("ALTER ROUTINE, EXECUTE ON PROCEDURE `{database}`.p")]).await;
    let gone = account(&bed, "%", &[format!("INSERT ON `{database}`.t")]).await;
    fill(&mut tenant, 6).await;
    analyse(&bed, &database, "t").await;
    naive(&bed).await;
    assert!(can(&bed, &table, &database, MEGABYTE).await && can(&bed, &column, &database, MEGABYTE).await, "the naive one does not see it");
    let report = once(&bed);
    assert_eq!(report["failures"], 0, "{report}");
    let writes = async || {
        let routine = can(&bed, &routine, &database, "ALTER PROCEDURE p COMMENT 'y'").await;
        [can(&bed, &table, &database, MEGABYTE).await, can(&bed, &column, &database, MEGABYTE).await, routine]
    };
    assert_eq!(writes().await, [false, false, false]);
    assert!(
        can(&bed, &routine, &database, "CALL p()").await && can(&bed, &table, &database, "DELETE FROM t").await,
        "what does not store stays"
    );
    bed.execute(&format!("DROP USER '{gone}'@'%'")).await;
    bed.execute(&format!("TRUNCATE TABLE `{database}`.t")).await;
    let report = once(&bed);
    assert_eq!((&report["failures"], &report["reformers"]), (&json!(0), &json!(1)), "{report}");
    assert_eq!(writes().await, [true, true, true]);
    assert!(!can(&bed, &column, &database, "UPDATE t SET id = id + 1").await, "no more than it had");
    assert_eq!(bed.number("SELECT COUNT(*) FROM quota_object_revocations").await, 0);
}

#[tokio::test]
async fn a_routine_with_roots_rights_cannot_be_called() {
    let bed = Bed::new().await;
    let (bound, mut tenant) = instance_with_table(&bed, "i1").await;
    let database = bed.database_of("i1").await;
    // as a dump restored by root leaves it
    bed.execute(&format!(
        "CREATE DEFINER='root'@'localhost' PROCEDURE `{database}`.lent() INSERT INTO `{database}`.t (body) VALUES (REPEAT('x', 1048576))"
    ))
    .await;
    tenant.execute("CREATE PROCEDURE own() DELETE FROM t WHERE id = 0").await.unwrap();
    fill(&mut tenant, 6).await;
    analyse(&bed, &database, "t").await;
    naive(&bed).await;
    assert!(!is_denied(&bound, "CALL lent()").await, "the naive one leaves EXECUTE");
    once(&bed);
    assert!(is_denied(&bound, "CALL lent()").await);
    bed.execute(&format!("DROP PROCEDURE `{database}`.lent; TRUNCATE TABLE `{database}`.t")).await;
    once(&bed);
    assert!(!is_denied(&bound, "CALL own()").await, "given back with the rest");
}

#[tokio::test]
async fn a_database_without_lent_rights_keeps_its_routines() {
    let bed = Bed::new().await;
    let (bound, mut tenant) = instance_with_table(&bed, "i1").await;
    tenant.execute("CREATE PROCEDURE own() DELETE FROM t WHERE id = 1").await.unwrap();
    tenant.execute("CREATE PROCEDURE write_own() INSERT INTO t (body) VALUES ('x')").await.unwrap();
    fill(&mut tenant, 6).await;
    once(&bed);
    assert!(!is_denied(&bound, "CALL own()").await);
    assert!(is_denied(&bound, "CALL write_own()").await, "it runs with rights that were taken");
}

/// An instance as cf-mysql left it: a row, a database, an account with a plain grant.
async fn adopted(bed: &Bed, database: &str, megabytes: u64) {
    bed.execute(&format!("CREATE DATABASE `{database}`; CREATE TABLE `{database}`.t (id INT AUTO_INCREMENT PRIMARY KEY, body LONGBLOB)"))
        .await;
    bed.execute(&format!(
        "INSERT INTO service_instances (guid, plan_guid, max_storage_mb, db_name) VALUES ('{}', 'old', {megabytes}, '{database}')",
        unique()
    ))
    .await;
}

#[tokio::test]
async fn odd_hosts_users_and_names_stop_nobody() {
    let bed = Bed::new().await;
    let word = unique();
    let odd = format!("cf_a-{word}.é$@002d");
    let odd = if is_mariadb() { odd } else { format!("cf_a-{word}$@002d") };
    let plain = format!("cf_z{word}");
    for database in [&odd, &plain] {
        adopted(&bed, database, 5).await;
    }
    // as long as a name can be
    let at = format!("a@b{word:x>width$}", width = if is_mariadb() { 125 } else { 29 });
    account_named(&bed, &at, "%", &[format!("ALL ON `{}`.*", odd.replace('_', "\\_"))]).await;
    let local = account(&bed, "127.0.0.1", &[format!("ALL ON `{odd}`.*")]).await;
    let last = account(&bed, "%", &[format!("ALL ON `{plain}`.*")]).await;
    for (user, database) in [(&local, &odd), (&last, &plain)] {
        fill(&mut session(&bed, user, database).await, 6).await;
        analyse(&bed, database, "t").await;
    }
    naive::pass(&mut bed.root().await, Naive::default()).await.expect_err("the naive one ends at the first odd one");
    let report = once(&bed);
    assert_eq!((&report["violators"], &report["failures"]), (&json!(2), &json!(0)), "{report}");
    for (user, database) in [(&at, &odd), (&local, &odd), (&last, &plain)] {
        assert!(!can(&bed, user, database, MEGABYTE).await, "{user} {database}");
    }
    for database in [&odd, &plain] {
        bed.execute(&format!("TRUNCATE TABLE `{database}`.t")).await;
    }
    once(&bed);
    for (user, database) in [(&at, &odd), (&local, &odd), (&last, &plain)] {
        assert!(can(&bed, user, database, MEGABYTE).await, "{user} {database}");
        bed.execute(&format!("DELETE FROM mysql.db WHERE User = '{user}'")).await;
    }
    for database in [&odd, &plain] {
        bed.execute(&format!("DROP DATABASE `{database}`")).await;
    }
}

#[tokio::test]
async fn a_broker_schema_in_any_character_set_is_read() {
    for charset in ["utf8mb4", "latin1", "utf8mb3"] {
        let bed = Bed::new().await;
        let (bound, mut tenant) = instance_with_table(&bed, "i1").await;
        bed.execute(&format!("ALTER TABLE service_instances MODIFY db_name VARCHAR(255) CHARACTER SET {charset}")).await;
        fill(&mut tenant, 6).await;
        let report = once(&bed);
        assert_eq!((&report["violators"], &report["failures"]), (&json!(1), &json!(0)), "{charset} {report}");
        assert!(is_denied(&bound, MEGABYTE).await, "{charset}");
    }
}

#[tokio::test]
async fn a_reader_without_a_row_never_becomes_a_writer() {
    let bed = Bed::new().await;
    let (_, mut tenant) = instance_with_table(&bed, "i1").await;
    let database = bed.database_of("i1").await;
    let mut body = bind_body();
    body["parameters"] = json!({"read-only": true});
    let reader = bed.osb().put(&binding("i1", "reader"), &body).await.expect(201);
    bed.execute("DELETE FROM read_only_users").await;
    fill(&mut tenant, 6).await;
    once(&bed);
    bed.execute(&format!("TRUNCATE TABLE `{database}`.t")).await;
    once(&bed);
    assert!(is_denied(&reader, MEGABYTE).await);
    analyse(&bed, &database, "t").await;
    naive(&bed).await;
    assert!(!is_denied(&reader, MEGABYTE).await, "the naive one promotes it within a pass");
}

#[tokio::test]
async fn a_user_of_two_databases_is_judged_by_each() {
    let bed = Bed::new().await;
    let (_, mut full) = instance_with_table(&bed, "full").await;
    bed.osb().put(&instance("roomy"), &provision_body(PLAN_LARGE)).await.expect(201);
    let (full_name, roomy) = (bed.database_of("full").await, bed.database_of("roomy").await);
    let both = account(&bed, "%", &[format!("ALL ON {}", escaped(&full_name)), format!("ALL ON {}", escaped(&roomy))]).await;
    bed.execute(&format!("CREATE TABLE `{roomy}`.t LIKE `{full_name}`.t")).await;
    fill(&mut full, 6).await;
    analyse(&bed, &full_name, "t").await;
    naive(&bed).await;
    assert!(can(&bed, &both, &full_name, "INSERT INTO t (body) VALUES ('x')").await, "the naive one adds up: 6 of 20 MB");
    let report = once(&bed);
    assert_eq!(report["violators"], 1, "{report}");
    assert!(!can(&bed, &both, &full_name, MEGABYTE).await);
    assert!(can(&bed, &both, &roomy, MEGABYTE).await);
}

#[tokio::test]
async fn two_databases_that_are_both_under_their_quota_are_left_alone() {
    let bed = Bed::new().await;
    let (_, mut first) = instance_with_table(&bed, "i1").await;
    let (_, mut second) = instance_with_table(&bed, "i2").await;
    let names = [bed.database_of("i1").await, bed.database_of("i2").await];
    let both = account(&bed, "%", &names.clone().map(|name| format!("ALL ON {}", escaped(&name)))).await;
    fill(&mut first, 3).await;
    fill(&mut second, 3).await;
    for name in &names {
        analyse(&bed, name, "t").await;
    }
    let report = once(&bed);
    assert_eq!((&report["violators"], &report["over"]), (&json!(0), &json!(0)), "{report}");
    assert!(can(&bed, &both, &names[0], MEGABYTE).await);
    naive(&bed).await;
    assert!(!can(&bed, &both, &names[0], MEGABYTE).await, "the naive one adds up: 6 of 5 MB");
}

#[tokio::test]
async fn only_sessions_of_accounts_that_were_revoked_are_ended() {
    let bed = Bed::new().await;
    let (_, mut tenant) = instance_with_table(&bed, "i1").await;
    let database = bed.database_of("i1").await;
    let mut body = bind_body();
    body["parameters"] = json!({"read-only": true});
    let reader = bed.osb().put(&binding("i1", "reader"), &body).await.expect(201);
    fill(&mut tenant, 6).await;
    analyse(&bed, &database, "t").await;
    let mut dump = bed.root().await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("USE `{database}`"))).execute(&mut dump).await.unwrap();
    let mut reading = app(&reader).await.unwrap();
    once(&bed);
    tenant.execute("DELETE FROM t WHERE id = 0").await.expect_err("it could write");
    reading.number("SELECT COUNT(*) FROM t").await.expect("the reader goes on");
    sqlx::raw_sql("SELECT COUNT(*) FROM t").execute(&mut dump).await.expect("root's dump goes on");
    bed.execute(&format!("GRANT INSERT ON {} TO '{}'@'%'", escaped(&database), reader["credentials"]["username"].as_str().unwrap())).await;
    naive(&bed).await;
    sqlx::raw_sql("SELECT COUNT(*) FROM t").execute(&mut dump).await.expect_err("the naive one ends whoever is in the database");
}

#[tokio::test]
async fn there_is_no_rounding() {
    let bed = Bed::new().await;
    bed.osb().provision("i1").await.expect(201);
    let bound = bed.osb().bind("i1", "b1").await.expect(201);
    let mut tenant = app(&bound).await.unwrap();
    // a page each: 317 are 4.953 MB, and several times that by files
    tenant.execute("CREATE TABLE p (id INT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 317").await.unwrap();
    let report = once(&bed);
    assert_eq!((&report["suspects"], &report["violators"]), (&json!(1), &json!(0)), "{report}");
    tenant.execute("INSERT INTO p VALUES (1)").await.expect("under the quota");
    naive(&bed).await;
    assert!(is_denied(&bound, "INSERT INTO p VALUES (2)").await, "the naive one rounds up");
}

#[tokio::test]
async fn escaped_grants_are_enforced() {
    let bed = Bed::new().await;
    let (bound, mut tenant) = instance_with_table(&bed, "i1").await;
    fill(&mut tenant, 6).await;
    analyse(&bed, &bed.database_of("i1").await, "t").await;
    naive::pass(&mut bed.root().await, Naive { sees_escaped: false, ..Naive::default() }).await.unwrap();
    assert!(!is_denied(&bound, MEGABYTE).await, "the reference never joined them");
    once(&bed);
    assert!(is_denied(&bound, MEGABYTE).await);
}

#[tokio::test]
async fn rights_come_back_when_the_row_of_the_instance_is_gone() {
    let bed = Bed::new().await;
    let (bound, mut tenant) = instance_with_table(&bed, "i1").await;
    fill(&mut tenant, 6).await;
    once(&bed);
    assert!(is_denied(&bound, MEGABYTE).await);
    bed.execute("DELETE FROM service_bindings; DELETE FROM service_instances").await;
    naive(&bed).await;
    assert!(is_denied(&bound, MEGABYTE).await, "the naive one never looks again");
    let report = once(&bed);
    assert_eq!((&report["restored"], &report["failures"]), (&json!(1), &json!(0)), "{report}");
    assert!(!is_denied(&bound, MEGABYTE).await);
    assert_eq!(bed.number("SELECT COUNT(*) FROM quota_violations").await, 0);
}

#[tokio::test]
async fn other_engines_and_shared_tablespaces_count() {
    let bed = Bed::new().await;
    let mut options = vec!["ENGINE=MyISAM", "ENGINE=MEMORY"];
    options.push(if is_mariadb() { "ENGINE=Aria" } else { "STATS_PERSISTENT=1 STATS_AUTO_RECALC=0 TABLESPACE=innodb_system" });
    for (number, option) in options.into_iter().enumerate() {
        let id = format!("i{number}");
        bed.osb().provision(&id).await.expect(201);
        let bound = bed.osb().bind(&id, "b").await.expect(201);
        let mut tenant = app(&bound).await.unwrap();
        tenant
            .execute(&format!("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, body VARCHAR(16000) CHARACTER SET latin1) {option}"))
            .await
            .unwrap();
        tenant.execute("INSERT INTO t (body) VALUES (REPEAT('x', 16000))").await.unwrap();
        for _ in 0..9 {
            tenant.execute("INSERT INTO t (body) SELECT body FROM t").await.unwrap();
        }
        let report = once(&bed);
        assert_eq!((&report["violators"], &report["failures"]), (&json!(1), &json!(0)), "{option} {report}");
        assert!(is_denied(&bound, "INSERT INTO t (body) VALUES ('x')").await, "{option}");
    }
}

#[tokio::test]
async fn no_name_hides_a_table() {
    let bed = Bed::new().await;
    let names = ["#sql-abc", "t#P#p0", "t#p#q", "a@002db", "FTS_mine", "é-Іk", "x/y", "☃.txt"];
    for (number, name) in names.iter().enumerate() {
        let id = format!("i{number}");
        bed.osb().provision(&id).await.expect(201);
        let bound = bed.osb().bind(&id, "b").await.expect(201);
        let mut tenant = app(&bound).await.unwrap();
        let create =
            format!("CREATE TABLE `{name}` (id INT AUTO_INCREMENT PRIMARY KEY, body LONGBLOB) STATS_PERSISTENT=1 STATS_AUTO_RECALC=0");
        tenant.execute(&create).await.unwrap();
        let insert = format!("INSERT INTO `{name}` (body) VALUES (REPEAT('x', 1048576))");
        for _ in 0..8 {
            tenant.execute(&insert).await.unwrap();
        }
        let report = once(&bed);
        assert_eq!((&report["violators"], &report["failures"]), (&json!(1), &json!(0)), "{name} {report}");
        tenant = app(&bound).await.unwrap();
        tenant.execute(&format!("TRUNCATE TABLE `{name}`")).await.unwrap();
        let report = once(&bed);
        assert_eq!((&report["reformers"], &report["failures"]), (&json!(1), &json!(0)), "{name} {report}");
    }
}

/// The lines of a process's log with this message.
fn said(process: &BrokerProcess, message: &str) -> Vec<Value> {
    let lines = process.output();
    lines.iter().filter(|line| line.contains(message)).filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[tokio::test]
async fn a_threshold_is_told_once_whoever_leads() {
    let bed = Bed::new().await;
    let (_, mut tenant) = instance_with_table(&bed, "i1").await;
    bed.change_settings(&json!({"quota_enforcer": {"warn_at": [40, 90]}}));
    let mut first = BrokerProcess::start("quota-enforcer", &bed.config);
    fill(&mut tenant, 3).await;
    analyse(&bed, &bed.database_of("i1").await, "t").await;
    first.wait_for("the warning", |line| line.contains("warning threshold").then_some(())).await;
    let lines = said(&first, "warning threshold");
    assert_eq!((lines.len(), &lines[0]["per_cent"]), (1, &json!(40)), "{lines:#?}");
    first.signal(rustix::process::Signal::KILL);
    let report = once(&bed);
    assert_eq!((&report["warned"], &report["rows"]["suspects"]), (&json!(0), &json!(1)), "it looks, and does not say it again: {report}");
    assert_eq!(bed.number("SELECT per_cent FROM quota_warnings").await, 40);
    tenant.execute("TRUNCATE TABLE t").await.unwrap();
    assert_eq!(once(&bed)["warned"], 0);
    assert_eq!(bed.number("SELECT COUNT(*) FROM quota_warnings").await, 0, "left: crossing it again is news");
    fill(&mut tenant, 3).await;
    analyse(&bed, &bed.database_of("i1").await, "t").await;
    assert_eq!(once(&bed)["warned"], 1);
}

#[tokio::test]
async fn an_operator_may_want_writes_to_come_back_later() {
    let bed = Bed::new().await;
    let (bound, mut tenant) = instance_with_table(&bed, "i1").await;
    fill(&mut tenant, 6).await;
    bed.change_settings(&json!({"quota_enforcer": {"minimum_dwell": 3600}}));
    once(&bed);
    let mut tenant = app(&bound).await.unwrap();
    tenant.execute("TRUNCATE TABLE t").await.unwrap();
    assert_eq!(once(&bed)["over"], 1, "not before the hour is over");
    bed.execute("UPDATE quota_violations SET since = since - INTERVAL 1 HOUR").await;
    assert_eq!(once(&bed)["reformers"], 1);
    assert!(!is_denied(&bound, MEGABYTE).await);
}

/// Deletes nine of ten rows: no page becomes empty.
async fn scattered(bed: &Bed, id: &str) -> Value {
    bed.osb().provision(id).await.expect(201);
    let bound = bed.osb().bind(id, "b").await.expect(201);
    let mut tenant = app(&bound).await.unwrap();
    tenant.execute("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, body VARCHAR(1000) CHARACTER SET latin1)").await.unwrap();
    tenant.execute("INSERT INTO t (body) VALUES (REPEAT('x', 1000))").await.unwrap();
    for _ in 0..13 {
        tenant.execute("INSERT INTO t (body) SELECT body FROM t").await.unwrap();
    }
    once(bed);
    let mut tenant = app(&bound).await.unwrap();
    tenant.execute("DELETE FROM t WHERE id % 10 > 0").await.unwrap();
    bound
}

#[tokio::test]
async fn reclaim_gives_scattered_space_back() {
    let bed = Bed::new().await;
    let bound = scattered(&bed, "i1").await;
    assert!(is_denied(&bound, "INSERT INTO t (body) VALUES ('x')").await);
    assert_eq!(once(&bed)["over"], 1, "deleting alone does not help");
    let arguments: [&std::ffi::OsStr; 5] =
        ["reclaim".as_ref(), "i1".as_ref(), "--json".as_ref(), "--config".as_ref(), bed.config.as_os_str()];
    let (code, stdout, stderr) = crate::support::broker::run(&arguments, &[]);
    assert_eq!(code, 0, "{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&report["tables"][0]["table"], &report["tables"][0]["left"]), (&json!("t"), &Value::Null), "{report}");
    assert!(report["before_mb"].as_f64() > Some(5.0) && report["after_mb"].as_f64() < Some(5.0), "{report}");
    assert_eq!(once(&bed)["reformers"], 1);
    assert!(!is_denied(&bound, "INSERT INTO t (body) VALUES ('x')").await);
}

#[tokio::test]
async fn reclaim_is_a_parameter_of_an_update() {
    let bed = Bed::new().await;
    let bound = scattered(&bed, "i1").await;
    let body = json!({"service_id": crate::support::bed::SERVICE, "parameters": {"reclaim": true}});
    bed.osb().patch(&instance("i1"), &body).await.expect(200);
    assert_eq!(once(&bed)["reformers"], 1);
    assert!(!is_denied(&bound, "INSERT INTO t (body) VALUES ('x')").await);
}

#[tokio::test]
async fn nothing_is_repeated_while_nothing_changes() {
    // a server of its own: its counters are this test's
    let server = own_server().await;
    let bed = Bed::on(&server, BedOptions::default()).await;
    let (_, mut tenant) = instance_with_table(&bed, "i1").await;
    fill(&mut tenant, 6).await;
    let enforcer = BrokerProcess::start("quota-enforcer", &bed.config);
    let analysed = async || {
        let (_, count): (String, String) =
            sqlx::query_as("SHOW GLOBAL STATUS LIKE 'Com_analyze'").fetch_one(&mut bed.root().await).await.expect("a counter");
        count
    };
    let passes = || said(&enforcer, "quota pass").len();
    let quiet = eventually("a few passes without statistics", async || {
        let (before, first) = (analysed().await, passes());
        eventually("three passes", async || (passes() >= first + 3).then_some(())).await;
        (analysed().await == before).then(|| said(&enforcer, "quota pass").split_off(first))
    })
    .await;
    let reports: Vec<Value> = quiet.iter().map(|line| serde_json::from_str(line["report"].as_str().unwrap()).unwrap()).collect();
    assert!(
        reports.iter().all(|report| report["over"] == 1 && report["sessions_ended"] == 0),
        "it is looked at all the same: {reports:#?}"
    );
    assert!(reports.iter().any(|report| report["scanned"] == false), "and nobody else: {reports:#?}");
}

#[tokio::test]
async fn alter_index_temporary_tables_views_and_routines_go_too() {
    let bed = Bed::new().await;
    let (bound, mut tenant) = instance_with_table(&bed, "i1").await;
    fill(&mut tenant, 6).await;
    analyse(&bed, &bed.database_of("i1").await, "t").await;
    naive(&bed).await;
    let kinds = async |name: &str| {
        let mut denied = Vec::new();
        for statement in [
            format!("ALTER TABLE t ADD COLUMN {name} INT"),
            format!("CREATE INDEX {name} ON t (id)"),
            format!("CREATE TEMPORARY TABLE {name} (id INT)"),
            format!("CREATE VIEW {name} AS SELECT 1"),
            format!("CREATE PROCEDURE {name}() SELECT 1"),
            format!("ALTER PROCEDURE {name} COMMENT 'x'"),
        ] {
            denied.push(is_denied(&bound, &statement).await);
        }
        denied
    };
    assert_eq!(kinds("naive").await, [false; 6], "the naive one takes INSERT, UPDATE and CREATE");
    once(&bed);
    assert_eq!(kinds("ours").await[..5], [true; 5]);
    assert!(is_denied(&bound, "ALTER PROCEDURE naive COMMENT 'y'").await, "who made it may alter it, by a right of its own");
}
