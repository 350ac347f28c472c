//! `check-config`: every problem at once.

use super::{Config, Result};

pub(super) fn run(config: &Config) -> Result<()> {
    let settings = config.load()?;
    if let Some(tls) = &settings.server.tls {
        super::serve::read_certificates(tls)?;
    }
    let plans: usize = settings.catalog.services.iter().map(|service| service.plans.len()).sum();
    println!("The settings are right: {} service(s), {plans} plan(s).", settings.catalog.services.len());
    Ok(())
}
