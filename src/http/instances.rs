//! Service instances.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::Api;
use super::body::{Body, accepts_incomplete, hints, operation};
use super::error::{Failure, Result};
use super::paths::InstancePath;
use crate::broker::{Deprovisioned, OsbError, Progress, Provisioned, UpdateRequest, Updated};
use crate::domain::api_version::ApiVersion;
use crate::domain::instance::ProvisionRequest;
use crate::domain::last_operation::{Kind, Operation, Poll};

pub(super) async fn provision(api: web::Data<Api>, path: InstancePath, request: HttpRequest, bytes: web::Bytes) -> Result<HttpResponse> {
    let accepts_incomplete = accepts_incomplete(&request);
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
    let (broker, progress) = (api.broker.clone(), Progress::new(accepts_incomplete));
    let work = {
        let progress = progress.clone();
        async move { broker.provision(&request, &progress).await }
    };
    Ok(match api.to_the_end.run_or_leave(work, &progress, api.sync_wait()).await? {
        Some(Provisioned::Created) => HttpResponse::Created().json(json!({})),
        Some(Provisioned::Existing) => HttpResponse::Ok().json(json!({})),
        Some(Provisioned::InProgress) | None => accepted(Kind::Provision, &progress),
    })
}

pub(super) async fn fetch(api: web::Data<Api>, path: InstancePath, version: ApiVersion) -> Result<HttpResponse> {
    let broker = api.broker.clone();
    let (instance, is_over) = api
        .to_the_end
        .run(async move {
            let instance = broker.instance(&path.0).await?;
            let is_over = broker.is_over_quota(&instance).await?;
            Ok((instance, is_over))
        })
        .await?;
    let mut body = json!({"parameters": instance.parameters});
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            body[name] = Value::from(value);
        }
    };
    put("service_id", instance.service_id);
    put("plan_id", instance.plan_id);
    if version >= ApiVersion::V2_17 {
        let quota_state = if is_over { "over" } else { "ok" };
        body["metadata"] = json!({"attributes": {"max_storage_mb": instance.max_storage_mb, "quota_state": quota_state}});
        if let Some(version) = instance.maintenance_version {
            body["maintenance_info"] = json!({"version": version});
        }
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
    let progress = Progress::new(accepts_incomplete(&request));
    let failure = Failure::of_update(version, &progress);
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
    let work = {
        let progress = progress.clone();
        async move { broker.update(&request, &progress).await }
    };
    Ok(match api.to_the_end.run_or_leave(work, &progress, api.sync_wait()).await.map_err(failure)? {
        Some(Updated::Done) => HttpResponse::Ok().json(json!({})),
        Some(Updated::InProgress) | None => accepted(Kind::Update, &progress),
    })
}

pub(super) async fn deprovision(
    api: web::Data<Api>,
    path: InstancePath,
    version: ApiVersion,
    request: HttpRequest,
) -> Result<HttpResponse> {
    let progress = Progress::new(accepts_incomplete(&request));
    let failure = Failure::of_deprovision(version, &progress);
    let hints = hints(&request);
    hints.require().map_err(&failure)?;
    let broker = api.broker.clone();
    let work = {
        let progress = progress.clone();
        async move { broker.deprovision(&path.0, &hints, &progress).await }
    };
    let answer = api.to_the_end.run_or_leave(work, &progress, api.sync_wait()).await;
    Ok(match answer.map_err(|error| failure(progress.explain(error)))? {
        Some(Deprovisioned::Done) => HttpResponse::Ok().json(json!({})),
        Some(Deprovisioned::InProgress) | None => accepted(Kind::Deprovision, &progress),
    })
}

pub(super) async fn last_operation(
    api: web::Data<Api>,
    path: InstancePath,
    version: ApiVersion,
    request: HttpRequest,
) -> Result<HttpResponse> {
    let (broker, asked) = (api.broker.clone(), operation(&request));
    answer(api.to_the_end.run(async move { broker.last_operation(&path.0, asked).await }).await?, version)
}

/// 202: the work goes on, and any broker answers the poll (OSB row SY-2).
fn accepted(kind: Kind, progress: &Progress) -> HttpResponse {
    let operation = progress.row().map(|row| Operation { kind, row }.to_string());
    HttpResponse::Accepted().json(json!({"operation": operation.unwrap_or_else(|| kind.as_str().to_owned())}))
}

/// The answer to a poll; `Retry-After` while it goes on (OSB row LO-6).
pub(super) fn answer(poll: Poll, version: ApiVersion) -> Result<HttpResponse> {
    let mut response = HttpResponse::Ok();
    let (state, description, aftermath) = match poll {
        Poll::InProgress(description) => {
            response.insert_header((actix_web::http::header::RETRY_AFTER, 2));
            ("in progress", description.to_owned(), None)
        }
        Poll::Succeeded(description) => ("succeeded", description.to_owned(), None),
        Poll::Failed { description, aftermath } => ("failed", description, aftermath),
        Poll::Gone => return Err(OsbError::Gone.into()),
        Poll::Unknown => return Err(OsbError::NotFound("Nothing is known under this id.".to_owned()).into()),
    };
    let mut body = json!({"state": state, "description": description});
    if let Some(aftermath) = aftermath
        && version >= ApiVersion::V2_16
    {
        body["instance_usable"] = aftermath.instance_usable.into();
        body["update_repeatable"] = aftermath.update_repeatable.into();
    }
    Ok(response.json(body))
}
