//! The broker's own schema: created, upgraded, or laid over the tables of a cf-mysql installation. Every file in
//! `migrations/` can be repeated, because DDL commits by itself; one process at a time runs them, under a lease that works on
//! MariaDB, MySQL and Galera (GET_LOCK does not, and sqlx's own lock is none on MariaDB).

use std::time::{Duration, Instant};

use sqlx::migrate::Migrator;
use sqlx::{Connection as _, MySqlConnection};

use super::transact::End;
use super::{Error, Mysql, Node, Result, code, quote};
use crate::domain::MB;
use crate::domain::names;

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// The lease of whoever migrates.
const LEASE: Duration = Duration::from_secs(30);
/// How long others wait for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a migration did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// Versions of the files that ran.
    pub applied: Vec<i64>,
    /// Instances of a cf-mysql installation that were given their reservation.
    pub adopted: u64,
    /// The counter before and after, where it had to be put right.
    pub counter: Option<(u64, u64)>,
}

/// Whether the schema is there, and not older than this program.
///
/// # Errors
/// [`Error::Unavailable`] says what to do about it.
pub(super) async fn check(connection: &mut MySqlConnection, database: &str) -> Result<()> {
    let query = format!("SELECT COALESCE(MAX(version), 0) FROM {}._sqlx_migrations WHERE success", quote::identifier(database));
    let found: i64 = match sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_one(connection).await {
        Ok(version) => version,
        Err(error) => match Error::doing("a look at the schema")(error) {
            Error::Server { code: code::NO_SUCH_TABLE, .. } => 0,
            Error::Unavailable(text) if text.contains(&code::UNKNOWN_DATABASE.to_string()) => 0,
            other => return Err(other),
        },
    };
    let wanted = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0);
    if found < wanted {
        return Err(Error::Unavailable(format!("the schema is at version {found} and this program needs {wanted}: run `migrate`")));
    }
    Ok(())
}

/// Brings the schema up to this program's version. Safe to run again, at once from several processes, and after a crash in
/// the middle. `per_instance_bytes`: what an instance reserves beside its plan.
///
/// # Errors
/// Whatever the server says; another process that migrates for more than two minutes.
pub async fn migrate(mysql: &Mysql, per_instance_bytes: u64) -> Result<Migrated> {
    let node = mysql.current();
    let mut connection = node.connect().await?;
    let database = quote::identifier(mysql.database());
    if !has_database(&mut connection, mysql.database()).await? {
        super::raw(&mut connection, format!("CREATE DATABASE IF NOT EXISTS {database} CHARACTER SET utf8mb4"))
            .await
            .map_err(Error::doing("CREATE DATABASE of the broker's own"))?;
    }
    super::raw(&mut connection, format!("USE {database}")).await.map_err(Error::doing("USE of the broker's own database"))?;
    let holder = names::random_hex(16);
    lock(&mut connection, &holder).await?;
    let done = tokio::select! {
        done = migrate_alone(&mut connection, mysql, per_instance_bytes) => done,
        () = keep_lock(node, mysql.database(), &holder) => Err(Error::Unavailable("the lock of the migration was lost".to_owned())),
    };
    if done.is_ok() {
        sqlx::query("UPDATE migration_lock SET until = UTC_TIMESTAMP(6) WHERE id = 1 AND holder = ?")
            .bind(&holder)
            .execute(&mut connection)
            .await
            .map_err(Error::doing("the lock of the migration"))?;
    }
    let _ = connection.close().await;
    done
}

async fn has_database(connection: &mut MySqlConnection, database: &str) -> Result<bool> {
    let found: i64 = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?)")
        .bind(database)
        .fetch_one(connection)
        .await
        .map_err(Error::doing("a look for the broker's own database"))?;
    Ok(found != 0)
}

