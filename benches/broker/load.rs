//! Runs of one verb by many clients, and what came of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Barrier;

use crate::http::Http;
use crate::proc::Cpu;
use crate::raw::Raw;
use crate::rig::{CONTEXT, ORGANIZATION, PLAN, Rig, SERVICE, SPACE};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Provision,
    Bind,
    Unbind,
    Deprovision,
}

impl Verb {
    /// In the order in which they leave nothing behind.
    pub const ALL: [Self; 4] = [Self::Provision, Self::Bind, Self::Unbind, Self::Deprovision];

    pub fn name(self) -> &'static str {
        match self {
            Self::Provision => "provision",
            Self::Bind => "bind",
            Self::Unbind => "unbind",
            Self::Deprovision => "deprovision",
        }
    }

    pub fn expected(self) -> u16 {
        match self {
            Self::Provision | Self::Bind => 201,
            Self::Unbind | Self::Deprovision => 200,
        }
    }
}

/// An instance and its binding.
#[derive(Debug)]
pub struct Subject {
    pub instance: String,
    pub binding: String,
}

impl Subject {
    pub fn many(count: usize) -> Arc<Vec<Self>> {
        let new = || uuid::Uuid::new_v4().to_string();
        Arc::new((0..count).map(|_| Self { instance: new(), binding: new() }).collect())
    }
}

/// Who is asked.
#[derive(Clone)]
pub enum Target {
    Broker { rig: Arc<Rig>, port: u16 },
    Raw(Arc<Raw>),
}

/// One run of one verb.
pub struct Run {
    pub seconds: f64,
    pub latencies: Vec<Duration>,
    pub cpu: Cpu,
}

impl Run {
    #[expect(clippy::cast_precision_loss, reason = "thousands of requests")]
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.seconds
    }
}

/// What a client keeps between its requests.
enum Client {
    Broker(Http),
    Raw(sqlx::MySqlConnection),
}

impl Target {
    async fn client(&self) -> Client {
        match self {
            // a new connection for each run: the broker closes those that idle while the other side runs
            Self::Broker { port, .. } => Client::Broker(Http::connect(*port).await.expect("a connection")),
            Self::Raw(raw) => Client::Raw(raw.connection().await),
        }
    }

    async fn ask(&self, client: &mut Client, verb: Verb, subject: &Subject) {
        match (self, client) {
            (Self::Broker { rig, .. }, Client::Broker(http)) => {
                let (status, body) = http.send(&request(rig, verb, subject)).await.expect("an answer");
                assert_eq!(status, verb.expected(), "{verb:?}: {}", String::from_utf8_lossy(body));
            }
            (Self::Raw(raw), Client::Raw(connection)) => raw.run(connection, verb, subject).await,
            _ => unreachable!("a client of the other side"),
        }
    }

    /// One request, for the audit.
    pub async fn once(&self, verb: Verb, subject: &Subject) {
        let mut client = self.client().await;
        self.ask(&mut client, verb, subject).await;
        self.dismiss(client).await;
    }

    async fn dismiss(&self, client: Client) {
        if let (Self::Raw(raw), Client::Raw(connection)) = (self, client) {
            raw.give_back(connection).await;
        }
    }

    /// Each subject once, by so many clients: each takes the next one when its last is done.
    pub async fn run(&self, verb: Verb, clients: usize, subjects: &Arc<Vec<Subject>>, cpu: impl Fn() -> Cpu) -> Run {
        let next = Arc::new(AtomicUsize::new(0));
        let barrier = Arc::new(Barrier::new(clients + 1));
        let tasks: Vec<_> = (0..clients)
            .map(|_| {
                let (target, next, barrier, subjects) = (self.clone(), next.clone(), barrier.clone(), subjects.clone());
                tokio::spawn(async move {
                    let mut client = target.client().await;
                    barrier.wait().await;
                    let mut latencies = Vec::with_capacity(2 * subjects.len() / clients);
                    while let Some(subject) = subjects.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let started = Instant::now();
                        target.ask(&mut client, verb, subject).await;
                        latencies.push(started.elapsed());
                    }
                    target.dismiss(client).await;
                    latencies
                })
            })
            .collect();
        barrier.wait().await;
        let (started, before) = (Instant::now(), cpu());
        let mut latencies = Vec::with_capacity(subjects.len());
        for task in tasks {
            latencies.extend(task.await.expect("a client that came to its end"));
        }
        Run { seconds: started.elapsed().as_secs_f64(), latencies, cpu: cpu() - before }
    }
}

fn request(rig: &Rig, verb: Verb, subject: &Subject) -> Vec<u8> {
    let instance = format!("/v2/service_instances/{}", subject.instance);
    let binding = format!("{instance}/service_bindings/{}", subject.binding);
    let hints = format!("?service_id={SERVICE}&plan_id={PLAN}");
    match verb {
        Verb::Provision => {
            let body = format!(
                r#"{{"service_id":"{SERVICE}","plan_id":"{PLAN}","organization_guid":"{ORGANIZATION}","space_guid":"{SPACE}","context":{CONTEXT}}}"#
            );
            rig.request("PUT", &instance, &body)
        }
        Verb::Bind => {
            let body =
                format!(r#"{{"service_id":"{SERVICE}","plan_id":"{PLAN}","bind_resource":{{"app_guid":"app"}},"context":{CONTEXT}}}"#);
            rig.request("PUT", &binding, &body)
        }
        Verb::Unbind => rig.request("DELETE", &format!("{binding}{hints}"), ""),
        Verb::Deprovision => rig.request("DELETE", &format!("{instance}{hints}"), ""),
    }
}

/// The same request again and again by so many clients: answers per second.
pub async fn flood(port: u16, request: Vec<u8>, clients: usize, time: Duration) -> f64 {
    let (request, barrier) = (Arc::new(request), Arc::new(Barrier::new(clients + 1)));
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let (request, barrier) = (request.clone(), barrier.clone());
            tokio::spawn(async move {
                let mut http = Http::connect(port).await.expect("a connection");
                barrier.wait().await;
                let (started, mut answers) = (Instant::now(), 0_u32);
                while started.elapsed() < time {
                    let (status, body) = http.send(&request).await.expect("an answer");
                    assert_eq!(status, 200, "{}", String::from_utf8_lossy(body));
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    barrier.wait().await;
    let started = Instant::now();
    let mut answers = 0;
    for task in tasks {
        answers += task.await.expect("a client that came to its end");
    }
    f64::from(answers) / started.elapsed().as_secs_f64()
}
