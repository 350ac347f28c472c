//! The statements of each verb, in the broker's order, sent straight to the server. `audit` compares both sides' statements
//! in every run, so what stands here cannot drift away from `src/mysql` unseen.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cf_mysql_broker::domain::credentials::Endpoint;
use cf_mysql_broker::domain::names::{new_account_name, new_database_name, random_hex};
use cf_mysql_broker::domain::{ids::InstanceId, privileges};
use sqlx::mysql::{MySqlConnectOptions, MySqlQueryResult, MySqlRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, MySqlConnection, QueryBuilder, Row as _};
use tokio::sync::{Mutex, mpsc};

use crate::load::{Subject, Verb};
use crate::rig::{CONNECTION_LIMIT, CONTEXT, LEASE, ORGANIZATION, PLAN, PLAN_BYTES, PLAN_MB, SERVICE, SPACE};

/// The broker's account on the server, without the broker.
pub struct Raw {
    options: MySqlConnectOptions,
    mariadb: bool,
    sellable_bytes: u64,
    /// Connections of clients that are done, with their prepared statements.
    idle: Mutex<Vec<MySqlConnection>>,
    /// Transactions that were sent again after a deadlock.
    pub retries: AtomicU64,
    /// What is done, for the audit trail.
    trail: mpsc::UnboundedSender<Done>,
}

/// A verb that came to its end: verb, instance, binding.
type Done = (Verb, String, String);

/// A transaction again after a deadlock or a lock that was waited for too long, after a pause, as the broker does it.
macro_rules! repeat {
    ($raw:expr, $transaction:expr) => {
        loop {
            match $transaction.await {
                Err(error) if is_transient(&error) => {
                    $raw.retries.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(rand::random_range(1..=10))).await;
                }
                done => break done,
            }
        }
    };
}

macro_rules! select_binding {
    () => {
        "SELECT b.id, b.service_instance_id, b.guid, b.service_guid, b.plan_guid, b.app_guid, b.parameters, b.read_only, b.username, b.host, \
         b.secret_id, b.salt, b.state, b.op_id, b.predecessor_guid, b.is_expired OR COALESCE(b.expires_at <= UTC_TIMESTAMP(6), 0) AS is_expired, \
         DATE_FORMAT(b.expires_at, '%Y-%m-%dT%H:%i:%s.0Z') AS expires_at, DATE_FORMAT(b.renew_before, '%Y-%m-%dT%H:%i:%s.0Z') AS renew_before, \
         COALESCE(b.lease_until > UTC_TIMESTAMP(6), 0) AS lease_live FROM service_bindings b "
    };
}

fn is_transient(error: &sqlx::Error) -> bool {
    let number = error.as_database_error().and_then(|error| error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>());
    number.is_some_and(|error| [1205, 1213].contains(&error.number()))
}

impl Raw {
    pub fn new(server: &Endpoint, user: &str, password: &str, database: &str, mariadb: bool, sellable_bytes: u64) -> Self {
        let options = MySqlConnectOptions::new()
            .host(&server.host)
            .port(server.port)
            .username(user)
            .password(password)
            .database(database)
            .pipes_as_concat(false)
            .disable_statement_logging();
        let (trail, done) = mpsc::unbounded_channel();
        tokio::spawn(keep_auditing(options.clone(), done));
        Self { options, mariadb, sellable_bytes, idle: Mutex::default(), retries: AtomicU64::new(0), trail }
    }

    /// A connection as a client of this side keeps it, with the settings of the broker's sessions.
    pub async fn connection(&self) -> MySqlConnection {
        if let Some(connection) = self.idle.lock().await.pop() {
            return connection;
        }
        connect(&self.options).await
    }

    pub async fn give_back(&self, connection: MySqlConnection) {
        self.idle.lock().await.push(connection);
    }

