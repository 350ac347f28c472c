//! `dev`: the whole product on a private database server, to try it out, to demonstrate it, and to write apps against.

mod demo;
mod round_robin;
mod state;
mod transcript;

use std::path::PathBuf;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::serve::{Service, stop_signal};
use super::{Failure, Result, output};
use crate::domain::credentials::Endpoint;
use crate::local_server::{Flavor, LocalServer, Options, Program};
use crate::mysql::operator_accounts::{self, OperatorAccounts};
use crate::mysql::{Mysql, schema};
use crate::settings::SharedSettings;
use crate::telemetry;
use state::State;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Port of the round robin in front of the brokers; a free one by default.
    #[arg(long, value_name = "N", default_value_t = 0)]
    port: u16,
    /// Keep the data here for the next time; a temporary directory by default.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Size of the pretended persistent disk in MB.
    #[arg(long, value_name = "MB", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    disk: u64,
    /// How many brokers.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=32))]
    brokers: u8,
    /// Which server; by default MariaDB where there is one, else MySQL.
    #[arg(long, value_enum)]
    server: Option<ServerFlavor>,
    /// Print one line of JSON when ready, then nothing but logs on stderr.
    #[arg(long)]
    json: bool,
    /// Walk the whole story, say what is seen, and end: exit 0 if every step did what it should.
    #[arg(long)]
    demo: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum ServerFlavor {
    #[value(name = "mariadb")]
    MariaDb,
    #[value(name = "mysql")]
    MySql,
}

impl From<ServerFlavor> for Flavor {
    fn from(flavor: ServerFlavor) -> Self {
        match flavor {
            ServerFlavor::MariaDb => Self::MariaDb,
            ServerFlavor::MySql => Self::MySql,
        }
    }
}

/// What is running, for the transcript, for `--json` and for the demonstration.
struct Running {
    url: String,
    brokers: Vec<String>,
    server: Endpoint,
    server_name: String,
    state: State,
}

pub(super) async fn run(arguments: Arguments) -> Result<()> {
    let stopped = stop_signal()?;
    let state = State::open(arguments.data_dir.as_deref(), arguments.disk)?;
    telemetry::init_logs(state.logging(arguments.json, arguments.demo));
    let metrics = telemetry::init_metrics().map_err(anyhow::Error::from)?;
    let program = Program::find(arguments.server.map(Flavor::from))?;
    let say = |text: &str| {
        if !arguments.json {
            println!("{text}");
        }
    };
    let server_name = format!("{} {}", program.flavor(), program.version());
    say(&format!("Starting a private {server_name} ..."));
    let options = Options {
        data_dir: arguments.data_dir.as_ref().map(|directory| directory.join("server")),
        root_password: Some(state.root_password().to_owned()),
        durable: true,
        ..Options::default()
    };
    let mut server = LocalServer::start(&program, options).await?;
    let endpoint = Endpoint { host: server.host().to_owned(), port: server.port() };
    let outcome = async {
        let settings = state.settings(&endpoint)?;
        let accounts = OperatorAccounts {
            broker: (&settings.mysql.username, &settings.mysql.password),
            enforcer: (state::ENFORCER, &settings.quota_enforcer.password),
            database: &settings.mysql.database,
        };
        operator_accounts::create(&endpoint, &state.root_password().to_owned().into(), &accounts).await?;
        schema::migrate(&Mysql::new(&settings.mysql), settings.capacity.rules().per_instance).await?;

        let stop = CancellationToken::new();
        let mut ports = Vec::new();
        let mut services = tokio::task::JoinSet::new();
        for _ in 0..arguments.brokers {
            let settings = SharedSettings::new(arc_swap::ArcSwap::from_pointee(settings.clone()));
            let service = Service::start(settings, metrics.clone())?;
            ports.push(service.port());
            services.spawn(service.run_until(stop.clone().cancelled_owned()));
        }
        let front = round_robin::bind(arguments.port)
            .await
            .map_err(|error| anyhow::anyhow!("port {} cannot be listened on: {error}", arguments.port))?;
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let running = Running {
            url: url(front.local_addr()?.port()),
            brokers: ports.iter().map(|port| url(*port)).collect(),
            server: endpoint.clone(),
            server_name: server_name.clone(),
            state,
        };
        let balancing = round_robin::serve(front, ports);
        let result = tokio::select! {
            done = show(&arguments, &running) => done,
            () = balancing => Ok(()),
            () = stopped => Ok(()),
        };
        stop.cancel();
        while let Some(ended) = services.join_next().await {
            ended.map_err(anyhow::Error::from)??;
        }
        result
    }
    .await;
    server.stop().await?;
    outcome
}

/// Ends after the demonstration; without one it never does.
async fn show(arguments: &Arguments, running: &Running) -> Result<()> {
    if arguments.json {
        output::json(&json!({
            "url": running.url,
            "username": state::ADMIN,
            "password": running.state.admin_password(),
            "mysql": {
                "host": running.server.host,
                "port": running.server.port,
                "username": "root",
                "password": running.state.root_password(),
            },
            "brokers": running.brokers,
        }))?;
    }
    if arguments.demo {
        let ok = demo::run(running, !arguments.json).await;
        return if ok { Ok(()) } else { Err(Failure::Said) };
    }
    if !arguments.json {
        transcript::print(running);
    }
    std::future::pending().await
}
