//! What is for sale: service offerings and their plans (OSB API 2.17, "Catalog Management").

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Map, Value};

/// Everything this broker offers, as the operator configured it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalog {
    /// The offerings in the operator's order.
    pub services: Vec<ServiceOffering>,
}

/// One service offering.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceOffering {
    /// Unique over all offerings; never changes.
    pub id: String,
    /// What `cf create-service NAME` says.
    pub name: String,
    /// One sentence for the marketplace.
    pub description: String,
    /// Whether instances can be bound.
    #[serde(default = "yes")]
    pub bindable: bool,
    /// Whether plans can be changed; a plan may say otherwise.
    #[serde(default = "yes", alias = "plan_updatable")]
    pub plan_updateable: bool,
    /// Words that connectors and buildpacks look for, such as `mysql`.
    pub tags: Vec<String>,
    /// Marketplace metadata, passed through.
    pub metadata: Option<Map<String, Value>>,
    /// The UAA client of the dashboard (Cloud Foundry's extension).
    pub dashboard_client: Option<DashboardClient>,
    /// At least one.
    pub plans: Vec<Plan>,
}

/// One plan of an offering.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// Unique over all plans of all offerings; never changes.
    #[serde(alias = "guid")]
    pub id: String,
    /// What `cf create-service SERVICE NAME` says.
    pub name: String,
    /// One sentence for the marketplace.
    pub description: String,
    /// The quota, in MB.
    pub max_storage_mb: u64,
    /// Simultaneous connections of each binding; `bindings.max_user_connections_default` where it is missing.
    pub max_user_connections: Option<u32>,
    /// Whether the plan costs nothing.
    #[serde(default = "yes")]
    pub free: bool,
    /// Whether the registrar leaves the plan off for everyone (Cloud Foundry's access is switched there, not here).
    pub private: bool,
    /// Overrides the offering's `bindable`.
    pub bindable: Option<bool>,
    /// Overrides the offering's `plan_updateable`.
    pub plan_updateable: Option<bool>,
    /// Marketplace metadata, passed through; our own figures are added.
    pub metadata: Option<Map<String, Value>>,
    /// The plan's maintenance version.
    pub maintenance_info: Option<MaintenanceInfo>,
    /// Whether a binding can be replaced through `predecessor_binding_id` (OSB API 2.17).
    #[serde(default = "yes")]
    pub binding_rotatable: bool,
    /// Seconds after which a binding's account stops working; never where it is missing.
    pub binding_expires_after: Option<u64>,
    /// Seconds before its end from which on a binding should be renewed; a quarter of its lifetime where it is missing.
    pub binding_renew_before: Option<u64>,
}

/// How long bindings of a plan live. Seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindingLifetime {
    /// From their creation to their end.
    pub expires_after: u64,
    /// Before their end.
    pub renew_before: u64,
}

impl Plan {
    /// How long bindings live; none: for ever.
    pub fn binding_lifetime(&self) -> Option<BindingLifetime> {
        self.binding_expires_after
            .map(|expires_after| BindingLifetime { expires_after, renew_before: self.binding_renew_before.unwrap_or(expires_after / 4) })
    }
}

/// The UAA client a platform creates for the dashboard.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DashboardClient {
    /// Client id, unique over the whole Cloud Foundry deployment.
    pub id: String,
    /// Client secret. The platform must learn it, so the catalog carries it; it is never logged.
    pub secret: String,
    /// The exact call-back URL.
    pub redirect_uri: String,
}

impl std::fmt::Debug for DashboardClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DashboardClient").field("id", &self.id).field("redirect_uri", &self.redirect_uri).finish_non_exhaustive()
    }
}

/// A maintenance version (OSB API 2.17, "Maintenance Info Object").
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaintenanceInfo {
    /// A semantic version 2.0.
    pub version: String,
    /// What the version brings, for the platform's users.
    pub description: Option<String>,
}

fn yes() -> bool {
    true
}

/// A mistake in the catalog: the key path below `services` and what would be right.
pub type CatalogProblem = (String, String);

