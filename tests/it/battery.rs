//! Every statement that can store bytes, as a tenant over its quota; and what must still work.

use crate::enforcer::{fill, instance_with_table, is_denied, once};
use crate::support::bed::app;
use crate::support::{Bed, is_mariadb};

/// Before the quota is crossed: something of every kind.
const OBJECTS: &[&str] = &[
    "CREATE TABLE small (id INT PRIMARY KEY, body TEXT, other INT, KEY (other))",
    "INSERT INTO small VALUES (1, 'x', 1), (2, 'y', 2)",
    "CREATE TABLE child (id INT PRIMARY KEY, small_id INT, FOREIGN KEY (small_id) REFERENCES small (id) ON UPDATE CASCADE ON DELETE SET NULL)",
    "INSERT INTO child VALUES (1, 1)",
    "CREATE TABLE parts (id INT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 2",
    "CREATE VIEW v AS SELECT id, body FROM small",
    "CREATE PROCEDURE store() INSERT INTO small VALUES (99, 'x', 1)",
    "CREATE PROCEDURE clean() DELETE FROM small WHERE id = 98",
    "CREATE FUNCTION f() RETURNS INT DETERMINISTIC RETURN 1",
    "CREATE TABLE log (id INT AUTO_INCREMENT PRIMARY KEY, body TEXT)",
    "CREATE TRIGGER copies AFTER DELETE ON parts FOR EACH ROW INSERT INTO log (body) VALUES (REPEAT('x', 1000))",
    "INSERT INTO parts VALUES (1)",
    "CREATE TABLE gone (id INT)",
    "CREATE VIEW gone_view AS SELECT 1",
    "CREATE TRIGGER gone_trigger AFTER DELETE ON log FOR EACH ROW SET @x = 1",
    "CREATE EVENT gone_event ON SCHEDULE EVERY 1 YEAR DO DELETE FROM log",
];

/// Whatever stores.
const STORES: &[&str] = &[
    "INSERT INTO t (body) VALUES ('x')",
    "INSERT INTO t (body) SELECT body FROM t",
    "INSERT INTO small VALUES (1, 'y', 1) ON DUPLICATE KEY UPDATE body = REPEAT('x', 60000)",
    "INSERT IGNORE INTO small VALUES (3, 'y', 1)",
    "INSERT DELAYED INTO small VALUES (3, 'y', 1)",
    "REPLACE INTO small VALUES (1, 'y', 1)",
    "UPDATE small SET body = REPEAT('x', 60000)",
    "UPDATE small JOIN child ON child.small_id = small.id SET body = 'yy'",
    "INSERT INTO v VALUES (4, 'y')",
    "UPDATE v SET body = 'yy'",
    "LOAD DATA LOCAL INFILE '/dev/null' INTO TABLE small",
    "CREATE TABLE more (id INT)",
    "CREATE TABLE more LIKE small",
    "CREATE TABLE more AS SELECT * FROM t",
    "CREATE OR REPLACE TABLE small (id INT)",
    "CREATE TEMPORARY TABLE more (id INT)",
    "CREATE TEMPORARY TABLE more ENGINE=InnoDB AS SELECT * FROM t",
    "ALTER TABLE small ADD COLUMN more LONGBLOB",
    "ALTER TABLE small ADD COLUMN more VARCHAR(1000) AS (REPEAT('x', 1000)) STORED",
    "ALTER TABLE small ADD INDEX (body(100))",
    "ALTER TABLE small ADD FULLTEXT INDEX (body)",
    "ALTER TABLE small ENGINE=InnoDB",
    "ALTER TABLE small ENGINE=MyISAM",
    "ALTER TABLE small COMMENT 'x'",
    "ALTER TABLE parts ADD PARTITION PARTITIONS 8",
    "ALTER TABLE small RENAME TO renamed",
    "RENAME TABLE small TO renamed",
    "CREATE INDEX more ON small (body(100))",
    "CREATE UNIQUE INDEX more ON small (id, other)",
    "OPTIMIZE TABLE small",
    "CREATE VIEW more AS SELECT 1",
    "CREATE OR REPLACE VIEW v AS SELECT REPEAT('x', 1000)",
    "ALTER VIEW v AS SELECT 1",
    "CREATE PROCEDURE more() SELECT 1",
    "CREATE FUNCTION more() RETURNS INT DETERMINISTIC RETURN 1",
    "ALTER PROCEDURE clean COMMENT 'xxxxxxxxxxxxxxxx'",
    "ALTER FUNCTION f COMMENT 'xxxxxxxxxxxxxxxx'",
    "CALL store()",
    "DELETE FROM parts",
    "CREATE DATABASE more",
    "SELECT 'x' INTO OUTFILE '/tmp/cf-mysql-broker-never'",
];

