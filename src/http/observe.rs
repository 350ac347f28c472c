//! Around every request: its identity on the answer, one line in the log, metrics, and JSON for whatever the framework refuses
//! by itself (OSB rows HI-1, HI-2, HC-1, ER-7).

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use actix_web::Error;
use actix_web::HttpMessage as _;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use futures_util::FutureExt as _;
use tracing::Instrument as _;

use super::auth::Platform;
use super::error::{self, Failure};
use super::paths;

const IDENTITY: HeaderName = HeaderName::from_static("x-broker-api-request-identity");
const ORIGINATING: &str = "X-Broker-API-Originating-Identity";
const PLATFORM_REQUEST: &str = "X-Vcap-Request-Id";
/// The longest identity that is echoed and logged.
const MAX_IDENTITY: usize = 256;

/// The middleware.
pub(super) async fn observe(request: ServiceRequest, next: Next<impl MessageBody + 'static>) -> Result<ServiceResponse<BoxBody>, Error> {
    let started = Instant::now();
    let sent = visible(request.headers(), IDENTITY.as_str());
    let identity = sent.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let platform_request = visible(request.headers(), PLATFORM_REQUEST).unwrap_or_default();
    let user = originating_user(request.headers()).unwrap_or_default();
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
                parent: &span, %method, route, status, duration_ms, outcome, instance, binding, platform, user, platform_request, cause, "request"
            )
        };
    }
    match status {
        500.. if status != 507 => line!(error),
        _ if !route.starts_with("/v2") => line!(debug),
        _ => line!(info),
    }
    Ok(response)
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
    error::refusal(
        StatusCode::INTERNAL_SERVER_ERROR,
        &format!("An internal error occurred. The operator finds it in the broker's log under {identity}."),
    )
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

/// Who is behind a request, for the log: `user_id` of Cloud Foundry, `username` of Kubernetes (OSB API 2.17, "Originating
/// Identity"). An identity that cannot be read never fails a request.
fn originating_user(headers: &HeaderMap) -> Option<String> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let text = headers.get(ORIGINATING)?.to_str().ok()?;
    let (_, value) = text.split_once(' ')?;
    let value = value.trim();
    let engines = [GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT), GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT)];
    let decoded = engines
        .iter()
        .find_map(|engine| engine.decode(value).ok())
        .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    let Some(identity) = decoded else {
        tracing::warn!("the header 'X-Broker-API-Originating-Identity' could not be read");
        return Some("unparsable".to_owned());
    };
    let user = ["user_id", "username"].iter().find_map(|key| identity.get(key)?.as_str())?;
    Some(user.chars().filter(|c| !c.is_control()).take(MAX_IDENTITY).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("x-broker-api-originating-identity"), HeaderValue::from_str(value).unwrap());
        originating_user(&headers)
    }

    #[test]
    fn identities_in_every_base64_and_broken_ones() {
        assert_eq!(user("cloudfoundry eyJ1c2VyX2lkIjoiNjgzZWE3NDgifQ==").as_deref(), Some("683ea748"));
        assert_eq!(user("cloudfoundry eyJ1c2VyX2lkIjoiNjgzZWE3NDgifQ").as_deref(), Some("683ea748"));
        assert_eq!(user("kubernetes eyJ1c2VybmFtZSI6Ij8_PyJ9").as_deref(), Some("???"));
        assert_eq!(user("cloudfoundry %%%").as_deref(), Some("unparsable"));
        assert_eq!(user("cloudfoundry"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_identity_is_survived(value in "[ -~]{0,200}") {
            let _ = user(&value);
        }
    }
}
