//! The whole story, against itself: each step says what it does and what it saw, and the end says whether all of it was as it
//! should be.

use std::time::{Duration, Instant};

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use super::Running;
use super::state::{ADMIN, PLANS, SERVICE_ID};
use crate::domain::credentials::Endpoint;
use crate::mysql::app_session::AppSession;
use crate::mysql::code;

/// How long a step may wait for the enforcer.
const PATIENCE: Duration = Duration::from_secs(60);
/// A row of the demonstration, in bytes.
const ROW: usize = 512 * 1024;

/// What a step did not do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unexpected(String);

type Step<T> = Result<T, Unexpected>;

/// Walks the story; true if every step did what it should. `aloud`: on stdout.
pub(super) async fn run(running: &Running, aloud: bool) -> bool {
    let story = Story { running, client: client(), aloud };
    let told = story.tell().await;
    if let Err(error) = &told {
        eprintln!("FAILED: {error}");
    }
    let cleaned = story.clean_up().await;
    if let Err(error) = &cleaned {
        eprintln!("FAILED to clean up: {error}");
    }
    let ok = told.is_ok() && cleaned.is_ok();
    if ok {
        story.say("\nEvery step did what it should.");
    }
    ok
}

fn client() -> Client {
    // plain HTTP to this machine only; the provider is asked for all the same
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::new()
}

struct Story<'a> {
    running: &'a Running,
    client: Client,
    aloud: bool,
}

impl Story<'_> {
    fn say(&self, text: &str) {
        if self.aloud {
            println!("{text}");
        }
    }

    async fn tell(&self) -> Step<()> {
        self.say(&format!("\n1. {} brokers share one {}. What do they sell?", self.running.brokers.len(), self.running.server_name));
        let (_, catalog) = self.osb(Method::GET, "/v2/catalog", None, StatusCode::OK).await?;
        let plans = catalog["services"][0]["plans"].as_array().map_or(0, Vec::len);
        expect(plans == PLANS.len(), || format!("{plans} plans in the catalog"))?;
        let names: Vec<_> = PLANS.iter().map(|(name, _, _)| *name).collect();
        self.say(&format!("   GET /v2/catalog: p-mysql with the plans {}.", names.join(", ")));

        self.say("\n2. cf create-service p-mysql 10mb demo-db");
        self.provision("demo-db", 0, StatusCode::CREATED).await?;
        self.provision("demo-db", 0, StatusCode::OK).await?;
        self.say("   201: a database of one's own. The same request again: 200, and still one database.");

        self.say("\n3. cf bind-service demo-app demo-db");
        let credentials = self.bind("demo-db", "demo-app", StatusCode::CREATED).await?;
        let again = self.bind("demo-db", "demo-app", StatusCode::OK).await?;
        expect(credentials == again, || "a repeated bind answered other credentials".to_owned())?;
        let mut app = App::new(credentials)?;
        app.session().await?;
        self.say(&format!(
            "   201: user {} on database {}. The same request again, at another broker: the same credentials.",
            app.user, app.database
        ));

        self.say("\n4. The app writes until it is over its 10 MB.");
        app.execute("CREATE TABLE notes (id INT AUTO_INCREMENT PRIMARY KEY, body LONGBLOB)").await?;
        let (rows, refusal) = self.write_until_refused(&mut app).await?;
        let refused_at = Instant::now();
        self.say(&format!("   After {} MB the enforcer takes the right to write: {refusal}.", rows * ROW / (1 << 20)));
        let kept = app.number("SELECT COUNT(*) FROM notes").await?;
        self.say(&format!("   Reading stays: all {kept} rows are there."));
        let fresh = self.bind("demo-db", "fresh-app", StatusCode::CREATED).await?;
        let mut fresh = App::new(fresh)?;
        expect(fresh.write().await?.is_err(), || "a binding made while over quota can write".to_owned())?;
        fresh.number("SELECT COUNT(*) FROM notes").await?;
        self.say("   A second binding, made now, can read and cannot write either.");

        self.say("\n5. The app deletes, and may write again.");
        app.execute("DELETE FROM notes").await?;
        self.write_until_accepted(&mut app).await?;
        self.write_until_accepted(&mut fresh).await?;
        self.say(&format!("   Both apps write again, {:.1} s after the first refusal.", refused_at.elapsed().as_secs_f64()));

        self.say("\n6. Sell the disk, all of it and no more.");
        let sold = self.sell_out().await?;
        self.say(&format!(
            "   {sold} more databases of 100 MB fit, one more is 507 InsufficientCapacity, and nothing of it is kept (DELETE: 410)."
        ));
        Ok(())
    }

    async fn clean_up(&self) -> Step<()> {
        self.say("\n7. cf unbind-service, cf delete-service");
        for id in ["fresh-app", "demo-app"] {
            self.delete(&format!("/v2/service_instances/demo-db/service_bindings/{id}"), 0).await?;
        }
        self.delete("/v2/service_instances/demo-db", 0).await?;
        for i in 0.. {
            if self.delete(&format!("/v2/service_instances/demo-sold-{i}"), 1).await? == StatusCode::GONE {
                break;
            }
        }
        self.say("   Everything is gone: databases, users, rows, and the room is free again.");
        Ok(())
    }

    async fn osb(&self, method: Method, path: &str, body: Option<Value>, expected: StatusCode) -> Step<(StatusCode, Value)> {
        let (status, answer) = self.ask(method.clone(), path, body).await?;
        expect(status == expected, || format!("{method} {path} answered {status} instead of {expected}: {}", answer["description"]))?;
        Ok((status, answer))
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Step<(StatusCode, Value)> {
        let failed = |error: reqwest::Error| Unexpected(format!("{path}: {}", error.without_url()));
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.running.url))
            .basic_auth(ADMIN, Some(self.running.state.admin_password()))
            .header("X-Broker-API-Version", "2.17")
            // each request on a connection of its own, so that the round robin shows
            .header("Connection", "close");
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        Ok((status, response.json().await.map_err(failed)?))
    }

    async fn provision(&self, id: &str, plan: usize, expected: StatusCode) -> Step<()> {
        self.osb(Method::PUT, &format!("/v2/service_instances/{id}"), Some(provision_body(plan)), expected).await?;
        Ok(())
    }

    async fn bind(&self, instance: &str, id: &str, expected: StatusCode) -> Step<Value> {
        let path = format!("/v2/service_instances/{instance}/service_bindings/{id}");
        let body = json!({"service_id": SERVICE_ID, "plan_id": PLANS[0].1, "bind_resource": {"app_guid": id}});
        Ok(self.osb(Method::PUT, &path, Some(body), expected).await?.1["credentials"].clone())
    }

    async fn delete(&self, path: &str, plan: usize) -> Step<StatusCode> {
        let path = format!("{path}?service_id={SERVICE_ID}&plan_id={}", PLANS[plan].1);
        let (status, answer) = self.ask(Method::DELETE, &path, None).await?;
        expect([StatusCode::OK, StatusCode::GONE].contains(&status), || {
            format!("DELETE {path} answered {status}: {}", answer["description"])
        })?;
        Ok(status)
    }

    /// How many rows went in, and what the server said to the next one.
    async fn write_until_refused(&self, app: &mut App) -> Step<(usize, String)> {
        let started = Instant::now();
        let mut rows = 0;
        while started.elapsed() < PATIENCE {
            match app.write().await? {
                Ok(()) => rows += 1,
                Err(refusal) => return Ok((rows, refusal)),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(Unexpected(format!("{rows} rows were written and no write was refused within {} s", PATIENCE.as_secs())))
    }

    async fn write_until_accepted(&self, app: &mut App) -> Step<()> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if app.write().await?.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(Unexpected(format!("writing was not given back within {} s", PATIENCE.as_secs())))
    }

    async fn sell_out(&self) -> Step<usize> {
        for sold in 0.. {
            let path = format!("/v2/service_instances/demo-sold-{sold}");
            let (status, answer) = self.ask(Method::PUT, &path, Some(provision_body(1))).await?;
            match status {
                StatusCode::CREATED => {}
                StatusCode::INSUFFICIENT_STORAGE => {
                    expect(answer["error"] == "InsufficientCapacity", || format!("507 with {answer}"))?;
                    let gone = self.delete(&path, 1).await?;
                    expect(gone == StatusCode::GONE, || format!("DELETE after a 507 answered {gone}"))?;
                    return Ok(sold);
                }
                _ => return Err(Unexpected(format!("PUT {path} answered {status}: {}", answer["description"]))),
            }
        }
        Ok(0)
    }
}

