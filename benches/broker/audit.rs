//! Compares what both sides really send, by the server's general log: the raw side must send the broker's statements, and
//! pings between them would be the broker's own.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::{AssertSqlSafe, MySqlConnection};

use crate::load::{Subject, Target, Verb};
use crate::rig::Rig;

/// The audit trail is written behind the answers: after so long nothing more is sent.
const SETTLED: Duration = Duration::from_millis(500);

/// What one request of a verb sends.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    pub statements: Vec<String>,
    pub pings: usize,
}

/// Both sides of a verb.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    pub broker: Sent,
    pub raw: Sent,
}

impl Audit {
    pub fn is_same(&self) -> bool {
        self.broker.statements == self.raw.statements
    }
}

/// Sends every verb once by each side, with everything prepared already.
pub async fn audit(rig: &Rig, broker: &Target, raw: &Target) -> BTreeMap<&'static str, Audit> {
    let mut root = rig.root().await;
    execute(&mut root, "SET GLOBAL log_output = 'TABLE'").await;
    let subjects = Subject::many(2);
    tokio::time::sleep(SETTLED).await;
    let mut found = BTreeMap::new();
    for verb in Verb::ALL {
        let mut both = Vec::new();
        for (target, subject) in [broker, raw].into_iter().zip(subjects.iter()) {
            execute(&mut root, "TRUNCATE TABLE mysql.general_log").await;
            execute(&mut root, "SET GLOBAL general_log = ON").await;
            target.once(verb, subject).await;
            tokio::time::sleep(SETTLED).await;
            execute(&mut root, "SET GLOBAL general_log = OFF").await;
            both.push(sent(&mut root).await);
        }
        let raw = both.pop().unwrap_or_default();
        found.insert(verb.name(), Audit { broker: both.pop().unwrap_or_default(), raw });
    }
    execute(&mut root, "SET GLOBAL log_output = DEFAULT").await;
    found
}

async fn execute(root: &mut MySqlConnection, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(root).await.expect("a statement of root");
}

async fn sent(root: &mut MySqlConnection) -> Sent {
    let query = "SELECT CAST(command_type AS CHAR), CONVERT(argument USING utf8mb4) FROM mysql.general_log WHERE user_host LIKE 'broker[%' OR user_host LIKE '[broker]%'";
    let rows: Vec<(String, String)> = sqlx::query_as(query).fetch_all(root).await.expect("the general log");
    let mut sent = Sent::default();
    for (command, text) in rows {
        match command.as_str() {
            "Ping" => sent.pings += 1,
            "Query" | "Execute" if !is_of_the_background(&text) => sent.statements.push(shape(&text)),
            _ => {}
        }
    }
    sent
}

/// What the broker does by itself: the sweep, the figures of capacity, the settings of a new session.
fn is_of_the_background(statement: &str) -> bool {
    (statement.starts_with("SET ") && !statement.contains(';')) || statement.contains("LIMIT 100") || statement.contains("@@")
}

/// A statement without its values.
fn shape(statement: &str) -> String {
    let (mut shape, mut characters) = (String::with_capacity(statement.len()), statement.chars().peekable());
    while let Some(character) = characters.next() {
        match character {
            '\'' | '`' => {
                while characters.next().is_some_and(|next| next != character) {}
                shape.push('?');
            }
            '0'..='9' | '.' => {
                while characters.next_if(|next| next.is_ascii_digit() || *next == '.').is_some() {}
                shape.push('?');
            }
            other => shape.push(other),
        }
    }
    // a NULL stands where a text may stand
    shape.replace("NULL", "?")
}
