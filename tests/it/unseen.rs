//! Sizes that no view of the server tells, and figures that come late or never: what is not known changes nothing.

use std::time::Duration;

use cf_mysql_broker::domain::usage::Looked;
use cf_mysql_broker::mysql::Mysql;
use cf_mysql_broker::mysql::usage;
use cf_mysql_broker::settings::Settings;
use serde_json::{Value, json};

use crate::enforcer::{MEGABYTE, fill, instance_with_table, is_denied, once};
use crate::giving_back::with_one_account;
use crate::support::bed::app;
use crate::support::broker::run;
use crate::support::proxy::{Proxy, Weather};
use crate::support::{Bed, BedOptions, BrokerProcess, eventually, is_mariadb, own_server};

fn reclaim(bed: &Bed) -> Value {
    let arguments: [&std::ffi::OsStr; 5] =
        ["reclaim".as_ref(), "i1".as_ref(), "--json".as_ref(), "--config".as_ref(), bed.config.as_os_str()];
    let (code, stdout, stderr) = run(&arguments, &[]);
    assert_eq!(code, 0, "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

#[tokio::test]
async fn a_csv_table_counts_with_what_is_in_it() {
    let bed = Bed::new().await;
    let (bound, mut tenant) = instance_with_table(&bed, "i1").await;
    tenant.execute("CREATE TABLE c (id INT NOT NULL, body LONGTEXT NOT NULL) ENGINE=CSV").await.unwrap();
    for _ in 0..4 {
        tenant.execute("INSERT INTO c VALUES (1, REPEAT('x', 1048576))").await.unwrap();
    }
    let report = once(&bed);
    assert_eq!((&report["violators"], &report["failures"]), (&json!(0), &json!(0)), "4 of 5 MB: {report}");
    tenant.execute("INSERT INTO c VALUES (1, REPEAT('x', 1048576))").await.unwrap();
    let report = once(&bed);
    assert_eq!((&report["violators"], &report["failures"]), (&json!(1), &json!(0)), "{report}");
    assert!(is_denied(&bound, "INSERT INTO c VALUES (1, 'x')").await);
    app(&bound).await.unwrap().execute("TRUNCATE TABLE c").await.unwrap();
    let report = once(&bed);
    assert_eq!((&report["reformers"], &report["failures"]), (&json!(1), &json!(0)), "{report}");
}

#[tokio::test]
async fn rows_of_other_tables_are_not_counted_twice() {
    let bed = Bed::new().await;
    let (_, mut tenant) = instance_with_table(&bed, "i1").await;
    tenant.execute("CREATE TABLE part (id INT, body LONGTEXT) ENGINE=MyISAM").await.unwrap();
    for _ in 0..3 {
        tenant.execute("INSERT INTO part VALUES (1, REPEAT('x', 1048576))").await.unwrap();
    }
    tenant.execute("CREATE TABLE whole (id INT, body LONGTEXT) ENGINE=MERGE UNION=(part) INSERT_METHOD=LAST").await.unwrap();
    let report = once(&bed);
    assert_eq!((&report["violators"], &report["failures"]), (&json!(0), &json!(0)), "3 of 5 MB: {report}");
    for _ in 0..2 {
        tenant.execute("INSERT INTO whole VALUES (1, REPEAT('x', 1048576))").await.unwrap();
    }
    assert_eq!(once(&bed)["violators"], 1);
}

#[tokio::test]
async fn what_a_lock_hides_gives_no_rights_back() {
    // a server of its own: passes of other tests would meet the lock
    let server = own_server().await;
    let bed = Bed::on(&server, BedOptions::default()).await;
    let (bound, mut tenant) = instance_with_table(&bed, "i1").await;
    tenant.execute("CREATE TABLE c (id INT NOT NULL) ENGINE=CSV").await.unwrap();
    tenant.execute("CREATE TABLE m (id INT NOT NULL) ENGINE=MyISAM").await.unwrap();
    fill(&mut tenant, 6).await;
    assert_eq!(once(&bed)["violators"], 1);
    let database = bed.database_of("i1").await;
    for table in ["c", "m"] {
        let mut root = bed.root().await;
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("LOCK TABLES `{database}`.{table} WRITE"))).execute(&mut root).await.unwrap();
        app(&bound).await.unwrap().execute("TRUNCATE TABLE t").await.unwrap();
        let report = once(&bed);
        assert_eq!((&report["over"], &report["reformers"], &report["failures"]), (&json!(1), &json!(0), &json!(0)), "{table} {report}");
        assert!(is_denied(&bound, MEGABYTE).await);
        sqlx::raw_sql("UNLOCK TABLES").execute(&mut root).await.unwrap();
        assert_eq!(once(&bed)["reformers"], 1, "{table}");
        fill(&mut app(&bound).await.unwrap(), 6).await;
        assert_eq!(once(&bed)["violators"], 1);
    }
}