fn provision_body(plan: usize) -> Value {
    json!({"service_id": SERVICE_ID, "plan_id": PLANS[plan].1, "organization_guid": "demo-org", "space_guid": "demo-space"})
}

fn expect(ok: bool, otherwise: impl FnOnce() -> String) -> Step<()> {
    if ok { Ok(()) } else { Err(Unexpected(otherwise())) }
}

/// An app that reconnects when its session is ended.
struct App {
    endpoint: Endpoint,
    user: String,
    password: String,
    database: String,
    session: Option<AppSession>,
}

impl App {
    fn new(credentials: Value) -> Step<Self> {
        let text =
            |key: &str| credentials[key].as_str().map(str::to_owned).ok_or_else(|| Unexpected(format!("no '{key}' in the credentials")));
        let port =
            credentials["port"].as_u64().and_then(|port| u16::try_from(port).ok()).ok_or_else(|| Unexpected("no port".to_owned()))?;
        Ok(Self {
            endpoint: Endpoint { host: text("hostname")?, port },
            user: text("username")?,
            password: text("password")?,
            database: text("name")?,
            session: None,
        })
    }

    async fn session(&mut self) -> Step<&mut AppSession> {
        let session = match self.session.take() {
            Some(session) => session,
            None => AppSession::connect(&self.endpoint, &self.user, &self.password, &self.database)
                .await
                .map_err(|error| Unexpected(format!("the app cannot connect: {error}")))?,
        };
        Ok(self.session.insert(session))
    }

    /// One row; the refusal of the server, if it refuses. A session that was ended is begun anew.
    async fn write(&mut self) -> Step<Result<(), String>> {
        let statement = format!("INSERT INTO notes (body) VALUES (REPEAT(UUID(), {}))", ROW / 36);
        loop {
            match self.session().await?.execute(&statement).await {
                Ok(_) => return Ok(Ok(())),
                Err(error) if error.code() == Some(code::TABLE_ACCESS_DENIED) => return Ok(Err(error.to_string())),
                Err(error) if error.code().is_some() => return Err(Unexpected(error.to_string())),
                Err(_) => self.session = None,
            }
        }
    }

    async fn execute(&mut self, statement: &str) -> Step<u64> {
        self.again(async |session| session.execute(statement).await).await
    }

    async fn number(&mut self, query: &str) -> Step<i64> {
        self.again(async |session| session.number(query).await).await
    }

    async fn again<T>(&mut self, mut work: impl AsyncFnMut(&mut AppSession) -> crate::mysql::Result<T>) -> Step<T> {
        loop {
            match work(self.session().await?).await {
                Ok(done) => return Ok(done),
                Err(error) if error.code().is_some() => return Err(Unexpected(error.to_string())),
                Err(_) => self.session = None,
            }
        }
    }
}