impl Catalog {
    /// Finds an offering by its id.
    pub fn service(&self, id: &str) -> Option<&ServiceOffering> {
        self.services.iter().find(|service| service.id == id)
    }

    /// Finds a plan by its id, in whichever offering it is.
    pub fn plan(&self, id: &str) -> Option<&Plan> {
        self.services.iter().flat_map(|service| &service.plans).find(|plan| plan.id == id)
    }

    /// Every rule of the catalog that the configuration breaks: what the specification demands, and what Cloud Controller
    /// refuses at registration (`osb-requirements` rows CA-1 to CA-12).
    pub fn problems(&self) -> Vec<CatalogProblem> {
        let mut found = Vec::new();
        if self.services.is_empty() {
            found.push((String::new(), "at least one service is required".to_owned()));
        }
        let (mut ids, mut names, mut clients) = (HashSet::new(), HashSet::new(), HashSet::new());
        for (i, service) in self.services.iter().enumerate() {
            let at = |key: &str| format!("[{i}].{key}");
            check_named(&mut found, &at, &service.id, &service.name, &service.description);
            if !service.id.is_empty() && !ids.insert(&service.id) {
                found.push((at("id"), "is used twice; ids must be unique".to_owned()));
            }
            if !service.name.is_empty() && !names.insert(&service.name) {
                found.push((at("name"), "is used twice; names of services must be unique".to_owned()));
            }
            if service.tags.concat().len() > 2048 {
                found.push((at("tags"), "must be at most 2048 characters in all".to_owned()));
            }
            if let Some(client) = &service.dashboard_client {
                for (key, value) in [("id", &client.id), ("secret", &client.secret), ("redirect_uri", &client.redirect_uri)] {
                    if value.is_empty() {
                        found.push((at(&format!("dashboard_client.{key}")), "is required".to_owned()));
                    }
                }
                if !client.id.is_empty() && !clients.insert(&client.id) {
                    found.push((at("dashboard_client.id"), "is used twice; ids must be unique".to_owned()));
                }
            }
            check_metadata(&mut found, &at("metadata"), service.metadata.as_ref());
            if service.plans.is_empty() {
                found.push((at("plans"), "at least one plan is required".to_owned()));
            }
            self.check_plans(&mut found, i, service, &mut ids);
        }
        found
    }

    fn check_plans<'a>(&self, found: &mut Vec<CatalogProblem>, i: usize, service: &'a ServiceOffering, ids: &mut HashSet<&'a String>) {
        let mut names = HashSet::new();
        for (j, plan) in service.plans.iter().enumerate() {
            let at = |key: &str| format!("[{i}].plans[{j}].{key}");
            check_named(found, &at, &plan.id, &plan.name, &plan.description);
            if !plan.id.is_empty() && !ids.insert(&plan.id) {
                found.push((at("id"), "is used twice; ids must be unique".to_owned()));
            }
            if !plan.name.is_empty() && !names.insert(&plan.name) {
                found.push((at("name"), "is used twice; names of plans must be unique in their service".to_owned()));
            }
            if plan.max_storage_mb == 0 || plan.max_storage_mb > MAX_PLAN_MB {
                found.push((at("max_storage_mb"), format!("must be a whole number of MB from 1 to {MAX_PLAN_MB}")));
            }
            if plan.max_user_connections == Some(0) {
                found.push((at("max_user_connections"), "must be at least 1; leave it out for the default".to_owned()));
            }
            check_metadata(found, &at("metadata"), plan.metadata.as_ref());
            if plan.binding_expires_after.is_some_and(|seconds| seconds == 0 || seconds > MAX_LIFETIME) {
                found.push((at("binding_expires_after"), format!("must be from 1 to {MAX_LIFETIME} seconds")));
            }
            match (plan.binding_expires_after, plan.binding_renew_before) {
                (None, Some(_)) => found.push((at("binding_renew_before"), "needs binding_expires_after".to_owned())),
                (Some(end), Some(renew)) if renew >= end => {
                    found.push((at("binding_renew_before"), "must be less than binding_expires_after".to_owned()));
                }
                _ => {}
            }
            if let Some(info) = &plan.maintenance_info {
                if semver::Version::parse(&info.version).is_err() {
                    found.push((at("maintenance_info.version"), "must be a semantic version such as 1.2.3".to_owned()));
                }
                if info.version.len() + info.description.as_ref().map_or(0, String::len) > 1900 {
                    found.push((at("maintenance_info"), "must be at most 1900 characters".to_owned()));
                }
            }
        }
    }
}

