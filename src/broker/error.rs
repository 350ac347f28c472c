//! The contract table: what went wrong, and with which status, code and sentence the platform hears of it (OSB API 2.17,
//! "Service Broker Errors"; `osb-requirements` rows ER-1 to ER-8). `Display` is the sentence for the end user; `source()` is
//! the cause, for the log.

use crate::domain::parameters::ParametersError;
use crate::mysql;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum OsbError {
    /// The request cannot be right, now or later.
    #[error("{0}")]
    BadRequest(String),
    /// A parameter that its schema forbids.
    #[error("{0}")]
    Parameters(#[from] ParametersError),
    /// No such instance or binding.
    #[error("{0}")]
    NotFound(String),
    /// Deleting what is not there.
    #[error("There is nothing to delete under this id.")]
    Gone,
    /// The id is taken by something else.
    #[error("{0}")]
    Conflict(String),
    /// Somebody works on the instance or binding.
    #[error("Another operation for this service instance is in progress. Please try again later.")]
    Concurrency,
    /// The platform's idea of the plan's maintenance version is not ours.
    #[error(
        "The maintenance version of the request is not the one of the catalog. The platform's operator has to refresh the catalog, then try again."
    )]
    MaintenanceInfoConflict,
    /// The disk is sold.
    #[error("Service capacity has been reached")]
    InsufficientCapacity,
    /// A smaller plan than the data.
    #[error(
        "The database uses {used_mb} MB, which is not less than the {quota_mb} MB of plan '{plan}'. Delete data and try again, or choose a larger plan."
    )]
    PlanQuotaExceeded {
        /// In use.
        used_mb: f64,
        /// Of the new plan.
        quota_mb: u64,
        /// Its name.
        plan: String,
    },
    /// The operator does not allow it.
    #[error("{0}")]
    UpdateNotSupported(String),
    /// No database at present.
    #[error("The database server is not available at present. Please try again later.")]
    Unavailable(#[source] mysql::Error),
    /// The work goes on, and the platform cannot wait longer.
    #[error("The operation takes longer than a request may. It goes on; please try again later.")]
    TakesTooLong,
    /// The work is undone, because the platform cannot wait longer.
    #[error("The operation takes longer than a request may, and is undone. Please try again later.")]
    GivenUp,
    /// As [`OsbError::TakesTooLong`], of a deletion so large that it will take longer again (OSB row SY-3).
    #[error(
        "Deleting a database of this size takes longer than a request may. It goes on; send accepts_incomplete=true to hear how it ends."
    )]
    AsyncRequired,
    /// More requests than the broker works on at once.
    #[error("The broker is busy. Please try again in a few seconds.")]
    Overloaded,
    /// Anything else.
    #[error("An internal error occurred. The operator finds the cause in the broker's log.")]
    Internal(#[source] Cause),
}

/// What the log says of [`OsbError::Internal`].
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The database refused a statement.
    #[error(transparent)]
    Database(#[from] mysql::Error),
    /// The credentials of a binding cannot be derived.
    #[error("the binding was made with the secret '{0}', which is not in bindings.secrets")]
    MissingSecret(String),
    /// A task of the broker ended without an answer.
    #[error("the operation ended without an answer: {0}")]
    NoAnswer(String),
}

impl OsbError {
    /// HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::BadRequest(_) | Self::Parameters(_) => 400,
            Self::NotFound(_) => 404,
            Self::Gone => 410,
            Self::Conflict(_) => 409,
            Self::Concurrency
            | Self::MaintenanceInfoConflict
            | Self::AsyncRequired
            | Self::PlanQuotaExceeded { .. }
            | Self::UpdateNotSupported(_) => 422,
            Self::InsufficientCapacity => 507,
            Self::Overloaded => 429,
            Self::Unavailable(_) | Self::TakesTooLong | Self::GivenUp => 503,
            Self::Internal(_) => 500,
        }
    }

    /// The `error` field: a code reserved by the specification, or one of ours.
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::Concurrency => Some("ConcurrencyError"),
            Self::MaintenanceInfoConflict => Some("MaintenanceInfoConflict"),
            Self::AsyncRequired => Some("AsyncRequired"),
            Self::InsufficientCapacity => Some("InsufficientCapacity"),
            Self::PlanQuotaExceeded { .. } => Some("PlanQuotaExceeded"),
            Self::UpdateNotSupported(_) => Some("UpdateNotSupported"),
            Self::BadRequest(_)
            | Self::Parameters(_)
            | Self::NotFound(_)
            | Self::Gone
            | Self::Conflict(_)
            | Self::Unavailable(_)
            | Self::TakesTooLong
            | Self::GivenUp
            | Self::Overloaded
            | Self::Internal(_) => None,
        }
    }

    /// Seconds after which to try again.
    pub fn retry_after(&self) -> Option<u32> {
        match self {
            Self::Unavailable(_) | Self::TakesTooLong | Self::GivenUp => Some(5),
            Self::Overloaded => Some(2),
            _ => None,
        }
    }

    /// Whether the same update may succeed later.
    pub fn is_update_repeatable(&self) -> bool {
        !matches!(self, Self::UpdateNotSupported(_) | Self::BadRequest(_) | Self::Parameters(_) | Self::NotFound(_))
    }
}

impl From<mysql::Error> for OsbError {
    fn from(error: mysql::Error) -> Self {
        if error.is_outage() || error.is_transient() { Self::Unavailable(error) } else { Self::Internal(error.into()) }
    }
}