    pub async fn run(&self, connection: &mut MySqlConnection, verb: Verb, subject: &Subject) {
        let done = match verb {
            Verb::Provision => self.provision(connection, &subject.instance).await,
            Verb::Bind => self.bind(connection, &subject.instance, &subject.binding).await,
            Verb::Unbind => self.unbind(connection, &subject.instance, &subject.binding).await,
            Verb::Deprovision => self.deprovision(connection, &subject.instance).await,
        };
        done.unwrap_or_else(|error| panic!("{verb:?}, raw: {error}"));
        let binding = if matches!(verb, Verb::Bind | Verb::Unbind) { subject.binding.clone() } else { String::new() };
        self.trail.send((verb, subject.instance.clone(), binding)).expect("somebody who writes the audit trail");
    }

    async fn provision(&self, connection: &mut MySqlConnection, id: &str) -> sqlx::Result<()> {
        let began = began(connection).await?;
        assert!(find_instance(connection, id).await?.is_none(), "the instance exists");
        let (op, database) = (random_hex(16), new_database_name(&InstanceId::from_stored(id.to_owned())));
        let row = repeat!(self, self.reserve(connection, id, &op, &database, &began))?;
        text(connection, format!("CREATE DATABASE IF NOT EXISTS `{database}` CHARACTER SET 'utf8mb4'")).await?;
        let ready = sqlx::query(
            "UPDATE service_instances SET state = 'ready', op_id = NULL, lease_until = NULL, updated_at = UTC_TIMESTAMP(6) WHERE id = ? AND op_id = ?",
        )
        .bind(row)
        .bind(&op)
        .execute(connection)
        .await?;
        assert_eq!(ready.rows_affected(), 1, "not marked ready");
        Ok(())
    }

    async fn reserve(&self, connection: &mut MySqlConnection, id: &str, op: &str, database: &str, began: &str) -> sqlx::Result<u64> {
        let mut transaction = connection.begin().await?;
        let row = sqlx::query(
            "INSERT INTO service_instances (guid, service_guid, plan_guid, max_storage_mb, db_name, organization_guid, space_guid, parameters, \
             context, maintenance_version, state, op_id, lease_until, reserved_bytes, created_at, updated_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'creating', ?, UTC_TIMESTAMP(6) + INTERVAL ? SECOND, ?, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6))",
        )
        .bind(id)
        .bind(SERVICE)
        .bind(PLAN)
        .bind(PLAN_MB)
        .bind(database)
        .bind(ORGANIZATION)
        .bind(SPACE)
        .bind(None::<String>)
        .bind(CONTEXT)
        .bind(None::<String>)
        .bind(op)
        .bind(LEASE)
        .bind(PLAN_BYTES)
        .execute(&mut *transaction)
        .await?
        .last_insert_id();
        assert!(!is_deleted_since(&mut transaction, id, "", began).await?, "it was deleted");
        let taken = sqlx::query("UPDATE capacity SET reserved_bytes = reserved_bytes + ? WHERE id = 1 AND reserved_bytes + ? <= ?")
            .bind(PLAN_BYTES)
            .bind(PLAN_BYTES)
            .bind(self.sellable_bytes)
            .execute(&mut *transaction)
            .await?;
        assert_eq!(taken.rows_affected(), 1, "no capacity");
        transaction.commit().await?;
        Ok(row)
    }

