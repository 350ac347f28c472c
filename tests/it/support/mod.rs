//! What every test stands on: a real server, real broker processes, real HTTP.
//!
//! `CF_MYSQL_BROKER_TEST_SERVER` says which server the suite runs against: `mariadb` (default), `mysql`, or
//! `galera` (three nodes). One server serves
//! the whole suite; each test has schema, accounts and brokers of its own on it.

pub mod bed;
pub mod broker;
pub mod naive;
pub mod osb;
pub mod proxy;
pub mod server;

pub use bed::{Bed, BedOptions};
pub use broker::BrokerProcess;
pub use osb::{Answer, Osb};
pub use server::{TestServer, cluster, is_galera, is_mariadb, own_server, shared_server};

use std::future::Future;
use std::time::{Duration, Instant};

/// How long a test waits for what must happen. Long enough for a busy machine: nothing is measured by it.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Looks until `probe` gives something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut probe: impl FnMut() -> F) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "within {} s: {what}", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A random lower-case word.
pub fn unique() -> String {
    cf_mysql_broker::domain::names::random_hex(5)
}