#[tokio::test]
async fn files_far_over_the_quota_count_whatever_is_free_in_them() {
    let bed = Bed::new().await;
    let (bound, mut tenant) = instance_with_table(&bed, "i1").await;
    fill(&mut tenant, 80).await;
    assert_eq!(once(&bed)["violators"], 1);
    let database = bed.database_of("i1").await;
    app(&bound).await.unwrap().execute("DELETE FROM t").await.unwrap();
    let query =
        format!("SELECT DATA_LENGTH < 5000000 FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{database}' AND TABLE_NAME = 't'");
    eventually("the rows are cleaned up", async || {
        bed.execute(&format!("ANALYZE TABLE `{database}`.t")).await;
        let set = if is_mariadb() { "DO 0" } else { "SET SESSION information_schema_stats_expiry = 0" };
        let mut root = bed.root().await;
        sqlx::raw_sql(set).execute(&mut root).await.unwrap();
        let is_small: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(query.clone())).fetch_one(&mut root).await.unwrap();
        (is_small == 1).then_some(())
    })
    .await;
    let report = once(&bed);
    assert_eq!((&report["over"], &report["failures"]), (&json!(1), &json!(0)), "80 MB of disk for 5 that were sold: {report}");
    assert!(is_denied(&bound, MEGABYTE).await);
    reclaim(&bed);
    assert_eq!(once(&bed)["reformers"], 1);
    assert!(!is_denied(&bound, MEGABYTE).await);
}

#[tokio::test]
async fn disk_that_is_reserved_counts_and_reclaim_gives_it_back() {
    if is_mariadb() {
        return;
    }
    let bed = Bed::new().await;
    let (bound, mut tenant) = instance_with_table(&bed, "i1").await;
    tenant.execute("CREATE TABLE large (id INT PRIMARY KEY) AUTOEXTEND_SIZE = 128M").await.unwrap();
    let report = once(&bed);
    assert_eq!((&report["violators"], &report["failures"]), (&json!(1), &json!(0)), "{report}");
    assert!(is_denied(&bound, MEGABYTE).await);
    reclaim(&bed);
    assert_eq!(once(&bed)["reformers"], 1);
    assert!(!is_denied(&bound, MEGABYTE).await);
}

#[tokio::test]
async fn a_database_of_many_tables_is_measured_in_instalments() {
    let bed = Bed::new().await;
    let (_, mut tenant) = instance_with_table(&bed, "i1").await;
    for number in 0..120 {
        tenant.execute(&format!("CREATE TABLE t{number} (id INT PRIMARY KEY)")).await.unwrap();
    }
    let (mysql, database) = enforcers(&bed).await;
    let before = usage::sizes(&mysql, &database).await.unwrap();
    let all = usage::exactly(&mysql, &database).await.unwrap();
    assert!(!all.is_unfinished && all.exact().at_least == all.exact().at_most);
    let (mut looked, mut looks, mut least) = (Looked::default(), 0, 0);
    loop {
        let some = usage::measure(&mysql, &database, before.clone(), looked, Some(Duration::ZERO)).await.unwrap();
        looks += 1;
        let exact = some.exact();
        assert!(exact.at_least > least && exact.at_most >= all.exact().at_most, "each look finds more: {exact:?}");
        (looked, least) = (some.looked, exact.at_least);
        if !some.is_unfinished {
            assert_eq!(exact, all.exact());
            break;
        }
        assert!(exact.at_least < exact.at_most, "and knows that it is not all: {exact:?}");
    }
    assert!(looks > 1);
}

