//! A round robin over the brokers, connection by connection: what the platform's router is in a deployment.

use tokio::net::{TcpListener, TcpStream};

/// Takes the port.
pub(super) async fn bind(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", port)).await
}

/// Hands each connection to the next broker that takes it, for ever.
pub(super) async fn serve(listener: TcpListener, brokers: Vec<u16>) {
    let mut next = 0;
    loop {
        let Ok((mut client, _)) = listener.accept().await else {
            // out of file descriptors, say: others end in the meantime
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let order: Vec<u16> = (0..brokers.len()).map(|i| brokers[(next + i) % brokers.len()]).collect();
        next = (next + 1) % brokers.len();
        tokio::spawn(async move {
            for port in order {
                if let Ok(mut broker) = TcpStream::connect(("127.0.0.1", port)).await {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut broker).await;
                    return;
                }
            }
        });
    }
}