    async fn bind(&self, connection: &mut MySqlConnection, instance: &str, id: &str) -> sqlx::Result<()> {
        let began = began(connection).await?;
        let found = find_instance(connection, instance).await?.expect("an instance");
        let (instance_row, database): (i32, String) = (found.get("id"), found.get("db_name"));
        assert!(find_binding(connection, instance, id).await?.is_none(), "the binding exists");
        let (op, user, salt, password) = (random_hex(16), new_account_name(), random_hex(16), format!("p{}_0aA", random_hex(16)));
        let row = repeat!(self, begin_bind(connection, instance_row, (instance, id), (&op, &user, &salt), &began))?;
        let over: i64 = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM quota_violations WHERE db_name = ?)")
            .bind(&database)
            .fetch_one(&mut *connection)
            .await?;
        assert_eq!(over, 0, "over its quota");
        let rights = privileges::of_binding(false, true, false, self.mariadb).join(", ");
        let pattern = database.replace('_', "\\_");
        text(
            connection,
            format!(
                "CREATE USER IF NOT EXISTS '{user}'@'%' IDENTIFIED BY '{password}' WITH MAX_USER_CONNECTIONS {CONNECTION_LIMIT}; \
                 GRANT {rights} ON `{pattern}`.* TO '{user}'@'%'"
            ),
        )
        .await?;
        let ready = sqlx::query(
            "UPDATE service_bindings SET state = 'ready', op_id = NULL, lease_until = NULL, updated_at = UTC_TIMESTAMP(6) WHERE id = ? AND op_id = ?",
        )
        .bind(row)
        .bind(&op)
        .execute(&mut *connection)
        .await?;
        assert_eq!(ready.rows_affected(), 1, "not marked ready");
        assert!(find_binding(connection, instance, id).await?.is_some(), "no binding");
        Ok(())
    }

    async fn unbind(&self, connection: &mut MySqlConnection, instance: &str, id: &str) -> sqlx::Result<()> {
        let found = find_binding(connection, instance, id).await?.expect("a binding");
        let (row, user): (i64, String) = (found.get("id"), found.get("username"));
        let database: String = find_instance(connection, instance).await?.expect("an instance").get("db_name");
        let op = random_hex(16);
        let claimed = sqlx::query(
            "UPDATE service_bindings SET state = 'deleting', op_id = ?, lease_until = UTC_TIMESTAMP(6) + INTERVAL ? SECOND, \
             updated_at = UTC_TIMESTAMP(6) WHERE id = ? AND state = ? AND op_id <=> ? AND (lease_until IS NULL OR lease_until <= UTC_TIMESTAMP(6))",
        )
        .bind(&op)
        .bind(LEASE)
        .bind(row)
        .bind("ready")
        .bind(None::<String>)
        .execute(&mut *connection)
        .await?;
        assert_eq!(claimed.rows_affected(), 1, "not claimed");
        let definer = format!("{user}@%");
        let found: i64 = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = ? AND DEFINER = ?) \
             OR EXISTS (SELECT 1 FROM information_schema.EVENTS WHERE EVENT_SCHEMA = ? AND DEFINER = ?) \
             OR EXISTS (SELECT 1 FROM information_schema.VIEWS WHERE TABLE_SCHEMA = ? AND DEFINER = ?) \
             OR EXISTS (SELECT 1 FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = ? AND DEFINER = ?)",
        )
        .bind(&database)
        .bind(&definer)
        .bind(&database)
        .bind(&definer)
        .bind(&database)
        .bind(&definer)
        .bind(&database)
        .bind(&definer)
        .fetch_one(&mut *connection)
        .await?;
        assert_eq!(found, 0, "it is the definer of something");
        text(connection, format!("DROP USER IF EXISTS '{user}'@'%'")).await?;
        let sessions: Vec<(u64, String)> =
            sqlx::query_as("SELECT CAST(ID AS UNSIGNED), USER FROM information_schema.PROCESSLIST").fetch_all(&mut *connection).await?;
        assert!(sessions.iter().all(|(_, other)| *other != user), "somebody uses the account");
        repeat!(self, delete_binding(connection, row, &op, &database, &user, (instance, id)))
    }

    async fn deprovision(&self, connection: &mut MySqlConnection, id: &str) -> sqlx::Result<()> {
        let found = find_instance(connection, id).await?.expect("an instance");
        let (row, database): (i32, String) = (found.get("id"), found.get("db_name"));
        let op = random_hex(16);
        let claimed = repeat!(self, claim(connection, row, &op))?;
        assert_eq!(claimed.rows_affected(), 1, "not claimed");
        let bindings = sqlx::query(concat!(select_binding!(), "WHERE b.service_instance_id = ? ORDER BY b.id"))
            .bind(row)
            .fetch_all(&mut *connection)
            .await?;
        assert!(bindings.is_empty(), "it is bound");
        let retired = sqlx::query("SELECT username, host FROM retired_accounts WHERE service_instance_id = ?")
            .bind(row)
            .fetch_all(&mut *connection)
            .await?;
        assert!(retired.is_empty(), "an account of it is retired");
        let tables = sqlx::query("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_TYPE = 'BASE TABLE'")
            .bind(&database)
            .fetch_all(&mut *connection)
            .await?;
        assert!(tables.is_empty(), "it has tables");
        text(connection, format!("SET SESSION lock_wait_timeout = 20; DROP DATABASE IF EXISTS `{database}`")).await?;
        repeat!(self, release(connection, row, &op, &database, id))
    }
}