async fn lock(connection: &mut MySqlConnection, holder: &str) -> Result<()> {
    let doing = Error::doing("the lock of the migration");
    super::raw(
        connection,
        "CREATE TABLE IF NOT EXISTS migration_lock (id TINYINT NOT NULL PRIMARY KEY, holder CHAR(32) CHARACTER SET ascii NOT NULL, \
         until DATETIME(6) NOT NULL) ENGINE=InnoDB; INSERT IGNORE INTO migration_lock (id, holder, until) VALUES (1, '', '1970-01-01 00:00:01')"
            .to_owned(),
    )
    .await
    .map_err(&doing)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let taken = sqlx::query(
            "UPDATE migration_lock SET holder = ?, until = UTC_TIMESTAMP(6) + INTERVAL ? SECOND WHERE id = 1 AND until <= UTC_TIMESTAMP(6)",
        )
        .bind(holder)
        .bind(LEASE.as_secs())
        .execute(&mut *connection)
        .await
        .map_err(&doing);
        match taken {
            Ok(done) if done.rows_affected() == 1 => return Ok(()),
            Ok(_) => {}
            Err(error) if error.is_transient() => {}
            Err(error) => return Err(error),
        }
        if Instant::now() > deadline {
            return Err(Error::Unavailable("another process has been migrating the schema for two minutes".to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Renews the lock until it is lost.
async fn keep_lock(node: &Node, database: &str, holder: &str) {
    let renew = format!(
        "UPDATE {}.migration_lock SET until = UTC_TIMESTAMP(6) + INTERVAL {} SECOND WHERE id = 1 AND holder = {}",
        quote::identifier(database),
        LEASE.as_secs(),
        quote::string(holder)
    );
    let mut last = Instant::now();
    while last.elapsed() < LEASE {
        tokio::time::sleep(LEASE / 3).await;
        let asked = Instant::now();
        let Ok(mut connection) = node.connect().await else { continue };
        match super::raw(&mut connection, renew.clone()).await {
            Ok(done) if done.rows_affected() == 1 => last = asked,
            Ok(_) => return,
            Err(_) => {}
        }
    }
}

async fn migrate_alone(connection: &mut MySqlConnection, mysql: &Mysql, per_instance_bytes: u64) -> Result<Migrated> {
    let before = applied(connection).await?;
    // a crash in the middle of a file leaves its row behind, not successful, and sqlx refuses to go on: every file can be repeated
    if before.iter().any(|(_, success)| !success) {
        tracing::warn!("a migration was interrupted earlier; it is repeated");
        super::raw(connection, "DELETE FROM _sqlx_migrations WHERE NOT success".to_owned())
            .await
            .map_err(Error::doing("the mending of a migration"))?;
    }
    let mut migrator = Migrator { migrations: MIGRATOR.migrations.clone(), ..Migrator::DEFAULT };
    // a newer version may have run its own files already: migrations only expand
    migrator.set_locking(false).set_ignore_missing(true);
    migrator.run_direct(None, connection, false).await.map_err(|error| match error {
        sqlx::migrate::MigrateError::Execute(error) | sqlx::migrate::MigrateError::ExecuteMigration(error, _) => {
            Error::doing("a migration")(error)
        }
        other => Error::Data(format!("migration: {other}")),
    })?;
    let was_applied = |version: i64| before.iter().any(|(applied, success)| *applied == version && *success);
    let applied = MIGRATOR.iter().map(|migration| migration.version).filter(|version| !was_applied(*version)).collect();
    let (adopted, counter) = settle_counter(mysql, per_instance_bytes).await?;
    Ok(Migrated { applied, adopted, counter })
}

async fn applied(connection: &mut MySqlConnection) -> Result<Vec<(i64, bool)>> {
    match sqlx::query_as("SELECT version, success FROM _sqlx_migrations")
        .fetch_all(connection)
        .await
        .map_err(Error::doing("a look at the schema"))
    {
        Err(error) if error.code() == Some(code::NO_SUCH_TABLE) => Ok(Vec::new()),
        other => other,
    }
}

/// Gives adopted instances their reservation and makes the counter what the rows say. Hands back how many were adopted, and the counter
/// before and after where it changed.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn settle_counter(mysql: &Mysql, per_instance_bytes: u64) -> Result<(u64, Option<(u64, u64)>)> {
    if is_settled(mysql).await? {
        return Ok((0, None));
    }
    mysql
        .transact("settle the counter", |mut transaction| async move {
            let doing = Error::doing("the counter");
            // the lock first: the sum is then read after everything that was committed before, and nothing is committed between
            let before: u64 = sqlx::query_scalar("SELECT reserved_bytes FROM capacity WHERE id = 1 FOR UPDATE")
                .fetch_one(&mut *transaction)
                .await
                .map_err(&doing)?;
            let adopted = sqlx::query("UPDATE service_instances SET reserved_bytes = max_storage_mb * ? + ? WHERE reserved_bytes = 0")
                .bind(MB)
                .bind(per_instance_bytes)
                .execute(&mut *transaction)
                .await
                .map_err(&doing)?
                .rows_affected();
            let sum: u64 = sqlx::query_scalar("SELECT CAST(COALESCE(SUM(reserved_bytes), 0) AS UNSIGNED) FROM service_instances")
                .fetch_one(&mut *transaction)
                .await
                .map_err(&doing)?;
            if sum == before {
                return Ok(End::Commit(transaction, (adopted, None)));
            }
            sqlx::query("UPDATE capacity SET reserved_bytes = ? WHERE id = 1")
                .bind(sum)
                .execute(&mut *transaction)
                .await
                .map_err(&doing)?;
            Ok(End::Commit(transaction, (adopted, Some((before, sum)))))
        })
        .await
}

/// One statement, so one moment: no lock is needed, and a start with many instances holds up nobody.
async fn is_settled(mysql: &Mysql) -> Result<bool> {
    mysql
        .repeat("check the counter", |mut connection| async move {
            let settled: i64 = sqlx::query_scalar(
                "SELECT (SELECT reserved_bytes FROM capacity WHERE id = 1) = COALESCE(SUM(reserved_bytes), 0) AND COALESCE(MIN(reserved_bytes), 1) > 0 \
                 FROM service_instances",
            )
            .fetch_one(&mut *connection)
            .await
            .map_err(Error::doing("the counter"))?;
            Ok(settled != 0)
        })
        .await
}
