//! A service binding: one account of its own.

use super::ids::BindingId;
use super::instance::{OpId, Repeat};
use super::parameters::Parameters;

/// Where a binding is between two final states (ready, and gone).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindingState {
    /// Its account may exist.
    Creating,
    /// Its account exists.
    Ready,
    /// On its way out.
    Deleting,
}

impl BindingState {
    /// The word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Ready => "ready",
            Self::Deleting => "deleting",
        }
    }

    /// Reads the word in the table.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Creating, Self::Ready, Self::Deleting].into_iter().find(|state| state.as_str() == word)
    }
}

/// A MySQL account: user name and host pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Account {
    /// User name.
    pub user: String,
    /// Host pattern; `%` for every account this broker makes.
    pub host: String,
}

impl Account {
    /// An account that may come from anywhere.
    pub fn from_anywhere(user: String) -> Self {
        Self { user, host: "%".to_owned() }
    }
}

/// What the row of a binding says.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// Primary key.
    pub row: i64,
    /// The instance's primary key.
    pub instance_row: i64,
    /// The platform's id.
    pub id: BindingId,
    /// The offering it was made with.
    pub service_id: String,
    /// The plan it was made with.
    pub plan_id: String,
    /// The app it is for; none for service keys.
    pub app_guid: Option<String>,
    /// The parameters it was made with.
    pub parameters: Parameters,
    /// It can read, and nothing else.
    pub read_only: bool,
    /// Its account.
    pub account: Account,
    /// Which of `bindings.secrets` its password is derived from.
    pub secret_id: String,
    /// The random value its password is derived from.
    pub salt: String,
    /// Where it is.
    pub state: BindingState,
    /// Who is working on it, while the state is not final.
    pub op: Option<OpId>,
    /// The binding it replaces.
    pub predecessor: Option<BindingId>,
    /// Its time is over.
    pub is_expired: bool,
    /// When its time is over, as the API writes dates.
    pub expires_at: Option<String>,
    /// When it should be renewed, as the API writes dates.
    pub renew_before: Option<String>,
    /// The one who works on it is still in time, by the database's clock.
    pub lease_live: bool,
}

/// What a platform asks for with a PUT of a binding, after parsing. With a predecessor, whatever is not given is the
/// predecessor's (OSB row BR-2).
#[derive(Debug, Clone, PartialEq)]
pub struct AskedBinding {
    /// The platform's id.
    pub id: BindingId,
    /// The offering.
    pub service_id: Option<String>,
    /// The plan.
    pub plan_id: Option<String>,
    /// `bind_resource.app_guid`, or the deprecated top-level one.
    pub app_guid: Option<String>,
    /// None where absent or null.
    pub parameters: Option<Parameters>,
    /// The binding to replace.
    pub predecessor: Option<BindingId>,
}

/// A binding to be made, with everything known.
#[derive(Debug, Clone, PartialEq)]
pub struct BindRequest {
    /// The platform's id.
    pub id: BindingId,
    /// The offering.
    pub service_id: String,
    /// The plan.
    pub plan_id: String,
    /// The app it is for; none for service keys.
    pub app_guid: Option<String>,
    /// What the platform passed on.
    pub parameters: Parameters,
    /// The binding it replaces.
    pub predecessor: Option<BindingId>,
}

impl BindRequest {
    /// The parameter `read-only`.
    pub fn read_only(&self) -> bool {
        self.parameters.get("read-only").and_then(serde_json::Value::as_bool).unwrap_or(false)
    }
}

impl Binding {
    /// Whether everything that is given agrees with this binding. The instance's current plan always counts as the same
    /// one, because it may have changed since (OSB row BI-4). Without `complete`, what is not given agrees.
    pub fn agrees_with(&self, asked: &AskedBinding, current_plan: Option<&str>, complete: bool) -> bool {
        let service = asked.service_id.as_ref().is_none_or(|id| *id == self.service_id);
        let plan = asked.plan_id.as_ref().is_none_or(|id| *id == self.plan_id || current_plan == Some(id.as_str()));
        let app = if complete || asked.app_guid.is_some() { asked.app_guid == self.app_guid } else { true };
        let parameters = match &asked.parameters {
            Some(parameters) => *parameters == self.parameters,
            None => !complete || self.parameters.is_empty(),
        };
        service && plan && app && parameters
    }

    /// Decides a repeated PUT (OSB rows BI-2 to BI-4, BR-5).
    pub fn on_bind(&self, asked: &AskedBinding, current_plan: Option<&str>) -> Repeat {
        let same = self.predecessor == asked.predecessor && self.agrees_with(asked, current_plan, asked.predecessor.is_none());
        match self.state {
            BindingState::Ready if same => Repeat::Same,
            BindingState::Ready => Repeat::Conflict,
            _ if self.lease_live => Repeat::Busy,
            BindingState::Creating if !same => Repeat::Conflict,
            _ => Repeat::TakeOver,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(state: BindingState, lease_live: bool) -> Binding {
        Binding {
            row: 1,
            instance_row: 1,
            id: BindingId::from_stored("b1".into()),
            service_id: "s".into(),
            plan_id: "p".into(),
            app_guid: Some("a".into()),
            parameters: Parameters::new(),
            read_only: false,
            account: Account::from_anywhere("u".into()),
            secret_id: "1".into(),
            salt: "00".into(),
            state,
            op: None,
            predecessor: None,
            is_expired: false,
            expires_at: None,
            renew_before: None,
            lease_live,
        }
    }

    fn request(plan: &str, app: Option<&str>) -> AskedBinding {
        AskedBinding {
            id: BindingId::from_stored("b1".into()),
            service_id: Some("s".into()),
            plan_id: Some(plan.into()),
            app_guid: app.map(str::to_owned),
            parameters: None,
            predecessor: None,
        }
    }

    #[test]
    fn a_rotation_inherits_what_it_does_not_say() {
        let rotated = Binding { predecessor: Some(BindingId::from_stored("b0".into())), ..binding(BindingState::Ready, false) };
        let only = |predecessor: &str| AskedBinding {
            service_id: None,
            plan_id: None,
            app_guid: None,
            predecessor: Some(BindingId::from_stored(predecessor.into())),
            ..request("p", None)
        };
        assert_eq!(rotated.on_bind(&only("b0"), Some("p")), Repeat::Same);
        assert_eq!(rotated.on_bind(&only("other"), Some("p")), Repeat::Conflict);
        assert_eq!(rotated.on_bind(&AskedBinding { app_guid: Some("b".into()), ..only("b0") }, Some("p")), Repeat::Conflict);
        assert_eq!(rotated.on_bind(&request("p", Some("a")), Some("p")), Repeat::Conflict);
    }

    #[test]
    fn repeats() {
        use BindingState::*;
        assert_eq!(binding(Ready, false).on_bind(&request("p", Some("a")), Some("p")), Repeat::Same);
        assert_eq!(binding(Ready, false).on_bind(&request("new", Some("a")), Some("new")), Repeat::Same);
        assert_eq!(binding(Ready, false).on_bind(&request("other", Some("a")), Some("new")), Repeat::Conflict);
        assert_eq!(binding(Ready, false).on_bind(&request("p", None), Some("p")), Repeat::Conflict);
        assert_eq!(binding(Creating, true).on_bind(&request("p", Some("a")), Some("p")), Repeat::Busy);
        assert_eq!(binding(Creating, false).on_bind(&request("p", Some("a")), Some("p")), Repeat::TakeOver);
        assert_eq!(binding(Deleting, false).on_bind(&request("p", None), Some("p")), Repeat::TakeOver);
    }
}
