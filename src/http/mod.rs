//! The edge: requests become calls of the broker, its answers become responses. The only folder that imports actix, and it
//! holds no rule of the broker's.

mod auth;
mod bindings;
mod body;
mod catalog;
mod error;
mod health;
mod identity;
mod instances;
mod observe;
mod paths;
mod tls;
mod to_the_end;
mod version;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::middleware::{NormalizePath, TrailingSlash, from_fn};
use actix_web::{App, HttpServer, Route, web};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::broker::Broker;
pub use tls::{Certificates, TlsError};
pub use to_the_end::ToTheEnd;
use version::require_version;

/// The largest request body in bytes; a larger one is 413.
const MAX_BODY: usize = 1 << 20;
/// How long running requests may take after SIGTERM. What comes after them needs the rest of the 20 s after which bpm and others kill.
pub const DRAIN: Duration = Duration::from_secs(17);

/// What every handler sees.
pub struct Api {
    broker: Arc<Broker>,
    to_the_end: ToTheEnd,
    metrics: PrometheusHandle,
    draining: AtomicBool,
    logins: auth::FailedLogins,
}

impl Api {
    /// How long work may take before it is answered with 202.
    fn sync_wait(&self) -> Duration {
        self.broker.settings().server.sync_wait()
    }
}

/// A broker that listens.
pub struct Application {
    server: Server,
    api: Arc<Api>,
    port: u16,
}

/// Ends an [`Application`] from elsewhere.
#[derive(Clone)]
pub struct Stopper {
    handle: ServerHandle,
    api: Arc<Api>,
}

impl Application {
    /// Binds the port. `certificates`: serve TLS with them.
    ///
    /// # Errors
    /// The address is taken or not this machine's.
    pub fn build(broker: Arc<Broker>, metrics: PrometheusHandle, certificates: Option<&Certificates>) -> std::io::Result<Self> {
        let settings = broker.settings();
        let (address, port) = (settings.server.bind_address.as_str(), settings.server.port);
        let listener = TcpListener::bind((address, port))
            .map_err(|error| cannot_listen(&format!("{address}:{port}"), "server.bind_address and server.port", &error))?;
        let port = listener.local_addr()?.port();
        let api = Arc::new(Api {
            broker,
            to_the_end: ToTheEnd::new(settings.server.max_operations),
            logins: auth::FailedLogins::default(),
            metrics,
            draining: AtomicBool::new(false),
        });
        let data = web::Data::from(api.clone());
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .configure(routes)
                .wrap(from_fn(observe::observe))
                // the last one is the first to see a request: what is observed is what is routed
                .wrap(NormalizePath::new(TrailingSlash::MergeOnly))
        })
        .workers(2)
        .shutdown_timeout(DRAIN.as_secs())
        .disable_signals();
        let server = match certificates {
            Some(certificates) => server.listen_rustls_0_23(listener, certificates.server_config())?,
            None => server.listen_auto_h2c(listener)?,
        };
        Ok(Self { server: server.run(), api, port })
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A handle that ends it.
    pub fn stopper(&self) -> Stopper {
        Stopper { handle: self.server.handle(), api: self.api.clone() }
    }

    /// Serves until it is stopped, then lets running operations come to their end.
    ///
    /// # Errors
    /// Whatever the server stumbles over.
    pub async fn run_until_stopped(self) -> std::io::Result<()> {
        let result = self.server.await;
        self.api.to_the_end.finish(DRAIN).await;
        result
    }
}

impl Stopper {
    /// Not ready any more, no new connections, running requests end; waits for them.
    pub async fn stop(&self) {
        self.api.draining.store(true, Ordering::Relaxed);
        self.handle.stop(true).await;
    }
}

/// Every route there is. Under `/v2` who is asking comes before what, so that nothing leaks about routes; what comes before how: a path
/// or method that does not exist does so in no version.
fn routes(config: &mut web::ServiceConfig) {
    let instance = web::resource("/service_instances/{instance_id}")
        .route(versioned(web::put().to(instances::provision)))
        .route(versioned(web::get().to(instances::fetch)))
        .route(versioned(web::patch().to(instances::update)))
        .route(versioned(web::delete().to(instances::deprovision)))
        .default_service(web::to(|| error::method_not_allowed("GET, PUT, PATCH, DELETE")));
    let binding = web::resource("/service_instances/{instance_id}/service_bindings/{binding_id}")
        .route(versioned(web::put().to(bindings::bind)))
        .route(versioned(web::get().to(bindings::fetch)))
        .route(versioned(web::delete().to(bindings::unbind)))
        .default_service(web::to(|| error::method_not_allowed("GET, PUT, DELETE")));
    let only_get = || web::to(|| error::method_not_allowed("GET"));
    let v2 = web::scope("/v2")
        .service(web::resource("/catalog").route(versioned(web::get().to(catalog::catalog))).default_service(only_get()))
        .service(instance)
        .service(
            web::resource("/service_instances/{instance_id}/last_operation")
                .route(versioned(web::get().to(instances::last_operation)))
                .default_service(only_get()),
        )
        .service(binding)
        .service(
            web::resource("/service_instances/{instance_id}/service_bindings/{binding_id}/last_operation")
                .route(versioned(web::get().to(bindings::last_operation)))
                .default_service(only_get()),
        )
        .default_service(web::to(error::no_such_route))
        .wrap(from_fn(auth::authenticate));
    config
        .app_data(web::PayloadConfig::new(MAX_BODY))
        .service(v2)
        .service(web::resource("/health").route(web::get().to(health::health)).default_service(only_get()))
        .service(web::resource("/ready").route(web::get().to(health::ready)).default_service(only_get()))
        .service(web::resource("/metrics").route(web::get().to(health::metrics)).default_service(only_get()))
        .service(web::resource("/info").route(web::get().to(health::info)).default_service(only_get()))
        .default_service(web::to(error::no_such_route));
}

/// A route that asks for the version of the API first.
fn versioned(route: Route) -> Route {
    route.wrap(from_fn(require_version))
}

/// Serves `/metrics` and `/health` alone, for a process without a broker.
///
/// # Errors
/// The address is taken or not this machine's.
pub async fn serve_metrics(address: &str, metrics: PrometheusHandle) -> std::io::Result<()> {
    let metrics = web::Data::new(metrics);
    HttpServer::new(move || {
        App::new()
            .app_data(metrics.clone())
            .route("/metrics", web::get().to(health::bare_metrics))
            .route("/health", web::get().to(health::health))
            .default_service(web::to(error::no_such_route))
    })
    .workers(1)
    .disable_signals()
    .bind(address)
    .map_err(|error| cannot_listen(address, "quota_enforcer.metrics_address", &error))?
    .run()
    .await
}

fn cannot_listen(address: &str, settings: &str, error: &std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), format!("cannot listen on {address} ({settings}): {error}"))
}
