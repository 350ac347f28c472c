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

/// What the log says about a request: the ids as far as they are ids.
pub(super) fn ids(path: &str) -> (Option<InstanceId>, Option<BindingId>) {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match segments.as_slice() {
        ["v2", "service_instances", instance, "service_bindings", binding, ..] => {
            (InstanceId::parse(instance).ok(), BindingId::parse(binding).ok())
        }
        ["v2", "service_instances", instance, ..] => (InstanceId::parse(instance).ok(), None),
        _ => (None, None),
    }
}
