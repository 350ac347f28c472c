//! What an app made works on after its binding is gone, and nobody can log in with what is left.

use cf_mysql_broker::mysql::app_session::AppSession;
use serde_json::Value;

use crate::support::bed::app;
use crate::support::{Bed, eventually};

/// A view, a procedure and a trigger of the first binding; its answer.
async fn with_objects(bed: &Bed) -> Value {
    bed.osb().provision("i1").await.expect(201);
    let bound = bed.osb().bind("i1", "maker").await.expect(201);
    let mut maker = app(&bound).await.unwrap();
    for statement in [
        "CREATE TABLE t (id INT PRIMARY KEY, copy INT)",
        "CREATE VIEW v AS SELECT id FROM t",
        "CREATE PROCEDURE p() INSERT INTO t (id) VALUES (100)",
        "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET NEW.copy = NEW.id",
    ] {
        maker.execute(statement).await.unwrap();
    }
    bound
}

async fn everything_works(session: &mut AppSession) {
    session.execute("DELETE FROM t").await.unwrap();
    session.execute("INSERT INTO t (id) VALUES (1)").await.expect("the trigger");
    session.execute("CALL p()").await.expect("the procedure");
    assert_eq!(session.number("SELECT COUNT(*) FROM v").await.expect("the view"), 2);
    assert_eq!(session.number("SELECT CAST(SUM(copy) AS SIGNED) FROM t").await.unwrap(), 101);
}

#[tokio::test]
async fn objects_outlive_the_binding_that_made_them() {
    let bed = Bed::new().await;
    let maker = with_objects(&bed).await;
    let user = maker["credentials"]["username"].as_str().unwrap();
    let mut other = app(&bed.osb().bind("i1", "other").await.expect(201)).await.unwrap();
    everything_works(&mut other).await;
    bed.osb().unbind("i1", "maker").await.expect(200);
    assert!(app(&maker).await.is_err(), "nobody can log in with it");
    everything_works(&mut other).await;
    assert_eq!(bed.number("SELECT COUNT(*) FROM retired_accounts").await, 1);
    // the id can be used again, for an account of its own
    let again = bed.osb().bind("i1", "maker").await.expect(201);
    assert_ne!(again["credentials"]["username"], user);

    bed.osb().deprovision("i1").await.expect(200);
    assert_eq!(bed.accounts(user).await, 0, "it goes with its instance");
    assert_eq!(bed.number("SELECT COUNT(*) FROM retired_accounts").await, 0);
}

#[tokio::test]
async fn a_retired_account_goes_with_its_last_object() {
    let mut bed = Bed::new().await;
    let maker = with_objects(&bed).await;
    let user = maker["credentials"]["username"].as_str().unwrap();
    let mut other = app(&bed.osb().bind("i1", "other").await.expect(201)).await.unwrap();
    bed.osb().unbind("i1", "maker").await.expect(200);
    for statement in ["DROP VIEW v", "DROP PROCEDURE p", "DROP TRIGGER g"] {
        assert_eq!(bed.accounts(user).await, 1, "before {statement}");
        other.execute(statement).await.unwrap();
    }
    // a broker looks when it starts, and every minute
    bed.start_broker().await;
    eventually("the account is dropped", async || (bed.accounts(user).await == 0).then_some(())).await;
    other.number("SELECT COUNT(*) FROM t").await.unwrap();
}

#[tokio::test]
async fn an_instance_with_objects_can_be_deleted() {
    let bed = Bed::new().await;
    let maker = with_objects(&bed).await;
    let user = maker["credentials"]["username"].as_str().unwrap();
    let database = bed.database_of("i1").await;
    // MySQL refuses to drop an account that objects name as their definer
    bed.osb().deprovision("i1").await.expect(200);
    assert_eq!((bed.accounts(user).await, bed.databases(&database).await), (0, 0));
}
