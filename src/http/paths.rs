//! Ids out of the raw path: the framework's own decoding replaces bytes that are no UTF-8, and two ids would become one.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{Error, FromRequest, HttpRequest};

use super::error::Failure;
use crate::domain::ids::{BindingId, InstanceId};

/// `/v2/service_instances/{id}...`
pub(super) struct InstancePath(pub(super) InstanceId);

/// `/v2/service_instances/{id}/service_bindings/{id}...`
pub(super) struct BindingPath(pub(super) InstanceId, pub(super) BindingId);

fn segment(request: &HttpRequest, index: usize) -> &str {
    request.uri().path().split('/').nth(index + 1).unwrap_or_default()
}

fn instance_id(request: &HttpRequest) -> Result<InstanceId, Failure> {
    InstanceId::parse(segment(request, 2)).map_err(|error| ("instance_id", error).into())
}

impl FromRequest for InstancePath {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(instance_id(request).map(Self).map_err(Error::from))
    }
}

impl FromRequest for BindingPath {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let binding = || BindingId::parse(segment(request, 4)).map_err(|error| Failure::from(("binding_id", error)));
        ready(instance_id(request).and_then(|instance| Ok(Self(instance, binding()?))).map_err(Error::from))
    }
}

/// The ids in a path of this route, as far as they are ids; empty otherwise.
pub(super) fn ids(route: &str, path: &str) -> (String, String) {
    let segment = |name, index: usize| if route.contains(name) { path.split('/').nth(index + 1).unwrap_or_default() } else { "" };
    (
        InstanceId::parse(segment("{instance_id}", 2)).map(|id| id.to_string()).unwrap_or_default(),
        BindingId::parse(segment("{binding_id}", 4)).map(|id| id.to_string()).unwrap_or_default(),
    )
}