#[tokio::test]
async fn tables_outside_the_view_are_measured_in_instalments_that_go_on_where_the_last_one_stopped() {
    let bed = Bed::new().await;
    let (_, mut tenant) = instance_with_table(&bed, "i1").await;
    for table in ["a", "b", "c"] {
        tenant.execute(&format!("CREATE TABLE {table} (id INT NOT NULL) ENGINE=CSV")).await.unwrap();
        tenant.execute(&format!("INSERT INTO {table} VALUES (1)")).await.unwrap();
    }
    let settings = Settings::load(Some(&bed.config), []).unwrap();
    let mysql = Mysql::new(&settings.enforcer_mysql());
    let database = bed.database_of("i1").await;
    let (mut looked, mut bytes) = (Looked::default(), Vec::new());
    loop {
        let some = usage::measure_outside(&mysql, &database, looked, Some(Duration::ZERO)).await.unwrap();
        bytes.push(some.sizes.outside_bytes(&some.looked));
        looked = some.looked;
        if !some.is_unfinished {
            break;
        }
    }
    let each = bytes[0];
    assert!(each > 0 && bytes == [each, 2 * each, 3 * each], "{bytes:?}");
}

#[tokio::test]
async fn the_programs_own_accounts_lose_nothing_whatever_was_granted_or_noted() {
    let bed = Bed::new().await;
    let (_, mut tenant) = instance_with_table(&bed, "i1").await;
    let database = bed.database_of("i1").await;
    let pattern = database.replace('_', "\\_");
    for account in [&bed.account, &bed.enforcer_account] {
        bed.execute(&format!("GRANT ALL ON `{pattern}`.* TO '{account}'@'%' WITH GRANT OPTION")).await;
    }
    fill(&mut tenant, 6).await;
    let note = format!(
        "INSERT INTO quota_revocations (db_name, pattern, username, host, privileges) VALUES ('{database}', '{}', '{}', '%', 'INSERT')",
        database.replace('_', "\\\\_"),
        bed.enforcer_account
    );
    // taken by an enforcer with other accounts: it is given back, and nobody's session is ended for it
    bed.execute(&note).await;
    let report = once(&bed);
    assert_eq!((&report["revoked"], &report["restored"], &report["sessions_ended"]), (&json!(1), &json!(1), &json!(1)), "{report}");
    bed.execute(&note).await;
    bed.execute(&format!("TRUNCATE TABLE `{database}`.t")).await;
    let report = once(&bed);
    assert_eq!((&report["reformers"], &report["failures"]), (&json!(1), &json!(0)), "{report}");
    let held = "SELECT COUNT(*) FROM mysql.db WHERE Insert_priv = 'Y'";
    for account in [&bed.account, &bed.enforcer_account] {
        assert_eq!(
            bed.number(&format!("{held} AND User = '{account}' AND Db = '{}'", database.replace('_', "\\\\_"))).await,
            1,
            "{account}"
        );
    }
}

