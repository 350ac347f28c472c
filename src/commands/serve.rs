//! `serve`: the broker, and beside it whatever keeps it going.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Config, Failure, Result, reload};
use crate::broker::Broker;
use crate::enforcer::Enforcer;
use crate::http::{Application, Certificates, DRAIN};
use crate::mysql::{Mysql, schema};
use crate::settings::{Problem, Problems, ServerTls, SharedSettings};
use crate::telemetry;

/// How long after [`DRAIN`] the audit trail may be written and the enforcer's lease given back.
const LAST: Duration = Duration::from_secs(2);

pub(super) async fn run(config: &Config) -> Result<()> {
    let settings = config.load()?;
    telemetry::init_logs(settings.logging);
    let metrics = telemetry::init_metrics().map_err(anyhow::Error::from)?;
    let settings = SharedSettings::new(arc_swap::ArcSwap::from_pointee(settings));
    let service = Service::start(settings.clone(), metrics)?;
    let stopped = stop_signal()?;
    let reloading = reload::on_hangup(config.config.clone(), settings, service.certificates.clone())?;
    tokio::select! {
        done = service.run_until(stopped) => done,
        () = reloading => Ok(()),
    }
}

/// Reads the certificate and its key.
pub(super) fn read_certificates(tls: &ServerTls) -> Result<Certificates> {
    Certificates::read(tls).map_err(|error| {
        let text = error.to_string();
        let (path, text) = text.split_once(": ").unwrap_or(("server.tls", &text));
        Failure::Settings(Problems(vec![Problem { path: path.to_owned(), text: text.to_owned() }]))
    })
}

/// SIGTERM or SIGINT.
pub(super) fn stop_signal() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        }
    })
}

/// A broker that listens, with its sibling tasks.
pub(super) struct Service {
    application: Application,
    certificates: Option<Certificates>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Service {
    /// Starts everything. The database need not be there: the service waits for it, not ready until then.
    pub(super) fn start(settings: SharedSettings, metrics: PrometheusHandle) -> Result<Self> {
        let current = settings.load_full();
        let certificates = current.server.tls.as_ref().map(read_certificates).transpose()?;
        let mysql = Mysql::new(&current.mysql);
        let broker = Arc::new(Broker::new(mysql.clone(), settings.clone()));
        let application = Application::build(broker.clone(), metrics, certificates.as_ref())?;
        tracing::info!(port = application.port(), tls = certificates.is_some(), version = env!("CARGO_PKG_VERSION"), "listening");
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let spawn = |task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
            let stop = stop.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = task => {}
                    () = stop.cancelled() => {}
                }
            });
        };
        if current.mysql.migrate {
            spawn(Box::pin(migrate_until_done(mysql.clone(), settings.clone())));
        }
        spawn(Box::pin(warn_of_an_old_server(mysql.clone())));
        spawn(Box::pin(keep_moving_on(mysql)));
        {
            let broker = broker.clone();
            spawn(Box::pin(async move { broker.keep_clean().await }));
        }
        {
            let broker = broker.clone();
            spawn(Box::pin(async move { broker.keep_counting().await }));
        }
        {
            let (broker, stop) = (broker.clone(), stop.clone());
            tasks.spawn(async move { broker.keep_auditing(stop).await });
        }
        spawn(Box::pin(async move { broker.keep_sweeping().await }));
        if current.quota_enforcer.enabled {
            let enforcer = Enforcer::new(Mysql::new(&current.enforcer_mysql()), settings);
            tasks.spawn(enforcer.run(stop.clone()));
        }
        Ok(Self { application, certificates, tasks, stop })
    }

    /// The port it listens on.
    pub(super) fn port(&self) -> u16 {
        self.application.port()
    }

    /// Serves until `stopped`, then lets running requests end.
    pub(super) async fn run_until(self, stopped: impl Future<Output = ()>) -> Result<()> {
        let Self { application, tasks, stop, .. } = self;
        let stopper = application.stopper();
        let serving = application.run_until_stopped();
        tokio::pin!(serving);
        tokio::select! {
            done = &mut serving => return Ok(done?),
            () = stopped => {}
        }
        let draining = async { tokio::join!(serving, stopper.stop()).0 };
        let done = tokio::time::timeout(DRAIN, draining).await.unwrap_or_else(|_| {
            tracing::warn!("some requests have not ended in time; another broker finishes or undoes what they began");
            Ok(())
        });
        stop.cancel();
        tasks.close();
        if tokio::time::timeout(LAST, tasks.wait()).await.is_err() {
            tracing::warn!("no database to write the end of the audit trail to, or to give the enforcer's lease back");
        }
        tracing::info!("stopped");
        Ok(done?)
    }
}

/// Migrates as soon as there is a database; never gives up, never ends the process.
async fn migrate_until_done(mysql: Mysql, settings: SharedSettings) {
    let mut pause = Duration::from_millis(250);
    loop {
        match schema::migrate(&mysql, settings.load().capacity.rules().per_instance).await {
            Ok(migrated) => return super::migrate::log(&migrated),
            Err(error) => tracing::warn!(%error, "the schema could not be brought up to date yet"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// Says once, as soon as the server answers, that it is older than this program needs. It is not left alone for that: what it knows
/// works.
pub(super) async fn warn_of_an_old_server(mysql: Mysql) {
    let info = loop {
        match mysql.info().await {
            Ok(info) => break info,
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    };
    if let Some(minimum) = info.too_old() {
        tracing::warn!(server = info.dialect.name(), version = info.version, needed = %minimum, "the database server is too old");
    }
}

async fn keep_moving_on(mysql: Mysql) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        mysql.move_on().await;
    }
}
