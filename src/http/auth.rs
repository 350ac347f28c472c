//! Basic authentication (OSB rows AU-1 to AU-6): any configured pair; hashes compared in constant time, all of them, so that
//! an answer takes as long for a wrong user as for a wrong password.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

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

/// Put into a request, it learns which platform asks, and outlives it.
pub(super) type Asking = Rc<OnceCell<Platform>>;

/// Lets through who knows a pair of credentials.
pub(super) async fn authenticate(
    api: web::Data<Api>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    match platform(&api.broker.settings().server.credentials, request.request()) {
        Some(platform) => {
            if let Some(asking) = request.extensions().get::<Asking>() {
                // nobody asks twice
                let _ = asking.set(platform);
            }
            Ok(next.call(request).await?.map_into_left_body())
        }
        None => {
            let limit = api.broker.settings().server.failed_logins_per_minute;
            let address = request.peer_addr().map(|address| address.ip());
            let refusal = if api.logins.is_too_many(address, limit) { too_many() } else { unauthorized() };
            Ok(request.into_response(refusal).map_into_right_body())
        }
    }
}

/// Failed logins by address in the current minute. Only failures are counted and only failures are refused: behind a router all
/// platforms share one address, and whoever guesses there must not lock them out.
#[derive(Debug, Default)]
pub(super) struct FailedLogins(Mutex<Option<(Instant, HashMap<IpAddr, u32>)>>);

impl FailedLogins {
    /// Counts a failure; whether there have been more than `limit`.
    fn is_too_many(&self, address: Option<IpAddr>, limit: u32) -> bool {
        let Some(address) = address else { return false };
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if minute.as_ref().is_none_or(|(since, _)| since.elapsed() >= MINUTE) {
            *minute = Some((Instant::now(), HashMap::new()));
        }
        let Some((_, counts)) = minute.as_mut() else { return false };
        let count = counts.entry(address).or_insert(0);
        *count = count.saturating_add(1);
        *count > limit
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// 429.
fn too_many() -> actix_web::HttpResponse {
    let mut response = error::refusal(StatusCode::TOO_MANY_REQUESTS, "Too many failed logins. Please try again in a minute.");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
    response
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
