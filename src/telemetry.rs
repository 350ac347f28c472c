//! Logs and metrics. Logs go to stderr, because stdout is for results; coloured on a terminal only. No library logs
//! statements (see `mysql::nodes`), so no secret can reach a log this way.

use std::io::IsTerminal as _;
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use crate::settings::{LogFormat, LogLevel, LoggingSettings};

/// Starts logging. Later calls change nothing: the first one in a process counts.
pub fn init_logs(settings: LoggingSettings) {
    // libraries speak up when something is wrong; the program itself as loud as the operator wants
    let filter = Targets::new().with_default(LevelFilter::WARN).with_target("cf_mysql_broker", filter_of(settings.level));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    // an error means that a subscriber is installed already
    let _ = match settings.format {
        LogFormat::Json => registry.with(lines.json().flatten_event(true).with_current_span(true).with_span_list(false)).try_init(),
        LogFormat::Text => registry.with(lines.with_ansi(std::io::stderr().is_terminal()).with_target(false)).try_init(),
    };
}

fn filter_of(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Seconds, from a millisecond to the platform's patience.
const BUCKETS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// After which time a gauge that nobody sets is no longer published: longer than the quota enforcer goes without a look at everybody.
const IDLE: Duration = Duration::from_secs(300);

/// Starts collecting metrics.
///
/// # Errors
/// A recorder is installed already.
pub fn init_metrics() -> Result<PrometheusHandle, BuildError> {
    // a database that is no longer among the fullest must not stay among them: whatever is in force is set again all the time
    let builder = PrometheusBuilder::new().idle_timeout(MetricKindMask::GAUGE, Some(IDLE));
    let handle = builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), BUCKETS)?.install_recorder()?;
    describe();
    Ok(handle)
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("cf_mysql_broker_requests_total", "Requests by route and status.");
    describe_histogram!("cf_mysql_broker_request_seconds", "Time to answer a request, by route.");
    describe_gauge!("cf_mysql_capacity_megabytes", "The disk, what nobody can buy, what is sold, what is left.");
    describe_gauge!("cf_mysql_instances", "Service instances by plan and state.");
    describe_gauge!("cf_mysql_bindings", "Service bindings by plan.");
    describe_counter!("cf_mysql_transaction_retries_total", "Transactions that were sent again after a deadlock or a lost connection.");
    describe_counter!("cf_mysql_operations_recovered_total", "Operations of a dead broker that this one finished or undid.");
    describe_gauge!("cf_mysql_orphans", "What `reconcile` would report, by kind.");
    describe_counter!("cf_mysql_audit_entries_lost_total", "Entries of the audit trail that found no room, or that the database refused.");
    describe_counter!("cf_mysql_enforcer_passes_total", "Passes of the quota enforcer.");
    describe_histogram!("cf_mysql_enforcer_pass_seconds", "Time of one pass.");
    describe_gauge!("cf_mysql_enforcer_leader", "1 where this process leads.");
    describe_gauge!("cf_mysql_enforcer_violators", "Databases over their quota.");
    describe_counter!("cf_mysql_enforcer_warnings_total", "Databases that crossed a warning threshold, by threshold.");
    describe_gauge!("cf_mysql_instance_usage_ratio", "Used part of the quota of the fullest databases.");
    describe_gauge!("cf_mysql_instances_by_usage_ratio", "Databases that use at most this part of their quota.");
    describe_counter!("cf_mysql_enforcer_revocations_total", "Accounts whose write privileges were taken.");
    describe_counter!("cf_mysql_enforcer_restorations_total", "Accounts whose write privileges were given back.");
    describe_counter!("cf_mysql_enforcer_failures_total", "Databases, or passes, about which something failed.");
}
