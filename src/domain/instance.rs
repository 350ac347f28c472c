//! A service instance: its row is the reservation.

use serde_json::{Map, Value};

use super::ids::InstanceId;
use super::parameters::Parameters;

/// From this size on, in MB, deleting a database may outlast a request: tables are dropped one by one, each in one go.
const LARGE_MB: u64 = 10 << 10;

/// Where an instance is between two final states (ready, and gone).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceState {
    /// Reserved; its database may exist.
    Creating,
    /// Its database exists.
    Ready,
    /// On its way to another plan; both plans' room is reserved.
    Updating,
    /// On its way out; still counted until its database is gone.
    Deleting,
}

impl InstanceState {
    /// The word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Ready => "ready",
            Self::Updating => "updating",
            Self::Deleting => "deleting",
        }
    }

    /// Reads the word in the table.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Creating, Self::Ready, Self::Updating, Self::Deleting].into_iter().find(|state| state.as_str() == word)
    }
}

/// Names one attempt at an operation; every later step is a compare-and-set on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpId(pub String);

impl OpId {
    /// A new one: 128 random bits.
    pub fn new() -> Self {
        Self(super::names::random_hex(16))
    }
}

impl Default for OpId {
    fn default() -> Self {
        Self::new()
    }
}

/// What the row of an instance says.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Primary key; a new one each time the same id is provisioned.
    pub row: i64,
    /// The platform's id.
    pub id: InstanceId,
    /// The offering; none on an adopted instance nobody has used since.
    pub service_id: Option<String>,
    /// The plan; none where an adopted instance has none recorded.
    pub plan_id: Option<String>,
    /// The plan that an update is changing to; means nothing in other states.
    pub next_plan_id: Option<String>,
    /// The database's name.
    pub database: String,
    /// The quota in force, in MB.
    pub max_storage_mb: u64,
    /// None on an adopted instance nobody has used since.
    pub organization_guid: Option<String>,
    /// None on an adopted instance nobody has used since.
    pub space_guid: Option<String>,
    /// Provision parameters with all updates merged in.
    pub parameters: Parameters,
    /// The platform's context (names, annotations), as last sent.
    pub context: Map<String, Value>,
    /// The maintenance version the platform last agreed to.
    pub maintenance_version: Option<String>,
    /// Where it is.
    pub state: InstanceState,
    /// Who is working on it, while the state is not final.
    pub op: Option<OpId>,
    /// The one who works on it is still in time, by the database's clock.
    pub lease_live: bool,
    /// Bytes this row holds of the counter.
    pub reserved_bytes: u64,
    /// When it was provisioned, RFC 3339; none on adopted instances.
    pub created_at: Option<String>,
}

/// What a platform asks for with a PUT of an instance, after parsing.
#[derive(Debug, Clone, PartialEq)]
pub struct ProvisionRequest {
    /// The platform's id.
    pub id: InstanceId,
    /// The offering.
    pub service_id: String,
    /// The plan.
    pub plan_id: String,
    /// Top-level organisation (wins over the context's).
    pub organization_guid: String,
    /// Top-level space (wins over the context's).
    pub space_guid: String,
    /// Empty where absent or null.
    pub parameters: Parameters,
    /// Empty where absent or null.
    pub context: Map<String, Value>,
    /// `maintenance_info.version`, where it is given and not empty.
    pub maintenance_version: Option<String>,
}

/// What a PUT means for an instance that already has a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// The same request again: answer as the first time.
    Same,
    /// Something else under the same id.
    Conflict,
    /// Somebody works on it.
    Busy,
    /// Whoever began it is dead: take it over.
    TakeOver,
}

impl Instance {
    /// Whether two requests ask for the same instance. Compared with the present state, not with the first request
    /// (OSB rows PR-2 to PR-4); what nobody recorded of an adopted instance matches anything.
    pub fn is_same_as(&self, request: &ProvisionRequest) -> bool {
        let same = |recorded: &Option<String>, asked: &str| recorded.as_deref().is_none_or(|recorded| recorded == asked);
        same(&self.service_id, &request.service_id)
            && self.plan_id.as_deref() == Some(request.plan_id.as_str())
            && same(&self.organization_guid, &request.organization_guid)
            && same(&self.space_guid, &request.space_guid)
            && self.parameters == request.parameters
    }

