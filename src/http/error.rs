//! Errors as JSON (OSB API 2.17, "Service Broker Errors").

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpResponse, ResponseError};
use serde_json::json;

use crate::broker::OsbError;
use crate::domain::api_version::ApiVersion;
use crate::domain::ids::IdError;

/// An error on its way out; its cause is logged by `observe`, once.
#[derive(Debug)]
pub(super) struct Failure {
    error: OsbError,
    flags: Flags,
}

/// Which flags an error body may carry (OSB row ER-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flags {
    None,
    Usable,
    UsableAndRepeatable,
}

pub(super) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// The error of an update.
    pub(super) fn of_update(version: ApiVersion) -> impl Fn(OsbError) -> Self {
        move |error| Self { error, flags: if version >= ApiVersion::V2_16 { Flags::UsableAndRepeatable } else { Flags::None } }
    }

    /// The error of a deprovision.
    pub(super) fn of_deprovision(version: ApiVersion) -> impl Fn(OsbError) -> Self {
        move |error| Self { error, flags: if version >= ApiVersion::V2_16 { Flags::Usable } else { Flags::None } }
    }

    /// The error itself.
    pub(super) fn error(&self) -> &OsbError {
        &self.error
    }
}

impl From<OsbError> for Failure {
    fn from(error: OsbError) -> Self {
        Self { error, flags: Flags::None }
    }
}

impl From<(&'static str, IdError)> for Failure {
    fn from((name, error): (&'static str, IdError)) -> Self {
        OsbError::BadRequest(format!("The id '{name}' {error}.")).into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl ResponseError for Failure {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        if let Some(seconds) = self.error.retry_after() {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        if matches!(self.error, OsbError::Gone) {
            return response.json(json!({}));
        }
        let mut body = json!({"description": self.error.to_string()});
        if let Some(code) = self.error.code() {
            body["error"] = code.into();
        }
        let aftermath = self.error.aftermath();
        if self.flags != Flags::None {
            body["instance_usable"] = aftermath.instance_usable.into();
        }
        if self.flags == Flags::UsableAndRepeatable {
            body["update_repeatable"] = aftermath.update_repeatable.into();
        }
        response.json(body)
    }
}

/// A JSON error body for what is refused before the broker is asked.
pub(super) fn refusal(status: StatusCode, description: &str) -> HttpResponse {
    HttpResponse::build(status).json(json!({"description": description}))
}

/// 405.
pub(super) async fn method_not_allowed(allow: &'static str) -> HttpResponse {
    let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "This path does not have this method.");
    response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allow));
    response
}

/// 404 for a path that means nothing.
pub(super) async fn no_such_route() -> HttpResponse {
    refusal(StatusCode::NOT_FOUND, "There is nothing under this path.")
}