/// On MariaDB only.
const STORES_ON_MARIADB: &[&str] =
    &["CREATE SEQUENCE more", "INSERT INTO small VALUES (5, 'y', 1) RETURNING id", "SELECT NEXTVAL(numbers)"];
/// On MySQL only.
const STORES_ON_MYSQL: &[&str] = &[
    "CREATE TABLE more (id INT) TABLESPACE=innodb_system",
    "CREATE TABLESPACE more ADD DATAFILE 'more.ibd'",
    "ANALYZE TABLE small UPDATE HISTOGRAM ON body WITH 1000 BUCKETS",
    "ALTER TABLE small ALTER COLUMN other SET DEFAULT 5, ALGORITHM=INSTANT",
    "INSERT INTO small TABLE small",
];

/// What reads, deletes or runs.
const WORKS: &[&str] = &[
    "SELECT COUNT(*) FROM t",
    "SELECT * FROM v",
    "SHOW CREATE VIEW v",
    "SELECT f()",
    "CALL clean()",
    "DELETE FROM small WHERE id = 2",
    "DELETE FROM child",
    "DROP VIEW gone_view",
    "DROP TRIGGER gone_trigger",
    "DROP EVENT gone_event",
    "DROP TRIGGER copies",
    "DELETE FROM parts",
    "TRUNCATE TABLE log",
    "DROP TABLE gone",
    "ALTER TABLE parts TRUNCATE PARTITION p0",
];

#[tokio::test]
async fn nothing_stores_a_byte_over_quota() {
    let bed = Bed::new().await;
    let (bound, mut tenant) = instance_with_table(&bed, "i1").await;
    for statement in OBJECTS {
        tenant.execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    let own: &[&str] = if is_mariadb() {
        tenant.execute("CREATE SEQUENCE numbers").await.unwrap();
        STORES_ON_MARIADB
    } else {
        STORES_ON_MYSQL
    };
    fill(&mut tenant, 6).await;
    let report = once(&bed);
    assert_eq!(report["violators"], 1, "{report}");
    let mut stored = Vec::new();
    for statement in STORES.iter().chain(own) {
        if !is_refused(&bound, statement).await {
            stored.push(statement);
        }
    }
    assert!(stored.is_empty(), "{stored:#?}");
    for statement in WORKS {
        assert!(!is_refused(&bound, statement).await, "{statement}");
    }
    bed.execute(&format!("TRUNCATE TABLE `{}`.t", bed.database_of("i1").await)).await;
    once(&bed);
    for statement in ["UPDATE small SET body = 'y'", "CREATE TABLE more (id INT)", "CREATE INDEX more ON small (body(10))", "CALL store()"]
    {
        assert!(!is_denied(&bound, statement).await, "{statement}");
    }
}

/// Whether a new session is refused a statement: for lack of a right, or because this server has no such statement.
async fn is_refused(bound: &serde_json::Value, statement: &str) -> bool {
    let mut session = app(bound).await.expect("a session");
    match session.execute(statement).await {
        Ok(_) => false,
        Err(error) => {
            let text = error.to_string();
            let known = [
                "denied",
                "1044",
                "1142",
                "1143",
                "1227",
                "1370",
                "1064",
                "access",
                "4078",
                "not allowed",
                "disabled",
                "1045",
                "3948",
                "1148",
            ];
            assert!(known.iter().any(|word| text.contains(word)), "{statement}: {text}");
            true
        }
    }
}
