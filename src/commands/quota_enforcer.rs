//! `quota-enforcer`: the enforcer as a process of its own, whatever `quota_enforcer.enabled` says.

use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use super::{Config, Result, reload, serve};
use crate::enforcer::{Enforcer, PassReport};
use crate::mysql::Mysql;
use crate::settings::SharedSettings;
use crate::{http, telemetry};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: Config,
    /// Make one pass, even while another enforcer leads; exit 0 if it was completed.
    #[arg(long)]
    once: bool,
    /// With --once: print the pass report as JSON.
    #[arg(long, requires = "once")]
    json: bool,
}

pub(super) async fn run(arguments: &Arguments) -> Result<()> {
    let settings = arguments.config.load()?;
    telemetry::init_logs(settings.logging);
    let metrics = telemetry::init_metrics().map_err(anyhow::Error::from)?;
    let mysql = Mysql::new(&settings.enforcer_mysql());
    let metrics_address = settings.quota_enforcer.metrics_address.clone();
    let settings = SharedSettings::new(arc_swap::ArcSwap::from_pointee(settings));
    let mut enforcer = Enforcer::new(mysql.clone(), settings.clone());
    if arguments.once {
        let report = enforcer.once().await?;
        return show(&report, arguments.json);
    }
    let stop = CancellationToken::new();
    let stopped = serve::stop_signal()?;
    let reloading = reload::on_hangup(arguments.config.config.clone(), settings, None)?;
    let mut running = tokio::spawn(enforcer.run(stop.clone()));
    let warning = tokio::spawn(serve::warn_of_an_old_server(mysql));
    let ended = tokio::select! {
        () = stopped => None,
        () = reloading => None,
        served = serve_metrics(metrics_address, metrics) => { served?; None }
        // a process that does not enforce must not look as if it did
        ended = &mut running => Some(ended),
    };
    warning.abort();
    stop.cancel();
    match ended {
        Some(ended) => ended,
        None => running.await,
    }
    .map_err(anyhow::Error::from)?;
    tracing::info!("stopped");
    Ok(())
}

/// Serves /metrics where the operator wants it, else waits for ever.
async fn serve_metrics(address: Option<String>, metrics: PrometheusHandle) -> Result<()> {
    match address {
        None => std::future::pending().await,
        Some(address) => Ok(http::serve_metrics(&address, metrics).await?),
    }
}

fn show(report: &PassReport, json: bool) -> Result<()> {
    if json {
        super::output::json(report)?;
    } else {
        println!(
            "{} databases, {} looked at exactly; {} over their quota ({} new), {} back under it; {} accounts revoked, {} restored, {} sessions ended; {} failures.",
            report.databases,
            report.suspects,
            report.over,
            report.violators,
            report.reformers,
            report.revoked,
            report.restored,
            report.sessions_ended,
            report.failures
        );
    }
    if report.failures > 0 { Err(super::Failure::Said) } else { Ok(()) }
}
