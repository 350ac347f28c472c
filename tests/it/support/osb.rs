//! A platform, as far as a broker sees one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

use super::bed::{ADMIN, PLAN_SMALL, SERVICE};

/// A client of one broker.
#[derive(Clone)]
pub struct Osb {
    client: Client,
    /// Where the broker is.
    pub url: String,
    /// The password of its user.
    pub password: String,
    /// What is sent as `X-Broker-API-Version`.
    pub version: &'static str,
    /// Where further requests go, in turn; empty: to `url`.
    others: Arc<Vec<String>>,
    next: Arc<AtomicUsize>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: reqwest::header::HeaderMap,
    /// JSON body; null where there is none.
    pub body: Value,
}

impl Answer {
    /// Asserts the status and hands back the body.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }
}

impl Osb {
    pub fn new(url: String, password: String) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { client: Client::new(), url, password, version: "2.17", others: Arc::default(), next: Arc::default() }
    }

    /// The same broker, asked with another version of the API.
    pub fn speaking(&self, version: &'static str) -> Self {
        Self { version, ..self.clone() }
    }

    /// Asks several brokers in turn, as a router does.
    pub fn in_turn(self, urls: Vec<String>) -> Self {
        Self { others: Arc::new(urls), ..self }
    }

    /// A request with everything a platform sends.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.bare(method, path).basic_auth(ADMIN, Some(&self.password)).header("X-Broker-API-Version", self.version)
    }

    /// A request with nothing.
    pub fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        let url = match self.others.as_slice() {
            [] => &self.url,
            urls => &urls[self.next.fetch_add(1, Ordering::Relaxed) % urls.len()],
        };
        self.client.request(method, format!("{url}{path}"))
    }

    pub async fn send(&self, request: RequestBuilder) -> Answer {
        self.try_send(request).await.expect("an answer")
    }

    pub async fn try_send(&self, request: RequestBuilder) -> reqwest::Result<Answer> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await?;
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("{status} is no JSON: {}", String::from_utf8_lossy(&bytes)))
        };
        Ok(Answer { status, headers, body })
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PUT, path).json(body)).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PATCH, path).json(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, &format!("{path}?service_id={SERVICE}&plan_id={PLAN_SMALL}"))).await
    }

    /// Provisions with the small plan.
    pub async fn provision(&self, id: &str) -> Answer {
        self.put(&instance(id), &provision_body(PLAN_SMALL)).await
    }

    /// Binds an app.
    pub async fn bind(&self, instance_id: &str, id: &str) -> Answer {
        self.put(&binding(instance_id, id), &bind_body()).await
    }

    pub async fn unbind(&self, instance_id: &str, id: &str) -> Answer {
        self.delete(&binding(instance_id, id)).await
    }

    pub async fn deprovision(&self, id: &str) -> Answer {
        self.delete(&instance(id)).await
    }
}

/// The path of an instance; the id is percent-encoded.
pub fn instance(id: &str) -> String {
    format!("/v2/service_instances/{}", encode(id))
}

/// The path of a binding; the ids are percent-encoded.
pub fn binding(instance_id: &str, id: &str) -> String {
    format!("{}/service_bindings/{}", instance(instance_id), encode(id))
}

fn encode(id: &str) -> String {
    percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC).to_string()
}

pub fn provision_body(plan: &str) -> Value {
    json!({"service_id": SERVICE, "plan_id": plan, "organization_guid": "o1", "space_guid": "s1"})
}

pub fn bind_body() -> Value {
    json!({"service_id": SERVICE, "plan_id": PLAN_SMALL, "bind_resource": {"app_guid": "a1"}})
}
