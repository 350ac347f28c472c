//! Service bindings.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::Api;
use super::body::{Body, hints};
use super::error::Result;
use super::paths::BindingPath;
use crate::broker::{Bound, Progress};
use crate::domain::api_version::ApiVersion;
use crate::domain::binding::AskedBinding;
use crate::domain::ids::BindingId;

pub(super) async fn bind(
    api: web::Data<Api>,
    path: BindingPath,
    version: ApiVersion,
    request: HttpRequest,
    bytes: web::Bytes,
) -> Result<HttpResponse> {
    let body = Body::parse(&request, &bytes)?;
    let BindingPath(instance_id, id) = path;
    let predecessor = match body.text("predecessor_binding_id")? {
        Some(id) => Some(BindingId::parse_text(&id).map_err(|error| ("predecessor_binding_id", error))?),
        None => None,
    };
    let asked = AskedBinding {
        id,
        service_id: body.text("service_id")?,
        plan_id: body.text("plan_id")?,
        app_guid: body.app_guid()?,
        parameters: body.object("parameters")?,
        predecessor,
    };
    let (broker, progress) = (api.broker.clone(), Progress::new(false));
    let work = {
        let progress = progress.clone();
        async move { broker.bind(&instance_id, &asked, &progress).await }
    };
    // binding is fast: it never goes on behind a 202
    let bound = api.to_the_end.run_or_give_up(work, &progress).await?;
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

pub(super) async fn last_operation(api: web::Data<Api>, path: BindingPath, version: ApiVersion) -> Result<HttpResponse> {
    let broker = api.broker.clone();
    let operation = api.to_the_end.run(async move { broker.last_binding_operation(&path.0, &path.1).await }).await?;
    super::instances::answer(operation, version)
}

fn render(bound: Bound, version: ApiVersion) -> Value {
    let mut body = json!({"credentials": bound.credentials});
    if version >= ApiVersion::V2_15 {
        body["endpoints"] = bound.endpoints;
    }
    if version >= ApiVersion::V2_16
        && let Some(expires_at) = bound.expires_at
    {
        body["metadata"] = json!({"expires_at": expires_at});
        if version >= ApiVersion::V2_17
            && let Some(renew_before) = bound.renew_before
        {
            body["metadata"]["renew_before"] = renew_before.into();
        }
    }
    body
}
