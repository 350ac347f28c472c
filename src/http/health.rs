//! What operators and their machines ask.

use std::sync::atomic::Ordering;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;

use super::{Api, auth};

const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// 200 while the process lives; asks nobody.
pub(super) async fn health() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "up"}))
}

/// 200, or 503 with the reasons; always within two seconds.
pub(super) async fn ready(api: web::Data<Api>) -> HttpResponse {
    let mut reasons = Vec::new();
    if api.draining.load(Ordering::Relaxed) {
        reasons.push("draining: the broker is being stopped".to_owned());
    }
    let broker = api.broker.clone();
    match api.to_the_end.run(async move { Ok(broker.check().await) }).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => reasons.push(error.to_string()),
        Err(error) => reasons.push(error.to_string()),
    }
    if reasons.is_empty() {
        HttpResponse::Ok().json(json!({"status": "ready"}))
    } else {
        HttpResponse::ServiceUnavailable().insert_header((header::RETRY_AFTER, 5)).json(json!({"status": "not ready", "reasons": reasons}))
    }
}

/// Prometheus.
pub(super) async fn metrics(api: web::Data<Api>, request: HttpRequest) -> HttpResponse {
    if is_refused(&api, &request) {
        return auth::unauthorized();
    }
    // figures of the database are read when somebody looks; without a database the others are shown all the same
    let broker = api.broker.clone();
    if let Err(error) = api.to_the_end.run(async move { broker.publish_figures().await }).await {
        tracing::debug!(%error, "no figures of the database for the metrics");
    }
    HttpResponse::Ok().content_type(PROMETHEUS_TEXT).body(api.metrics.render())
}

/// Version, build, API versions.
pub(super) async fn info(api: web::Data<Api>, request: HttpRequest) -> HttpResponse {
    if is_refused(&api, &request) {
        return auth::unauthorized();
    }
    HttpResponse::Ok().json(json!({
        "name": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "build": if cfg!(debug_assertions) { "debug" } else { "release" },
        "api_versions": {"oldest": "2.11", "newest": "2.17"},
    }))
}

fn is_refused(api: &Api, request: &HttpRequest) -> bool {
    let settings = api.broker.settings();
    settings.server.protect_operator_endpoints && auth::platform(&settings.server.credentials, request).is_none()
}

/// Prometheus, of a process without a broker.
pub(super) async fn bare_metrics(metrics: web::Data<PrometheusHandle>) -> HttpResponse {
    HttpResponse::Ok().content_type(PROMETHEUS_TEXT).body(metrics.render())
}
