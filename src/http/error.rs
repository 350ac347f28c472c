//! Errors as JSON (OSB API 2.17, "Service Broker Errors").

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpResponse, ResponseError};
use serde_json::json;

use crate::broker::{OsbError, Progress};
use crate::domain::api_version::ApiVersion;
use crate::domain::ids::IdError;

/// An error on its way out; its cause is logged by `observe`, once.
#[derive(Debug)]
pub(super) struct Failure {
    error: OsbError,
    instance_usable: Option<bool>,
    update_repeatable: Option<bool>,
}

pub(super) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// The error of an update: from 2.16 on it says what became of the instance and of the update (OSB row ER-3).
    pub(super) fn of_update(version: ApiVersion, progress: &Progress) -> impl Fn(OsbError) -> Self {
        let of_deprovision = Self::of_deprovision(version, progress);
        move |error| {
            let repeatable = error.is_update_repeatable();
            let failure = of_deprovision(error);
            // what cannot be used any more cannot be updated
            Self { update_repeatable: failure.instance_usable.map(|usable| usable && repeatable), ..failure }
        }
    }

    /// The error of a deprovision: from 2.16 on it says what became of the instance.
    pub(super) fn of_deprovision(version: ApiVersion, progress: &Progress) -> impl Fn(OsbError) -> Self {
        let progress = progress.clone();
        move |error| Self {
            error,
            instance_usable: (version >= ApiVersion::V2_16).then(|| progress.is_instance_usable()),
            update_repeatable: None,
        }
    }

    /// The error itself.
    pub(super) fn error(&self) -> &OsbError {
        &self.error
    }
}

impl From<OsbError> for Failure {
    fn from(error: OsbError) -> Self {
        Self { error, instance_usable: None, update_repeatable: None }
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
        self.respond(self.error.to_string())
    }
}

impl Failure {
    /// The response to an error of our own: it names the request, whose line in the log has the cause (OSB row ER-7). None for other errors.
    pub(super) fn naming(&self, identity: &str) -> Option<HttpResponse> {
        matches!(self.error, OsbError::Internal(_)).then(|| self.respond(internal(identity)))
    }

    fn respond(&self, description: String) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        if let Some(seconds) = self.error.retry_after() {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        if matches!(self.error, OsbError::Gone) {
            return response.json(json!({}));
        }
        let mut body = json!({"description": description});
        if let Some(code) = self.error.code() {
            body["error"] = code.into();
        }
        for (name, flag) in [("instance_usable", self.instance_usable), ("update_repeatable", self.update_repeatable)] {
            if let Some(flag) = flag {
                body[name] = flag.into();
            }
        }
        response.json(body)
    }
}

/// What a platform hears of an error of our own.
pub(super) fn internal(identity: &str) -> String {
    format!("An internal error occurred. The operator finds it in the broker's log under {identity}.")
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