#[tokio::test]
async fn an_enforcer_with_the_brokers_account_ends_neither() {
    let bed = with_one_account(&BedOptions { enforce: true, ..BedOptions::default() }).await;
    let (bound, mut tenant) = instance_with_table(&bed, "i1").await;
    bed.execute(&format!(
        "GRANT ALL ON `{}`.* TO '{}'@'%' WITH GRANT OPTION",
        bed.database_of("i1").await.replace('_', "\\_"),
        bed.account
    ))
    .await;
    fill(&mut tenant, 6).await;
    eventually("writing is taken", async || is_denied(&bound, MEGABYTE).await.then_some(())).await;
    bed.osb().provision("i2").await.expect(201);
    app(&bound).await.unwrap().execute("TRUNCATE TABLE t").await.unwrap();
    eventually("writing is given back", async || (!is_denied(&bound, MEGABYTE).await).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_never_comes_is_given_up() {
    let server = own_server().await;
    let bed = Bed::on(&server, BedOptions::default()).await;
    let proxy = Proxy::start(&bed.server).await;
    let (bound, mut tenant) = instance_with_table(&bed, "i1").await;
    // once with TLS: from then on MySQL knows the account's password by heart
    once(&bed);
    fill(&mut tenant, 6).await;
    bed.change_settings(&json!({"mysql": {"hosts": [format!("127.0.0.1:{}", proxy.port)], "tls": {"mode": "disabled"}}}));
    proxy.turn(Weather::HangAt("SHOW GLOBAL STATUS"));
    let mut enforcer = BrokerProcess::start("quota-enforcer", &bed.config);
    enforcer.wait_for("the look is given up", |line| line.contains("counters took more than").then_some(())).await;
    eventually("writing is taken", async || is_denied(&bound, MEGABYTE).await.then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_keeps_statistics_from_being_made_counts_by_files() {
    let server = own_server().await;
    let bed = Bed::on(&server, BedOptions::default()).await;
    let proxy = Proxy::start(&bed.server).await;
    let (bound, mut tenant) = instance_with_table(&bed, "i1").await;
    // once with TLS: from then on MySQL knows the account's password by heart
    once(&bed);
    fill(&mut tenant, 6).await;
    bed.change_settings(&json!({"mysql": {"hosts": [format!("127.0.0.1:{}", proxy.port)], "tls": {"mode": "disabled"}}}));
    // stands for a table whose owner makes that take minutes, which takes gigabytes
    proxy.turn(Weather::HangAt("ANALYZE NO_WRITE_TO_BINLOG"));
    let report = once(&bed);
    assert_eq!((&report["violators"], &report["failures"]), (&json!(1), &json!(0)), "{report}");
    assert!(is_denied(&bound, MEGABYTE).await);
}

#[tokio::test]
async fn one_list_of_files_serves_all_suspects_of_a_pass() {
    // a server of its own: its log is counted
    let server = own_server().await;
    let bed = Bed::on(&server, BedOptions::default()).await;
    for number in 0..5 {
        let (_, mut tenant) = instance_with_table(&bed, &format!("i{number}")).await;
        fill(&mut tenant, 6).await;
        // the file stays as it is: a suspect for ever, and never over
        tenant.execute("DELETE FROM t").await.unwrap();
    }
    eventually("the server has cleaned up behind it", async || (once(&bed)["over"] == 0).then_some(())).await;
    bed.execute("SET GLOBAL log_output = 'TABLE'").await;
    bed.execute("SET GLOBAL general_log = ON").await;
    let report = once(&bed);
    bed.execute("SET GLOBAL general_log = OFF").await;
    assert_eq!((&report["suspects"], &report["over"]), (&json!(5), &json!(0)), "{report}");
    let lists = "SELECT COUNT(*) FROM mysql.general_log WHERE CONVERT(argument USING utf8mb4) LIKE 'SELECT NAME, %TABLESPACES%' \
                 AND command_type = 'Execute'";
    let lists = bed.number(lists).await;
    // one of everybody, one when their tables have been asked for; on MySQL one more that looks for other engines
    assert!((1..=3).contains(&lists), "{lists}");
}

/// The enforcer's view of an instance.
async fn enforcers(bed: &Bed) -> (Mysql, String) {
    (Mysql::new(&Settings::load(Some(&bed.config), []).unwrap().enforcer_mysql()), bed.database_of("i1").await)
}

#[tokio::test]
async fn what_is_dropped_while_it_is_looked_at_does_not_count() {
    let bed = Bed::new().await;
    let (_, mut tenant) = instance_with_table(&bed, "i1").await;
    fill(&mut tenant, 3).await;
    let (mysql, database) = enforcers(&bed).await;
    let before = usage::sizes(&mysql, &database).await.unwrap();
    tenant.execute("DROP TABLE t").await.unwrap();
    let gone = usage::measure(&mysql, &database, before.clone(), Looked::default(), None).await.unwrap();
    assert_eq!((gone.exact().at_least, gone.exact().at_most), (0, 0), "{gone:?}");
    // and made anew, with a lock on it
    tenant.execute("CREATE TABLE t (id INT)").await.unwrap();
    let mut root = bed.root().await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("LOCK TABLES `{database}`.t WRITE"))).execute(&mut root).await.unwrap();
    let anew = usage::measure(&mysql, &database, before, Looked::default(), None).await.unwrap();
    assert!(anew.exact().at_most < 1 << 20 && !anew.looked.blocked.is_empty(), "{anew:?}");
}

#[tokio::test]
async fn a_table_that_changes_its_name_while_it_is_looked_at_is_looked_at() {
    let bed = Bed::new().await;
    let (_, mut tenant) = instance_with_table(&bed, "i1").await;
    tenant.execute("CREATE TABLE m (id INT NOT NULL) ENGINE=MyISAM").await.unwrap();
    let (mysql, database) = enforcers(&bed).await;
    let before = usage::sizes(&mysql, &database).await.unwrap();
    tenant.execute("RENAME TABLE m TO n, t TO u").await.unwrap();
    let measured = usage::measure(&mysql, &database, before, Looked::default(), None).await.unwrap();
    let exact = measured.exact();
    assert!(!exact.is_hidden && exact.at_least == exact.at_most, "{measured:?}");
    assert!(["n", "u"].iter().all(|name| measured.looked.analysed.contains(*name)), "{measured:?}");
}

#[tokio::test]
async fn a_lock_is_a_lock_in_any_language() {
    // a server of its own: passes of other tests would meet the lock
    let server = own_server().await;
    let bed = Bed::on(&server, BedOptions::default()).await;
    let (_, mut tenant) = instance_with_table(&bed, "i1").await;
    tenant.execute("CREATE TABLE m (id INT NOT NULL) ENGINE=MyISAM").await.unwrap();
    let mut root = bed.root().await;
    let (mysql, database) = enforcers(&bed).await;
    let lock = format!("SET GLOBAL lc_messages = 'de_DE'; LOCK TABLES `{database}`.m WRITE");
    sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut root).await.unwrap();
    assert!(usage::exactly(&mysql, &database).await.unwrap().exact().is_hidden);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_is_given_up_when_the_server_falls_silent() {
    let server = own_server().await;
    let bed = Bed::on(&server, BedOptions::default()).await;
    let proxy = Proxy::start(&bed.server).await;
    let (_, mut tenant) = instance_with_table(&bed, "i1").await;
    fill(&mut tenant, 3).await;
    let database = bed.database_of("i1").await;
    let mut root = bed.root().await;
    let config = bed.config.clone();
    let hosts = format!("[\"127.0.0.1:{}\"]", proxy.port);
    // the rebuild waits two seconds for it: long enough to see it, and to cut the line
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("LOCK TABLES `{database}`.t READ"))).execute(&mut root).await.unwrap();
    let reclaiming = tokio::task::spawn_blocking(move || {
        let arguments: [&std::ffi::OsStr; 4] = ["reclaim".as_ref(), "i1".as_ref(), "--config".as_ref(), config.as_os_str()];
        run(&arguments, &[("CF_MYSQL_BROKER__MYSQL__HOSTS", &hosts), ("CF_MYSQL_BROKER__MYSQL__TLS__MODE", "disabled")])
    });
    let query = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'ALTER TABLE%'";
    eventually("the rebuild waits", async || (bed.number(query).await > 0).then_some(())).await;
    proxy.turn(Weather::Silent);
    let (code, _, stderr) = reclaiming.await.unwrap();
    assert_ne!(code, 0, "{stderr}");
    assert!(stderr.contains("silent"), "{stderr}");
}