async fn begin_bind(
    connection: &mut MySqlConnection,
    instance_row: i32,
    (instance, id): (&str, &str),
    (op, user, salt): (&str, &str, &str),
    began: &str,
) -> sqlx::Result<u64> {
    let mut transaction = connection.begin().await?;
    let row = sqlx::query(
        "INSERT INTO service_bindings (service_instance_id, guid, service_guid, plan_guid, app_guid, parameters, read_only, username, host, \
         secret_id, salt, predecessor_guid, expires_at, renew_before, state, op_id, lease_until, created_at, updated_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, UTC_TIMESTAMP() + INTERVAL ? SECOND, UTC_TIMESTAMP() + INTERVAL ? SECOND, 'creating', ?, \
         UTC_TIMESTAMP(6) + INTERVAL ? SECOND, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6))",
    )
    .bind(instance_row)
    .bind(id)
    .bind(SERVICE)
    .bind(PLAN)
    .bind("app")
    .bind(None::<String>)
    .bind(false)
    .bind(user)
    .bind("%")
    .bind("first")
    .bind(salt)
    .bind(None::<String>)
    .bind(None::<u64>)
    .bind(None::<u64>)
    .bind(op)
    .bind(LEASE)
    .execute(&mut *transaction)
    .await?
    .last_insert_id();
    let noted = sqlx::query("UPDATE service_instances SET revision = revision + 1 WHERE id = ? AND state = 'ready'")
        .bind(instance_row)
        .execute(&mut *transaction)
        .await?;
    assert_eq!(noted.rows_affected(), 1, "the instance is not ready");
    assert!(!is_deleted_since(&mut transaction, instance, id, began).await?, "it was deleted");
    transaction.commit().await?;
    Ok(row)
}

async fn delete_binding(
    connection: &mut MySqlConnection,
    row: i64,
    op: &str,
    database: &str,
    user: &str,
    (instance, binding): (&str, &str),
) -> sqlx::Result<()> {
    let mut transaction = connection.begin().await?;
    let gone = sqlx::query("DELETE FROM service_bindings WHERE id = ? AND op_id = ?").bind(row).bind(op).execute(&mut *transaction).await?;
    assert_eq!(gone.rows_affected(), 1, "not deleted");
    for forget in [
        "DELETE FROM quota_revocations WHERE db_name = ? AND username = ? AND host = ? \
         AND NOT EXISTS (SELECT 1 FROM retired_accounts WHERE username = ? AND host = ?)",
        "DELETE FROM quota_object_revocations WHERE db_name = ? AND username = ? AND host = ? \
         AND NOT EXISTS (SELECT 1 FROM retired_accounts WHERE username = ? AND host = ?)",
    ] {
        sqlx::query(forget).bind(database).bind(user).bind("%").bind(user).bind("%").execute(&mut *transaction).await?;
    }
    note(&mut transaction, instance, binding, "unbind", "The service binding is deleted.").await?;
    note_deletion(&mut transaction, instance, binding).await?;
    transaction.commit().await
}

