//! Service bindings.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::Api;
use super::body::{Body, hints};
use super::error::Result;
use super::paths::BindingPath;
use crate::broker::Bound;
use crate::domain::api_version::ApiVersion;
use crate::domain::binding::BindRequest;

pub(super) async fn bind(
    api: web::Data<Api>,
    path: BindingPath,
    version: ApiVersion,
    request: HttpRequest,
    bytes: web::Bytes,
) -> Result<HttpResponse> {
    let body = Body::parse(&request, &bytes)?;
    let BindingPath(instance_id, id) = path;
    let request = BindRequest {
        id,
        service_id: body.required("service_id")?,
        plan_id: body.required("plan_id")?,
        app_guid: body.app_guid()?,
        parameters: body.object("parameters")?.unwrap_or_default(),
    };
    let broker = api.broker.clone();
    let bound = api.to_the_end.run(async move { broker.bind(&instance_id, &request).await }).await?;
    let status = if bound.existing { StatusCode::OK } else { StatusCode::CREATED };
    Ok(HttpResponse::build(status).json(render(bound, version)))
}

pub(super) async fn fetch(api: web::Data<Api>, path: BindingPath, version: ApiVersion) -> Result<HttpResponse> {
    let broker = api.broker.clone();
    let bound = api.to_the_end.run(async move { broker.binding(&path.0, &path.1).await }).await?;
    let parameters = bound.parameters.clone();
    let mut body = render(bound, version);
    if !parameters.is_empty() {
        body["parameters"] = Value::Object(parameters);
    }
    Ok(HttpResponse::Ok().json(body))
}

pub(super) async fn unbind(api: web::Data<Api>, path: BindingPath, request: HttpRequest) -> Result<HttpResponse> {
    let hints = hints(&request);
    let broker = api.broker.clone();
    api.to_the_end.run(async move { broker.unbind(&path.0, &path.1, &hints).await }).await?;
    Ok(HttpResponse::Ok().json(json!({})))
}

pub(super) async fn last_operation(api: web::Data<Api>, path: BindingPath) -> Result<HttpResponse> {
    let broker = api.broker.clone();
    let operation = api.to_the_end.run(async move { broker.last_binding_operation(&path.0, &path.1).await }).await?;
    Ok(super::instances::answer(operation))
}

fn render(bound: Bound, version: ApiVersion) -> Value {
    let mut body = json!({"credentials": bound.credentials});
    if version >= ApiVersion::V2_15 {
        body["endpoints"] = bound.endpoints;
    }
    body
}
