//! Service instances.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::Api;
use super::body::{Body, hints};
use super::error::{Failure, Result};
use super::paths::InstancePath;
use crate::broker::{LastOperation, OperationState, Provisioned, UpdateRequest};
use crate::domain::api_version::ApiVersion;
use crate::domain::instance::ProvisionRequest;

pub(super) async fn provision(api: web::Data<Api>, path: InstancePath, request: HttpRequest, bytes: web::Bytes) -> Result<HttpResponse> {
    let body = Body::parse(&request, &bytes)?;
    let request = ProvisionRequest {
        id: path.0,
        service_id: body.required("service_id")?,
        plan_id: body.required("plan_id")?,
        organization_guid: body.required("organization_guid")?,
        space_guid: body.required("space_guid")?,
        parameters: body.object("parameters")?.unwrap_or_default(),
        context: body.object("context")?.unwrap_or_default(),
        maintenance_version: body.maintenance_version()?,
    };
    let broker = api.broker.clone();
    let provisioned = api.to_the_end.run(async move { broker.provision(&request).await }).await?;
    let status = match provisioned {
        Provisioned::Created => StatusCode::CREATED,
        Provisioned::Existing => StatusCode::OK,
    };
    Ok(HttpResponse::build(status).json(json!({})))
}

pub(super) async fn fetch(api: web::Data<Api>, path: InstancePath, version: ApiVersion) -> Result<HttpResponse> {
    let broker = api.broker.clone();
    let instance = api.to_the_end.run(async move { broker.instance(&path.0).await }).await?;
    let mut body = json!({"parameters": instance.parameters});
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            body[name] = Value::from(value);
        }
    };
    put("service_id", instance.service_id);
    put("plan_id", instance.plan_id);
    if version >= ApiVersion::V2_17
        && let Some(version) = instance.maintenance_version
    {
        body["maintenance_info"] = json!({"version": version});
    }
    Ok(HttpResponse::Ok().json(body))
}

pub(super) async fn update(
    api: web::Data<Api>,
    path: InstancePath,
    version: ApiVersion,
    request: HttpRequest,
    bytes: web::Bytes,
) -> Result<HttpResponse> {
    let failure = Failure::of_update(version);
    let parse = || -> crate::broker::Result<UpdateRequest> {
        let body = Body::parse(&request, &bytes)?;
        Ok(UpdateRequest {
            id: path.0,
            service_id: body.required("service_id")?,
            plan_id: body.text("plan_id")?,
            parameters: body.object("parameters")?.unwrap_or_default(),
            context: body.object("context")?,
            maintenance_version: body.maintenance_version()?,
        })
    };
    let request = parse().map_err(&failure)?;
    let broker = api.broker.clone();
    api.to_the_end.run(async move { broker.update(&request).await }).await.map_err(failure)?;
    Ok(HttpResponse::Ok().json(json!({})))
}

pub(super) async fn deprovision(
    api: web::Data<Api>,
    path: InstancePath,
    version: ApiVersion,
    request: HttpRequest,
) -> Result<HttpResponse> {
    let failure = Failure::of_deprovision(version);
    let hints = hints(&request);
    hints.require().map_err(&failure)?;
    let broker = api.broker.clone();
    api.to_the_end.run(async move { broker.deprovision(&path.0, &hints).await }).await.map_err(failure)?;
    Ok(HttpResponse::Ok().json(json!({})))
}

pub(super) async fn last_operation(api: web::Data<Api>, path: InstancePath) -> Result<HttpResponse> {
    let broker = api.broker.clone();
    Ok(answer(api.to_the_end.run(async move { broker.last_operation(&path.0).await }).await?))
}

/// The answer to a poll; `Retry-After` while it goes on (OSB row LO-6).
pub(super) fn answer(operation: LastOperation) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    let state = match operation.state {
        OperationState::InProgress => {
            response.insert_header((actix_web::http::header::RETRY_AFTER, 2));
            "in progress"
        }
        OperationState::Succeeded => "succeeded",
    };
    response.json(json!({"state": state, "description": operation.description}))
}