/// What is remembered of an operation whose row is gone.
async fn note(connection: &mut MySqlConnection, instance: &str, binding: &str, kind: &str, description: &str) -> sqlx::Result<()> {
    sqlx::query(
        "REPLACE INTO last_operations (instance_guid, binding_guid, kind, succeeded, description, update_repeatable, ended_at) \
         VALUES (?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(6))",
    )
    .bind(instance)
    .bind(binding)
    .bind(kind)
    .bind(true)
    .bind(description)
    .bind(false)
    .execute(connection)
    .await
    .map(drop)
}

/// When a request began, by the database's clock.
async fn began(connection: &mut MySqlConnection) -> sqlx::Result<String> {
    sqlx::query_scalar("SELECT DATE_FORMAT(UTC_TIMESTAMP(6) - INTERVAL ? SECOND, '%Y-%m-%d %H:%i:%s.%f')")
        .bind(0.0)
        .fetch_one(connection)
        .await
}

async fn is_deleted_since(connection: &mut MySqlConnection, instance: &str, binding: &str, began: &str) -> sqlx::Result<bool> {
    let found: i64 = sqlx::query_scalar(
        "SELECT ? < UTC_TIMESTAMP(6) - INTERVAL ? HOUR \
         OR EXISTS (SELECT 1 FROM deletions WHERE instance_guid = ? AND binding_guid IN ('', ?) AND answered_at >= ?)",
    )
    .bind(began)
    .bind(24)
    .bind(instance)
    .bind(binding)
    .bind(began)
    .fetch_one(connection)
    .await?;
    Ok(found != 0)
}

/// What keeps requests from before a DELETE from making anything after it.
async fn note_deletion(connection: &mut MySqlConnection, instance: &str, binding: &str) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO deletions (instance_guid, binding_guid, answered_at) VALUES (?, ?, UTC_TIMESTAMP(6)) \
         ON DUPLICATE KEY UPDATE answered_at = GREATEST(answered_at, UTC_TIMESTAMP(6))",
    )
    .bind(instance)
    .bind(binding)
    .execute(connection)
    .await
    .map(drop)
}

async fn claim(connection: &mut MySqlConnection, row: i32, op: &str) -> sqlx::Result<MySqlQueryResult> {
    sqlx::query(
            "UPDATE service_instances SET state = ?, op_id = ?, lease_until = UTC_TIMESTAMP(6) + INTERVAL ? SECOND, updated_at = UTC_TIMESTAMP(6) \
             WHERE id = ? AND state = ? AND op_id <=> ? AND (lease_until IS NULL OR lease_until <= UTC_TIMESTAMP(6)) \
             AND NOT EXISTS (SELECT 1 FROM service_bindings WHERE service_instance_id = service_instances.id AND lease_until > UTC_TIMESTAMP(6))",
        )
        .bind("deleting")
        .bind(op)
        .bind(LEASE)
        .bind(row)
        .bind("ready")
        .bind(None::<String>)
        .execute(connection)
        .await
}

