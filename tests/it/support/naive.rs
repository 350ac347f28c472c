//! The yardstick: an enforcer as cf-mysql's, one GROUP BY over `information_schema.TABLES` joined with the privileges. It stands
//! here to show that the tests of `holes.rs` can fail, and what a pass used to cost. Nothing of the product uses it.

use sqlx::{AssertSqlSafe, MySqlConnection, Row as _};

/// What a naive pass is spared, so that a test shows one hole at a time.
#[derive(Debug, Clone, Copy)]
pub struct Naive {
    /// Sees grants with an escaped pattern: the reference never did.
    pub sees_escaped: bool,
    /// Ends sessions after it has revoked; false: it died in between.
    pub kills: bool,
}

impl Default for Naive {
    fn default() -> Self {
        Self { sees_escaped: true, kills: true }
    }
}

/// The statement a pass consists of: users, by their summed size, over (`>=`) or under (`<`) their largest quota.
fn query(compare: &str, has_writes: &str, sees_escaped: bool) -> String {
    let database = if sees_escaped { r"REPLACE(d.Db, '\\', '')" } else { "d.Db" };
    format!(
        "SELECT CAST(GROUP_CONCAT(DISTINCT d.Db) AS CHAR) AS pattern, CAST(GROUP_CONCAT(DISTINCT i.db_name) AS CHAR) AS name, \
         CAST(d.User AS CHAR) AS user FROM (SELECT DISTINCT Db, User, Host FROM mysql.db WHERE {has_writes}) d \
         JOIN service_instances i ON CONVERT(i.db_name USING utf8mb4) COLLATE utf8mb4_bin = CONVERT({database} USING utf8mb4) COLLATE utf8mb4_bin \
         LEFT JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = i.db_name \
         GROUP BY d.User HAVING ROUND(SUM(COALESCE(t.DATA_LENGTH + t.INDEX_LENGTH, 0)) / 1024 / 1024, 1) {compare} MAX(i.max_storage_mb)"
    )
}

/// One pass, by somebody with all rights and the broker's schema selected.
///
/// # Errors
/// The first statement that fails ends the pass.
pub async fn pass(root: &mut MySqlConnection, naive: Naive) -> sqlx::Result<usize> {
    let mut changed = 0;
    let violators = query(">=", "Insert_priv = 'Y' OR Update_priv = 'Y' OR Create_priv = 'Y'", naive.sees_escaped);
    for row in sqlx::raw_sql(AssertSqlSafe(violators)).fetch_all(&mut *root).await? {
        let (patterns, names, user): (String, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        for pattern in patterns.split(',') {
            // MySQL takes nothing where one of them is not held; the reference ended there
            let revoke = if super::is_mariadb() { "REVOKE" } else { "REVOKE IF EXISTS" };
            run(root, format!("{revoke} INSERT, UPDATE, CREATE ON {} FROM {user}@'%'", on(pattern))).await?;
            changed += 1;
        }
        for name in names.split(',').filter(|_| naive.kills) {
            let sessions = format!("SELECT CAST(ID AS UNSIGNED) FROM information_schema.PROCESSLIST WHERE DB = '{name}'");
            for session in sqlx::raw_sql(AssertSqlSafe(sessions)).fetch_all(&mut *root).await? {
                let _ = run(root, format!("KILL {}", session.try_get::<u64, usize>(0)?)).await;
            }
        }
    }
    let reformers = query("<", "Insert_priv = 'N' OR Update_priv = 'N' OR Create_priv = 'N'", naive.sees_escaped);
    for row in sqlx::raw_sql(AssertSqlSafe(reformers)).fetch_all(&mut *root).await? {
        let (patterns, user): (String, String) = (row.try_get(0)?, row.try_get(2)?);
        let read_only: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM read_only_users WHERE username = ?").bind(&user).fetch_one(&mut *root).await?;
        for pattern in patterns.split(',').filter(|_| read_only == 0) {
            run(root, format!("GRANT INSERT, UPDATE, CREATE ON {} TO {user}@'%'", on(pattern))).await?;
            changed += 1;
        }
    }
    Ok(changed)
}

/// The reference quoted neither names nor users; only what is escaped has to be quoted to be said at all.
fn on(pattern: &str) -> String {
    if pattern.contains('\\') { format!("`{pattern}`.*") } else { format!("{pattern}.*") }
}

async fn run(root: &mut MySqlConnection, statement: String) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(root).await.map(|_| ())
}
