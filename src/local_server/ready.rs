//! From a process that was started to a server that greets: free ports, greetings, and why there is none.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::{TcpStream, UnixStream};

use super::error::{Doing as _, Error};
use super::log::{self, last_lines};
use super::place::Place;
use super::process::Running;

/// How long a server may take from its start to its first greeting.
pub(super) const READY_TIMEOUT: Duration = Duration::from_secs(60);
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// The port, if nobody listens on it at this moment; for 0, any such port.
pub(super) fn free_port(port: u16) -> Result<u16, Error> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|listener| listener.local_addr()) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(Error::PortInUse(port)),
        bound => Ok(bound.doing(|| "looking for a free port".to_owned())?.port()),
    }
}

/// Waits for a greeting on the server's socket and then its port. `log_from`: where its log begins in the file.
pub(super) async fn until_ready(running: &mut Running, place: &Place, port: u16, log_from: usize) -> Result<(), Error> {
    let began = Instant::now();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut look_at_log = began + LOG_INTERVAL;
    loop {
        if let Some(status) = running.status() {
            let log = log::since(&place.log, log_from);
            if log.contains("Address already in use") {
                return Err(Error::PortInUse(port));
            }
            return Err(Error::Exited { status, log: last_lines(&log, 20) });
        }
        // The socket is in a directory of our own, so who greets there is our server; on the port it could be another one that
        // was faster.
        if greets(UnixStream::connect(&place.socket)).await && greets(TcpStream::connect(address)).await {
            tracing::debug!(port, took = ?began.elapsed(), "the private server is ready");
            return Ok(());
        }
        if Instant::now() > look_at_log {
            let log = log::since(&place.log, log_from);
            // They would try again for minutes.
            if log.contains("Unable to lock ./ibdata1") || log.contains("Can't lock aria control") {
                let owner = "a server that was not started by cf-mysql-broker".to_owned();
                return Err(Error::InUse { dir: place.data.clone(), owner });
            }
            if began.elapsed() > READY_TIMEOUT {
                return Err(Error::NotReady { log: last_lines(&log, 20) });
            }
            look_at_log += LOG_INTERVAL;
        }
        let _ = tokio::time::timeout(Duration::from_millis(10), running.ended()).await;
    }
}

/// Whether whoever listens there begins with a greeting of protocol version 10.
async fn greets<S: AsyncRead + Unpin>(connect: impl Future<Output = io::Result<S>>) -> bool {
    let greeting = async {
        // Three bytes of length, one of sequence, one of version.
        let mut start = [0; 5];
        connect.await?.read_exact(&mut start).await?;
        io::Result::Ok(start[4] == 10)
    };
    // Between listening and accepting it may set the accounts: that is worth waiting for.
    matches!(tokio::time::timeout(Duration::from_secs(2), greeting).await, Ok(Ok(true)))
}