async fn release(connection: &mut MySqlConnection, row: i32, op: &str, database: &str, id: &str) -> sqlx::Result<()> {
    let mut transaction = connection.begin().await?;
    let reserved: u64 = sqlx::query_scalar("SELECT reserved_bytes FROM service_instances WHERE id = ? AND op_id = ? FOR UPDATE")
        .bind(row)
        .bind(op)
        .fetch_one(&mut *transaction)
        .await?;
    sqlx::query("DELETE FROM service_instances WHERE id = ? AND op_id = ?").bind(row).bind(op).execute(&mut *transaction).await?;
    for forget in [
        "DELETE FROM quota_revocations WHERE db_name = ?",
        "DELETE FROM quota_object_revocations WHERE db_name = ?",
        "DELETE FROM quota_violations WHERE db_name = ?",
        "DELETE FROM quota_warnings WHERE db_name = ?",
    ] {
        sqlx::query(forget).bind(database).execute(&mut *transaction).await?;
    }
    note(&mut transaction, id, "", "deprovision", "The service instance is deleted.").await?;
    note_deletion(&mut transaction, id, "").await?;
    sqlx::query("UPDATE capacity SET reserved_bytes = IF(reserved_bytes >= ?, reserved_bytes - ?, 0) WHERE id = 1")
        .bind(reserved)
        .bind(reserved)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

async fn find_instance(connection: &mut MySqlConnection, id: &str) -> sqlx::Result<Option<MySqlRow>> {
    sqlx::query(
        "SELECT id, guid, service_guid, plan_guid, next_plan_guid, db_name, max_storage_mb, organization_guid, space_guid, parameters, context, \
         maintenance_version, state, op_id, COALESCE(lease_until > UTC_TIMESTAMP(6), 0) AS lease_live, reserved_bytes, \
         DATE_FORMAT(created_at, '%Y-%m-%dT%H:%i:%sZ') AS created_at FROM service_instances WHERE guid = ?",
    )
    .bind(id)
    .fetch_optional(connection)
    .await
}

async fn find_binding(connection: &mut MySqlConnection, instance: &str, id: &str) -> sqlx::Result<Option<MySqlRow>> {
    sqlx::query(concat!(select_binding!(), "JOIN service_instances i ON i.id = b.service_instance_id WHERE i.guid = ? AND b.guid = ?"))
        .bind(instance)
        .bind(id)
        .fetch_optional(connection)
        .await
}

/// With the settings of the broker's sessions.
async fn connect(options: &MySqlConnectOptions) -> MySqlConnection {
    let mut connection = options.connect().await.expect("a connection");
    connection
        .execute("SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'")
        .await
        .expect("a setting");
    // one of them is unknown to each server
    for setting in ["SET SESSION wsrep_sync_wait = 15", "SET SESSION information_schema_stats_expiry = 0"] {
        let _ = connection.execute(setting).await;
    }
    connection
}

/// The audit trail as the broker writes it: what was gathered in a tenth of a second, in one statement.
async fn keep_auditing(options: MySqlConnectOptions, mut done: mpsc::UnboundedReceiver<Done>) {
    const AT_ONCE: usize = 200;
    let (mut connection, mut entries) = (None, Vec::with_capacity(AT_ONCE));
    while done.recv_many(&mut entries, AT_ONCE).await > 0 {
        // not before the first entry: a broker makes the schema
        let connection = match &mut connection {
            Some(connection) => connection,
            none => none.insert(connect(&options).await),
        };
        if entries.len() < AT_ONCE {
            tokio::time::sleep(Duration::from_millis(100)).await;
            while entries.len() < AT_ONCE
                && let Ok(entry) = done.try_recv()
            {
                entries.push(entry);
            }
        }
        let mut query = QueryBuilder::new(
            "INSERT INTO audit_trail (at, verb, instance_guid, binding_guid, status, outcome, platform, identity, request_identity) ",
        );
        query.push_values(entries.drain(..), |mut row, (verb, instance, binding)| {
            row.push("UTC_TIMESTAMP(6)")
                .push_bind(verb.name())
                .push_bind(instance)
                .push_bind(binding)
                .push_bind(verb.expected())
                .push_bind("ok")
                .push_bind("")
                .push_bind("")
                .push_bind(uuid::Uuid::new_v4().to_string());
        });
        query.build().persistent(false).execute(&mut *connection).await.expect("entries of the audit trail");
    }
}

/// As the broker sends DDL: as text, never prepared.
async fn text(connection: &mut MySqlConnection, statement: String) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.map(drop)
}
