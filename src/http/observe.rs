//! Around every request: its identity on the answer, one line in the log, metrics, and JSON for whatever the framework refuses
//! by itself (OSB rows HI-1, HI-2, HC-1, ER-7).

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use actix_web::Error;
use actix_web::HttpMessage as _;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::web;
use futures_util::FutureExt as _;
use tracing::Instrument as _;

use super::Api;
use super::auth::Platform;
use super::error::{self, Failure};
use super::paths;
use crate::broker::AuditEntry;

const IDENTITY: HeaderName = HeaderName::from_static("x-broker-api-request-identity");
const PLATFORM_REQUEST: &str = "X-Vcap-Request-Id";
/// The longest identity that is echoed and logged.
const MAX_IDENTITY: usize = 256;

/// The middleware.
pub(super) async fn observe(
    api: web::Data<Api>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let started = Instant::now();
    let sent = visible(request.headers(), IDENTITY.as_str());
    let identity = sent.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let platform_request = visible(request.headers(), PLATFORM_REQUEST).unwrap_or_default();
    let originating = super::identity::read(request.headers());
    let method = request.method().clone();
    let (instance, binding) = paths::ids(request.uri().path());
    let (instance, binding) = (instance.map(|id| id.to_string()).unwrap_or_default(), binding.map(|id| id.to_string()).unwrap_or_default());
    let span = tracing::info_span!("request", request_identity = identity);

    let result = AssertUnwindSafe(next.call(request)).catch_unwind().instrument(span.clone()).await;
    let mut response = match result {
        Ok(Ok(response)) => response.map_into_boxed_body(),
        Ok(Err(error)) => return Err(error),
        Err(_) => {
            tracing::error!(parent: &span, "a request handler panicked");
            return Err(actix_web::error::InternalError::from_response("panic", with_identity(panicked(&identity), sent.as_deref())).into());
        }
    };
    response = in_json(response);
    let named = response.response().error().and_then(|error| error.as_error::<Failure>()).and_then(|failure| failure.naming(&identity));
    let named = named.map(|response| with_identity(response, sent.as_deref()));
    if let Some(value) = sent.as_deref().and_then(|sent| HeaderValue::from_str(sent).ok()) {
        response.headers_mut().insert(IDENTITY, value);
    }

    let status = response.status().as_u16();
    let route = response.request().match_pattern().unwrap_or_else(|| "unknown".to_owned());
    let platform = response.request().extensions().get::<Platform>().and_then(|platform| platform.0.clone()).unwrap_or_default();
    let failure = response.response().error().and_then(|error| error.as_error::<Failure>());
    let outcome = failure.map_or(if status < 400 { "ok" } else { "refused" }, |failure| failure.error().code().unwrap_or("refused"));
    let cause = failure.and_then(|failure| std::error::Error::source(failure.error())).map(ToString::to_string).unwrap_or_default();
    let duration = started.elapsed();
    metrics::counter!("cf_mysql_broker_requests_total", "route" => route.clone(), "status" => status.to_string()).increment(1);
    metrics::histogram!("cf_mysql_broker_request_seconds", "route" => route.clone()).record(duration.as_secs_f64());
    let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                parent: &span, %method, route, status, duration_ms, outcome, instance, binding, platform, user = originating.user, platform_request, cause, "request"
            )
        };
    }
    if let Some(verb) = changing_verb(&method, &binding)
        && route.starts_with("/v2/")
        && response.request().extensions().get::<Platform>().is_some()
    {
        api.broker.audit(AuditEntry {
            at: String::new(),
            verb: verb.to_owned(),
            instance: instance.clone(),
            binding: binding.clone(),
            status,
            outcome: outcome.to_owned(),
            platform: platform.clone(),
            identity: originating.json,
            request_identity: identity,
        });
    }
    match status {
        500.. if status != 507 => line!(error),
        _ if !route.starts_with("/v2") => line!(debug),
        _ => line!(info),
    }
    Ok(match named {
        Some(named) => response.into_response(named),
        None => response,
    })
}

/// What the audit trail calls a request that changes something.
fn changing_verb(method: &Method, binding: &str) -> Option<&'static str> {
    match (method.as_str(), binding.is_empty()) {
        ("PUT", true) => Some("provision"),
        ("PATCH", true) => Some("update"),
        ("DELETE", true) => Some("deprovision"),
        ("PUT", false) => Some("bind"),
        ("DELETE", false) => Some("unbind"),
        _ => None,
    }
}

/// The framework answers some faults (a body that is too large, a broken transfer) in plain text.
fn in_json(response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    let status = response.status();
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    if (!status.is_client_error() && !status.is_server_error()) || is_json {
        return response;
    }
    let description = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "The body is larger than 1 MiB.",
        _ if status.is_client_error() => "The request could not be read.",
        _ => "An internal error occurred. The operator finds the cause in the broker's log.",
    };
    response.into_response(error::refusal(status, description))
}

fn panicked(identity: &str) -> actix_web::HttpResponse {
    error::refusal(StatusCode::INTERNAL_SERVER_ERROR, &error::internal(identity))
}

fn with_identity(mut response: actix_web::HttpResponse, identity: Option<&str>) -> actix_web::HttpResponse {
    if let Some(value) = identity.and_then(|identity| HeaderValue::from_str(identity).ok()) {
        response.headers_mut().insert(IDENTITY, value);
    }
    response
}

/// A header of visible ASCII, not longer than [`MAX_IDENTITY`].
fn visible(headers: &HeaderMap, name: &str) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?;
    (!text.is_empty() && text.len() <= MAX_IDENTITY && text.bytes().all(|b| b.is_ascii_graphic())).then(|| text.to_owned())
}
