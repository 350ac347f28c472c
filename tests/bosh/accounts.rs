use cf_mysql_broker::mysql::operator_accounts::{self, OperatorAccounts};
use secrecy::SecretString;
use sqlx::AssertSqlSafe;

use crate::deployment::{Database, text};

async fn grants(database: &Database, account: &str) -> Vec<String> {
    let mut root = database.root().await;
    let grants: Vec<String> =
        sqlx::query_scalar(AssertSqlSafe(format!("SHOW GRANTS FOR '{account}'@'%'"))).fetch_all(&mut root).await.unwrap();
    // the order is the server's affair, and MariaDB shows the password's hash
    let mut grants: Vec<_> = grants.iter().map(|grant| grant.split(" IDENTIFIED BY").next().unwrap().to_owned()).collect();
    grants.sort();
    grants
}

#[tokio::test]
async fn the_job_makes_the_accounts_the_broker_is_tested_with_and_can_be_run_again() {
    let database = Database::start().await;
    let job = database.user_job("it's db", "it's \\ enforcer");
    job.succeed("cf-mysql-broker-user", "post-start");
    job.succeed("cf-mysql-broker-user", "post-start");
    let made = [grants(&database, "cf-mysql-broker").await, grants(&database, "quota-enforcer").await];
    for (user, password) in [("cf-mysql-broker", "it's db"), ("quota-enforcer", "it's \\ enforcer")] {
        crate::support::server::connect(&database.server.endpoint, user, password).await.unwrap_or_else(|error| panic!("{user}: {error}"));
    }

    let secret = |text: &str| SecretString::from(text.to_owned());
    let (root, broker, enforcer) = (secret(&database.server.root_password), secret("b"), secret("e"));
    let accounts =
        OperatorAccounts { broker: ("other-broker", &broker), enforcer: ("other-enforcer", &enforcer), database: "mysql_broker" };
    operator_accounts::create(&database.server.endpoint, &root, &accounts).await.unwrap();
    for (made, (ours, other)) in made.iter().zip([("cf-mysql-broker", "other-broker"), ("quota-enforcer", "other-enforcer")]) {
        let expected: Vec<_> = grants(&database, other).await.iter().map(|grant| grant.replace(other, ours)).collect();
        assert_eq!(made, &expected);
        assert!(made.iter().all(|grant| !grant.starts_with("GRANT ALL PRIVILEGES ON *.*")), "{made:#?}");
    }
}

#[tokio::test]
async fn without_a_server_the_job_says_so_and_fails() {
    let mut database = Database::start().await;
    let job = database.user_job("db", "enforcer");
    database.server.process.kill_hard().await;
    let script = job.path("jobs/cf-mysql-broker-user/bin/post-start");
    let patient = std::fs::read_to_string(&script).unwrap();
    std::fs::write(&script, patient.replace("SECONDS + 60", "SECONDS + 0")).unwrap();
    let output = job.script("cf-mysql-broker-user", "post-start");
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("does not answer") && !said.contains(&database.server.root_password), "{said}");
}
