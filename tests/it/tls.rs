use std::path::Path;

use reqwest::{Certificate, Client};
use serde_json::json;

use crate::support::bed::ADMIN;
use crate::support::broker::run;
use crate::support::{Bed, BedOptions, eventually, shared_server};

/// Writes a new self-signed certificate for 127.0.0.1 and its key; the certificate in PEM.
fn write_certificate(directory: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(directory.join("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(directory.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    made.cert.pem()
}

fn client(certificate: &str) -> Client {
    Client::builder().tls_certs_only([Certificate::from_pem(certificate.as_bytes()).unwrap()]).build().unwrap()
}

#[tokio::test]
async fn the_broker_serves_tls_and_takes_a_new_certificate_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let first = write_certificate(directory.path());
    let tls = json!({"certificate_file": directory.path().join("tls.crt"), "private_key_file": directory.path().join("tls.key")});
    let mut bed = Bed::prepare(shared_server(), &BedOptions { settings: json!({"server": {"tls": tls}}), ..BedOptions::default() }).await;
    bed.start_broker().await;
    let url = bed.osb().url.replace("http://", "https://");
    let ask = async |client: &Client| {
        let request =
            client.get(format!("{url}/v2/catalog")).basic_auth(ADMIN, Some(&bed.secrets[0])).header("X-Broker-API-Version", "2.17");
        request.send().await.map(|response| response.status().as_u16())
    };
    assert_eq!(ask(&client(&first)).await.unwrap(), 200);

    let second = write_certificate(directory.path());
    bed.brokers[0].signal(rustix::process::Signal::HUP);
    eventually("the new certificate", async || (ask(&client(&second)).await.ok() == Some(200)).then_some(())).await;
    assert!(ask(&client(&first)).await.is_err());

    std::fs::write(directory.path().join("tls.key"), "nonsense").unwrap();
    bed.brokers[0].signal(rustix::process::Signal::HUP);
    bed.brokers[0].wait_for("the refusal", |line| (line.contains("refused") && line.contains("private_key_file")).then_some(())).await;
    assert_eq!(ask(&client(&second)).await.unwrap(), 200, "the old one stays");
    let (code, _, stderr) = run(&["check-config".as_ref(), "--config".as_ref(), bed.config.as_os_str()], &[]);
    assert_eq!(code, 78);
    assert!(stderr.starts_with("server.tls.private_key_file:"), "{stderr}");
}