/// The old column that keeps the quota is a signed 32-bit integer of MB.
pub const MAX_PLAN_MB: u64 = i32::MAX as u64;

/// A hundred years in seconds: what dates of the server can hold.
const MAX_LIFETIME: u64 = 100 * 365 * 24 * 3600;

impl ServiceOffering {
    /// A plan of this offering by its id.
    pub fn plan(&self, id: &str) -> Option<&Plan> {
        self.plans.iter().find(|plan| plan.id == id)
    }

    /// Whether instances of this plan can be bound.
    pub fn is_bindable(&self, plan: &Plan) -> bool {
        plan.bindable.unwrap_or(self.bindable)
    }

    /// Whether instances of this plan can change to another plan.
    pub fn is_updateable(&self, plan: &Plan) -> bool {
        plan.plan_updateable.unwrap_or(self.plan_updateable)
    }
}

fn check_named(found: &mut Vec<CatalogProblem>, at: &dyn Fn(&str) -> String, id: &str, name: &str, description: &str) {
    if id.is_empty() {
        found.push((at("id"), "is required (a GUID that never changes)".to_owned()));
    } else if id.len() > 255 {
        found.push((at("id"), "must be at most 255 characters".to_owned()));
    }
    if name.is_empty() {
        found.push((at("name"), "is required".to_owned()));
    } else if name.len() > 255 || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        found.push((at("name"), "must be at most 255 of a-z, 0-9 and '-'".to_owned()));
    }
    if description.is_empty() {
        found.push((at("description"), "is required".to_owned()));
    } else if description.len() > 10_000 {
        found.push((at("description"), "must be at most 10000 characters".to_owned()));
    }
}

fn check_metadata(found: &mut Vec<CatalogProblem>, at: &str, metadata: Option<&Map<String, Value>>) {
    if metadata.and_then(|map| map.get("shareable")).is_some_and(|shareable| !shareable.is_boolean()) {
        found.push((format!("{at}.shareable"), "must be true or false".to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(id: &str, name: &str, plan: &str) -> ServiceOffering {
        ServiceOffering {
            id: id.into(),
            name: name.into(),
            description: "d".into(),
            plans: vec![Plan { id: plan.into(), name: "small".into(), description: "d".into(), max_storage_mb: 1, ..Plan::default() }],
            ..ServiceOffering::default()
        }
    }

    #[test]
    fn a_right_catalog_has_no_problem() {
        let catalog = Catalog { services: vec![service("s1", "p-mysql", "p1"), service("s2", "p-mysql-2", "p2")] };
        assert_eq!(catalog.problems(), vec![]);
    }

    #[test]
    fn every_mistake_is_named() {
        let mut bad = service("s1", "P MySQL", "p1");
        bad.plans[0].max_storage_mb = 0;
        bad.plans[0].maintenance_info = Some(MaintenanceInfo { version: "one".into(), description: None });
        let paths: Vec<_> = Catalog { services: vec![bad, service("s1", "ok", "p1")] }.problems().into_iter().map(|p| p.0).collect();
        assert_eq!(
            paths,
            ["[0].name", "[0].plans[0].max_storage_mb", "[0].plans[0].maintenance_info.version", "[1].id", "[1].plans[0].id"]
        );
    }

    #[test]
    fn the_reference_spelling_of_a_plan_id_is_accepted() {
        let plan: Plan = serde_json::from_value(serde_json::json!({"guid": "p1", "max_storage_mb": 5})).unwrap();
        assert_eq!((plan.id.as_str(), plan.free), ("p1", true));
    }
}
