//! TLS served by the broker itself: a certificate that can be replaced while it runs.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring::{default_provider, sign::any_supported_type};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::settings::ServerTls;

/// Why a certificate cannot be served. Names the setting, never the key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not a PEM chain.
    #[error("server.tls.certificate_file: no certificates can be read from it: {0}")]
    Certificate(String),
    /// Not a PEM key.
    #[error("server.tls.private_key_file: no private key can be read from it")]
    Key,
    /// They do not belong together.
    #[error("server.tls: the private key is not the certificate's: {0}")]
    Mismatch(String),
}

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// The certificate in use.
#[derive(Debug, Clone)]
pub struct Certificates(Arc<Current>);

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] names the setting.
    pub fn read(settings: &ServerTls) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(Current(ArcSwap::from_pointee(certified_key(settings)?)))))
    }

    /// Reads the files anew; on an error the old certificate stays.
    ///
    /// # Errors
    /// [`TlsError`] names the setting.
    pub fn reload(&self, settings: &ServerTls) -> Result<(), TlsError> {
        self.0.0.store(Arc::new(certified_key(settings)?));
        Ok(())
    }

    pub(super) fn server_config(&self) -> ServerConfig {
        // the only provider compiled in; the default versions are always supported by it
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        match builder.with_safe_default_protocol_versions() {
            Ok(builder) => builder.with_no_client_auth().with_cert_resolver(self.0.clone()),
            Err(_) => ServerConfig::builder().with_no_client_auth().with_cert_resolver(self.0.clone()),
        }
    }
}

fn certified_key(settings: &ServerTls) -> Result<CertifiedKey, TlsError> {
    let (Some(certificate_file), Some(key_file)) = (&settings.certificate_file, &settings.private_key_file) else {
        return Err(TlsError::Key);
    };
    let chain: Vec<CertificateDer> = CertificateDer::pem_file_iter(certificate_file)
        .and_then(Iterator::collect)
        .map_err(|error| TlsError::Certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(TlsError::Certificate("it holds none".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|_| TlsError::Key)?;
    let key = any_supported_type(&key).map_err(|_| TlsError::Key)?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|error| TlsError::Mismatch(error.to_string()))?;
    Ok(certified)
}
