//! A network that fails by halves: between a broker and its server, told what to do by the test.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use cf_mysql_broker::domain::credentials::Endpoint;

/// What the network does.
#[derive(Debug, Clone, PartialEq)]
pub enum Weather {
    /// Everything arrives.
    Fair,
    /// Every packet takes this much longer, both ways.
    Slow(Duration),
    /// Nothing goes through, and nobody is told.
    Silent,
    /// Every connection is reset, and new ones too.
    Reset,
    /// The statement that has this in its text arrives and is done; its answer does not come back, the connection is reset. Once.
    LoseAnswerTo(&'static str),
    /// The statement that has this in its text does not arrive, and its connection is silent for ever; others are well. Once.
    HangAt(&'static str),
}

/// A proxy in front of a server. Speaks as much of MySQL's protocol as it needs to know statements, so no TLS.
pub struct Proxy {
    /// Where it listens.
    pub port: u16,
    weather: Arc<watch::Sender<Weather>>,
    lost: Arc<Mutex<u32>>,
    /// How often everything that was there has been forgotten.
    forgotten: Arc<AtomicU32>,
    accepted: Arc<AtomicU32>,
}

impl Proxy {
    /// Starts one; it lives as long as the test's runtime.
    pub async fn start(server: &Endpoint) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let weather = Arc::new(watch::Sender::new(Weather::Fair));
        let lost = Arc::new(Mutex::new(0));
        let address = format!("{}:{}", server.host, server.port);
        let forgotten = Arc::new(AtomicU32::new(0));
        let accepted = Arc::new(AtomicU32::new(0));
        let (at_work, losses, forgets, accepts) = (weather.clone(), lost.clone(), forgotten.clone(), accepted.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                accepts.fetch_add(1, Ordering::SeqCst);
                let (address, weather, lost, forgotten) = (address.clone(), at_work.clone(), losses.clone(), forgets.clone());
                tokio::spawn(async move {
                    let reset = client.set_zero_linger();
                    if let (Ok(()), Ok(server)) = (reset, TcpStream::connect(address).await) {
                        pass(client, server, weather, lost, forgotten).await;
                    }
                });
            }
        });
        Self { port, weather, lost, forgotten, accepted }
    }

    /// Changes the weather, for the connections there are too.
    pub fn turn(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// How many connections were made.
    pub fn accepted(&self) -> u32 {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Nothing more goes through the connections there are, and nobody is told; new ones are well.
    pub fn forget(&self) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
    }

    /// How many answers were lost.
    pub fn lost(&self) -> u32 {
        *self.lost.lock().expect("a number")
    }
}

/// The statements of one connection that were prepared: their texts by their numbers, and the one that waits for its number.
#[derive(Default)]
struct Prepared {
    known: HashMap<u32, Vec<u8>>,
    asked: Option<Vec<u8>>,
}

/// One connection.
struct Line {
    weather: Arc<watch::Sender<Weather>>,
    lost: Arc<Mutex<u32>>,
    forgotten: Arc<AtomicU32>,
    since: u32,
    swallow: AtomicBool,
    prepared: Mutex<Prepared>,
}

async fn pass(
    client: TcpStream,
    server: TcpStream,
    weather: Arc<watch::Sender<Weather>>,
    lost: Arc<Mutex<u32>>,
    forgotten: Arc<AtomicU32>,
) {
    let mut changes = weather.subscribe();
    let since = forgotten.load(Ordering::SeqCst);
    let line = Line { weather, lost, forgotten, since, swallow: false.into(), prepared: Mutex::default() };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let reset = async { changes.wait_for(|weather| *weather == Weather::Reset).await.map(|_| ()) };
    // whatever ends first resets the client's connection: it is dropped with a linger of zero
    tokio::select! {
        _ = reset => {}
        _ = line.requests(from_client, to_server) => {}
        _ = line.answers(from_server, to_client) => {}
    }
}

impl Line {
    /// Packet by packet: three bytes of length, one of sequence, then the command.
    async fn requests(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> std::io::Result<()> {
        loop {
            let mut header = [0; 4];
            from.read_exact(&mut header).await?;
            let mut body = vec![0; usize::from(header[0]) | usize::from(header[1]) << 8 | usize::from(header[2]) << 16];
            from.read_exact(&mut body).await?;
            wait(&self.weather).await;
            if self.forgotten.load(Ordering::SeqCst) != self.since {
                std::future::pending::<()>().await;
            }
            let statement = self.statement(&body);
            let now = self.weather.borrow().clone();
            let has = |text: &str| statement.as_ref().is_some_and(|all| all.windows(text.len()).any(|part| part == text.as_bytes()));
            match now {
                Weather::LoseAnswerTo(text) if has(text) => {
                    self.swallow.store(true, Ordering::SeqCst);
                    self.weather.send_replace(Weather::Fair);
                }
                Weather::HangAt(text) if has(text) => {
                    self.weather.send_replace(Weather::Fair);
                    std::future::pending::<()>().await;
                }
                _ => {}
            }
            to.write_all(&header).await?;
            to.write_all(&body).await?;
        }
    }

    /// The text of what is about to be done, if anything is.
    fn statement(&self, body: &[u8]) -> Option<Vec<u8>> {
        const QUERY: u8 = 3;
        const PREPARE: u8 = 0x16;
        const EXECUTE: u8 = 0x17;
        let (command, rest) = body.split_first()?;
        let mut prepared = self.prepared.lock().expect("statements");
        match *command {
            QUERY => Some(rest.to_vec()),
            PREPARE => {
                prepared.asked = Some(rest.to_vec());
                None
            }
            EXECUTE => prepared.known.get(&u32::from_le_bytes(rest.get(..4)?.try_into().ok()?)).cloned(),
            _ => None,
        }
    }

    async fn answers(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> std::io::Result<()> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            {
                // after the header of the packet: OK, and the number
                let mut prepared = self.prepared.lock().expect("statements");
                if let (Some(text), Some([0, a, b, c, d])) = (prepared.asked.take(), buffer[..read].get(4..9)) {
                    prepared.known.insert(u32::from_le_bytes([*a, *b, *c, *d]), text);
                }
            }
            if self.swallow.load(Ordering::SeqCst) {
                *self.lost.lock().expect("a number") += 1;
                return Ok(());
            }
            wait(&self.weather).await;
            to.write_all(&buffer[..read]).await?;
        }
    }
}

async fn wait(weather: &watch::Sender<Weather>) {
    let now = weather.borrow().clone();
    match now {
        Weather::Slow(delay) => tokio::time::sleep(delay).await,
        Weather::Silent => {
            let _ = weather.subscribe().wait_for(|weather| *weather != Weather::Silent).await;
        }
        _ => {}
    }
}
