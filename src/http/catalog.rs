//! `GET /v2/catalog`: what the caller's version of the API knows (OSB rows CA-1 to CA-15 and section 14).

use actix_web::http::header::{self, EntityTag, Header as _, IfNoneMatch};
use actix_web::{HttpRequest, HttpResponse, web};
use ring::digest;
use serde_json::{Map, Value, json};

use super::Api;
use crate::domain::api_version::ApiVersion;
use crate::domain::catalog::{Catalog, Plan, ServiceOffering};
use crate::domain::names::hex;
use crate::domain::parameters::ParametersOf;

pub(super) async fn catalog(api: web::Data<Api>, version: ApiVersion, request: HttpRequest) -> HttpResponse {
    let body = render(&api.broker.settings().catalog, version).to_string();
    let hash = digest::digest(&digest::SHA256, body.as_bytes());
    let tag = EntityTag::new_strong(hex(&hash.as_ref()[..16]));
    let known = match IfNoneMatch::parse(&request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(&tag)),
        Err(_) => false,
    };
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header(header::ETag(tag)).insert_header((header::VARY, "X-Broker-API-Version"));
    if known { response.finish() } else { response.content_type("application/json").body(body) }
}

fn render(catalog: &Catalog, version: ApiVersion) -> Value {
    json!({"services": catalog.services.iter().map(|service| offering(service, version)).collect::<Vec<_>>()})
}

fn offering(service: &ServiceOffering, version: ApiVersion) -> Value {
    let mut object = json!({
        "id": service.id,
        "name": service.name,
        "description": service.description,
        "bindable": service.bindable,
        "plan_updateable": service.plan_updateable,
        "plans": service.plans.iter().map(|p| plan(service, p, version)).collect::<Vec<_>>(),
    });
    if !service.tags.is_empty() {
        object["tags"] = json!(service.tags);
    }
    if let Some(metadata) = &service.metadata {
        object["metadata"] = Value::Object(metadata.clone());
    }
    if let Some(client) = &service.dashboard_client {
        object["dashboard_client"] = json!({"id": client.id, "secret": client.secret, "redirect_uri": client.redirect_uri});
    }
    if version >= ApiVersion::V2_14 {
        object["instances_retrievable"] = true.into();
        object["bindings_retrievable"] = true.into();
    }
    if version >= ApiVersion::V2_15 {
        object["allow_context_updates"] = true.into();
    }
    object
}

fn plan(service: &ServiceOffering, plan: &Plan, version: ApiVersion) -> Value {
    let mut metadata: Map<String, Value> = plan.metadata.clone().unwrap_or_default();
    metadata.entry("max_storage_mb").or_insert_with(|| plan.max_storage_mb.into());
    if let Some(limit) = plan.max_user_connections {
        metadata.entry("max_user_connections").or_insert_with(|| limit.into());
    }
    let mut object = json!({
        "id": plan.id,
        "name": plan.name,
        "description": plan.description,
        "free": plan.free,
        "bindable": service.is_bindable(plan),
        "metadata": metadata,
    });
    if version >= ApiVersion::V2_13 {
        object["schemas"] = json!({
            "service_instance": {
                "create": {"parameters": ParametersOf::Provision.schema()},
                "update": {"parameters": ParametersOf::Update.schema()},
            },
            "service_binding": {"create": {"parameters": ParametersOf::Bind.schema()}},
        });
    }
    if version >= ApiVersion::V2_17 {
        object["binding_rotatable"] = plan.binding_rotatable.into();
    }
    if version >= ApiVersion::V2_15 {
        object["plan_updateable"] = service.is_updateable(plan).into();
        if let Some(info) = &plan.maintenance_info {
            object["maintenance_info"] = json!({"version": info.version});
            if let Some(description) = &info.description {
                object["maintenance_info"]["description"] = description.as_str().into();
            }
        }
    }
    object
}
