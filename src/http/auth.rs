//! Basic authentication (OSB rows AU-1 to AU-6): any configured pair; hashes compared in constant time, all of them, so that
//! an answer takes as long for a wrong user as for a wrong password.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, Header as _, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _, HttpRequest, web};
use actix_web_httpauth::headers::authorization::{Authorization, Basic};
use ring::digest;
use secrecy::ExposeSecret as _;
use subtle::{Choice, ConstantTimeEq as _};

use super::{Api, error};
use crate::settings::Credential;

/// Which platform asks: the tag of its credentials.
#[derive(Debug, Clone)]
pub(super) struct Platform(pub(super) Option<String>);

/// Lets through who knows a pair of credentials.
pub(super) async fn authenticate(
    api: web::Data<Api>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    match platform(&api.broker.settings().server.credentials, request.request()) {
        Some(platform) => {
            request.extensions_mut().insert(platform);
            Ok(next.call(request).await?.map_into_left_body())
        }
        None => Ok(request.into_response(unauthorized()).map_into_right_body()),
    }
}

/// 401, without a hint which half was wrong.
pub(super) fn unauthorized() -> actix_web::HttpResponse {
    let mut response = error::refusal(StatusCode::UNAUTHORIZED, "The broker's user name and password are required.");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"cf-mysql-broker\", charset=\"UTF-8\""));
    response
}

/// The platform whose credentials a request carries.
pub(super) fn platform(credentials: &[Credential], request: &HttpRequest) -> Option<Platform> {
    let given = Authorization::<Basic>::parse(request).ok()?.into_scheme();
    let (user, password) = (hash(given.user_id()), hash(given.password().unwrap_or_default()));
    let mut found = None;
    for credential in credentials {
        let same: Choice = user.ct_eq(&hash(&credential.username)) & password.ct_eq(&hash(credential.password.expose_secret()));
        if bool::from(same) {
            found = Some(Platform(credential.platform.clone()));
        }
    }
    found
}

fn hash(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    bytes
}
