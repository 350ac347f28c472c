//! `X-Broker-API-Version` (OSB rows HV-1 to HV-4).

use std::future::{Ready, ready};

use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::middleware::Next;
use actix_web::{Error, FromRequest, HttpMessage as _, HttpRequest, web};

use super::{Api, error};
use crate::domain::api_version::{ApiVersion, VersionError};

const HEADER: &str = "X-Broker-API-Version";

/// Lets through who speaks a version we speak.
pub(super) async fn require_version(
    api: web::Data<Api>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let header = request.headers().get(HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let refusal = match ApiVersion::parse(header) {
        Ok(version) => {
            request.extensions_mut().insert(version);
            return Ok(next.call(request).await?.map_into_left_body());
        }
        Err(VersionError::Malformed) => {
            let status = api.broker.settings().server.missing_api_version_status;
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
            error::refusal(status, "The header 'X-Broker-API-Version' is required: 2.11 or a later 2.x, such as 2.17.")
        }
        Err(VersionError::Unsupported) => error::refusal(
            StatusCode::PRECONDITION_FAILED,
            "This version of the Open Service Broker API is not supported: the header 'X-Broker-API-Version' must be 2.11 or a later 2.x.",
        ),
    };
    Ok(request.into_response(refusal).map_into_right_body())
}

impl FromRequest for ApiVersion {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        // behind `require_version` it is always there
        ready(Ok(request.extensions().get::<Self>().copied().unwrap_or(Self::OLDEST)))
    }
}