    /// Whether cf-mysql-broker made it: it kept no time.
    pub fn is_adopted(&self) -> bool {
        self.created_at.is_none()
    }

    /// Whether an app can use it.
    pub fn is_usable(&self) -> bool {
        matches!(self.state, InstanceState::Ready | InstanceState::Updating)
    }

    /// Whether its database may be so large that deleting it outlasts a request: the plan has 10 GB or more.
    pub fn is_large(&self) -> bool {
        self.max_storage_mb >= LARGE_MB
    }

    /// Whether this row was adopted and nobody has recorded whose it is.
    pub fn lacks_owner(&self) -> bool {
        self.service_id.is_none() || self.organization_guid.is_none() || self.space_guid.is_none()
    }

    /// Decides a repeated PUT.
    pub fn on_provision(&self, request: &ProvisionRequest) -> Repeat {
        match self.state {
            InstanceState::Ready if self.is_same_as(request) => Repeat::Same,
            InstanceState::Ready => Repeat::Conflict,
            _ if self.lease_live => Repeat::Busy,
            InstanceState::Creating if !self.is_same_as(request) => Repeat::Conflict,
            _ => Repeat::TakeOver,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(state: InstanceState, lease_live: bool) -> Instance {
        Instance {
            row: 1,
            id: InstanceId::from_stored("i1".into()),
            service_id: Some("s".into()),
            plan_id: Some("p".into()),
            next_plan_id: None,
            database: "cf_x".into(),
            max_storage_mb: 10,
            organization_guid: Some("o".into()),
            space_guid: Some("sp".into()),
            parameters: Parameters::new(),
            context: Map::new(),
            maintenance_version: None,
            state,
            op: None,
            lease_live,
            reserved_bytes: 0,
            created_at: None,
        }
    }

    #[test]
    fn large_is_what_a_plan_of_ten_gigabytes_sells() {
        let of = |max_storage_mb| Instance { max_storage_mb, ..instance(InstanceState::Ready, false) };
        assert!(!of(10_239).is_large() && of(10_240).is_large());
    }

    fn request() -> ProvisionRequest {
        ProvisionRequest {
            id: InstanceId::from_stored("i1".into()),
            service_id: "s".into(),
            plan_id: "p".into(),
            organization_guid: "o".into(),
            space_guid: "sp".into(),
            parameters: Parameters::new(),
            context: Map::new(),
            maintenance_version: None,
        }
    }

    #[test]
    fn repeats() {
        use InstanceState::*;
        let other = ProvisionRequest { plan_id: "q".into(), ..request() };
        assert_eq!(instance(Ready, false).on_provision(&request()), Repeat::Same);
        assert_eq!(instance(Ready, false).on_provision(&other), Repeat::Conflict);
        assert_eq!(instance(Creating, true).on_provision(&request()), Repeat::Busy);
        assert_eq!(instance(Creating, true).on_provision(&other), Repeat::Busy);
        assert_eq!(instance(Creating, false).on_provision(&request()), Repeat::TakeOver);
        assert_eq!(instance(Creating, false).on_provision(&other), Repeat::Conflict);
        assert_eq!(instance(Deleting, true).on_provision(&request()), Repeat::Busy);
        assert_eq!(instance(Deleting, false).on_provision(&other), Repeat::TakeOver);
    }

    #[test]
    fn names_and_key_order_do_not_matter_but_parameters_do() {
        let mut with = request();
        with.context.insert("instance_name".into(), "new".into());
        with.maintenance_version = Some("2.0.0".into());
        assert!(instance(InstanceState::Ready, false).is_same_as(&with));
        with.parameters.insert("charset".into(), "latin1".into());
        assert!(!instance(InstanceState::Ready, false).is_same_as(&with));
    }

    #[test]
    fn an_adopted_instance_matches_any_owner_but_not_another_plan() {
        let adopted = Instance { service_id: None, organization_guid: None, space_guid: None, ..instance(InstanceState::Ready, false) };
        assert_eq!(adopted.on_provision(&request()), Repeat::Same);
        assert_eq!(adopted.on_provision(&ProvisionRequest { plan_id: "q".into(), ..request() }), Repeat::Conflict);
    }

    #[test]
    fn states_survive_the_table() {
        for state in [InstanceState::Creating, InstanceState::Ready, InstanceState::Updating, InstanceState::Deleting] {
            assert_eq!(InstanceState::parse(state.as_str()), Some(state));
        }
    }
}
