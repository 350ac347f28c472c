//! What can be asked for after `cargo bench --bench broker --`.

use std::path::PathBuf;
use std::time::Duration;

use cf_mysql_broker::local_server::Flavor;
use clap::{Parser, ValueEnum};

/// Measures the broker against the same statements sent straight to the server.
#[derive(Parser, Debug)]
pub struct Arguments {
    /// Fewer rounds and requests: a minute at most.
    #[arg(long)]
    pub quick: bool,
    /// The server to measure on.
    #[arg(long, value_enum, default_value = "mariadb")]
    pub server: Server,
    /// The figures as JSON instead of tables.
    #[arg(long)]
    pub json: bool,
    /// Numbers of clients.
    #[arg(long, value_delimiter = ',', default_value = "1,8,32")]
    pub clients: Vec<usize>,
    /// Existing instances.
    #[arg(long, value_delimiter = ',', default_value = "0,10000")]
    pub instances: Vec<u64>,
    /// The broker's `mysql.max_connections`.
    #[arg(long, default_value_t = 20)]
    pub connections: u32,
    /// Where to keep the server's data meanwhile [default: the build's directory].
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// Another build of the broker.
    #[arg(long)]
    pub broker: Option<PathBuf>,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    pub bench: bool,
}

#[derive(ValueEnum, Debug, Clone, Copy)]
pub enum Server {
    Mariadb,
    Mysql,
}

impl From<Server> for Flavor {
    fn from(server: Server) -> Self {
        match server {
            Server::Mariadb => Self::MariaDb,
            Server::Mysql => Self::MySql,
        }
    }
}

impl Arguments {
    /// Rounds of each pair; fewer when the time is up.
    pub fn rounds(&self) -> usize {
        if self.quick { 2 } else { 6 }
    }

    /// Requests of each verb in one run.
    pub fn requests(&self, clients: usize) -> usize {
        let full = match clients {
            1 => 160,
            2..=15 => 400,
            _ => 640,
        };
        if self.quick { full / 2 } else { full }
    }

    /// How long a pair of instances and clients may take; a round that has begun is finished.
    pub fn budget(&self) -> Duration {
        let all = Duration::from_secs(if self.quick { 40 } else { 240 });
        all / u32::try_from((self.clients.len() * self.instances.len()).max(1)).expect("a small number")
    }

    /// How long each look at the catalog takes.
    pub fn catalog_time(&self) -> Duration {
        Duration::from_millis(if self.quick { 500 } else { 1500 })
    }
}
