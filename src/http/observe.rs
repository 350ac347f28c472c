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
use super::auth::Asking;
use super::error::{self, Failure};
use super::paths;
use crate::broker::AuditEntry;

const IDENTITY: HeaderName = HeaderName::from_static("x-broker-api-request-identity");
const PLATFORM_REQUEST: &str = "X-Vcap-Request-Id";
/// What the audit trail has for the status of an answer that nobody waited for.
const UNANSWERED: u16 = 499;
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
    let route = request.match_pattern().unwrap_or_else(|| "unknown".to_owned());
    let (instance, binding) = paths::ids(&route, request.uri().path());
    let span = tracing::info_span!("request", request_identity = identity);
    let asking = Asking::default();
    request.extensions_mut().insert(asking.clone());
    let mut audited = changing_verb(&method, &route).map(|verb| Audited {
        api: api.clone(),
        asking: asking.clone(),
        span: span.clone(),
        entry: AuditEntry {
            verb: verb.to_owned(),
            instance: instance.clone(),
            binding: binding.clone(),
            status: UNANSWERED,
            outcome: "unanswered".to_owned(),
            identity: originating.json,
            request_identity: identity.clone(),
            ..AuditEntry::default()
        },
    });
    let mut answered = |status: StatusCode, outcome: &str| {
        if let Some(mut audited) = audited.take() {
            (audited.entry.status, audited.entry.outcome) = (status.as_u16(), outcome.to_owned());
        }
    };

    let result = AssertUnwindSafe(next.call(request)).catch_unwind().instrument(span.clone()).await;
    let mut response = match result {
        Ok(Ok(response)) => response.map_into_boxed_body(),
        Ok(Err(error)) => {
            answered(error.as_response_error().status_code(), "refused");
            return Err(error);
        }
        Err(_) => {
            answered(StatusCode::INTERNAL_SERVER_ERROR, "refused");
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
    let platform = asking.get().and_then(|platform| platform.0.clone()).unwrap_or_default();
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
    answered(response.status(), outcome);
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
fn changing_verb(method: &Method, route: &str) -> Option<&'static str> {
    const INSTANCE: &str = "/v2/service_instances/{instance_id}";
    const BINDING: &str = "/v2/service_instances/{instance_id}/service_bindings/{binding_id}";
    match (method.as_str(), route) {
        ("PUT", INSTANCE) => Some("provision"),
        ("PATCH", INSTANCE) => Some("update"),
        ("DELETE", INSTANCE) => Some("deprovision"),
        ("PUT", BINDING) => Some("bind"),
        ("DELETE", BINDING) => Some("unbind"),
        _ => None,
    }
}

/// The entry of a request in the audit trail, written when this is dropped: with the answer, or, when the client resets its connection,
/// with the future that would have answered it. What was begun goes on then.
struct Audited {
    api: web::Data<Api>,
    asking: Asking,
    span: tracing::Span,
    entry: AuditEntry,
}

impl Drop for Audited {
    fn drop(&mut self) {
        // nobody without the broker's credentials changes anything
        let Some(platform) = self.asking.get() else { return };
        let mut entry = std::mem::take(&mut self.entry);
        entry.platform = platform.0.clone().unwrap_or_default();
        if entry.status == UNANSWERED {
            let AuditEntry { verb, instance, binding, platform, .. } = &entry;
            tracing::info!(parent: &self.span, verb, instance, binding, platform, "the client went away before it was answered");
        }
        self.api.broker.audit(entry);
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
