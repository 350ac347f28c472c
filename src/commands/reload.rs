//! SIGHUP: the settings are read again, all or nothing.

use std::future::Future;
use std::path::PathBuf;

use arc_swap::ArcSwap;
use tokio::signal::unix::{SignalKind, signal};

use super::{Config, Result};
use crate::http::Certificates;
use crate::settings::{Settings, SharedSettings};

/// Reloads at every SIGHUP, for ever.
pub(super) fn on_hangup(
    config: Option<PathBuf>,
    settings: SharedSettings,
    certificates: Option<Certificates>,
) -> Result<impl Future<Output = ()>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let config = Config { config };
    Ok(async move {
        while hangup.recv().await.is_some() {
            match reload(&config, &settings, certificates.as_ref()) {
                Ok(()) => {}
                Err(problems) => tracing::error!(%problems, "SIGHUP: the new settings are refused, the old ones stay in force"),
            }
        }
    })
}

fn reload(config: &Config, settings: &ArcSwap<Settings>, certificates: Option<&Certificates>) -> Result<()> {
    let mut new = config.load()?;
    let fixed = new.keep_fixed(&settings.load());
    // the last thing that can be refused
    if let (Some(tls), Some(certificates)) = (&new.server.tls, certificates) {
        certificates.reload(tls).map_err(anyhow::Error::from)?;
    }
    if !fixed.is_empty() {
        tracing::warn!(settings = fixed.join(", "), "SIGHUP: these settings have changed and need a restart");
    }
    tracing::info!(
        pause = new.quota_enforcer.pause,
        ignored_users = ?new.ignored_users(),
        minimum_dwell = new.quota_enforcer.minimum_dwell,
        restore_below = new.quota_enforcer.restore_below,
        warn_at = ?new.quota_enforcer.warn_at,
        credentials = new.server.credentials.len(),
        services = new.catalog.services.len(),
        "SIGHUP: new settings are in force"
    );
    settings.store(new.into());
    Ok(())
}
