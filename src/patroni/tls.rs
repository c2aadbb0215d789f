//! The files that TLS is spoken with.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, Error, InconsistentKeys, RootCertStore};

use super::certificate::{Verifier, is};
use crate::file::read_at_most;

/// The authorities of a whole system have some 220 kB.
const FILE_LIMIT: u64 = 8 << 20;

/// How to speak TLS with Patroni.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// PEM file with the authorities that may have signed Patroni's certificate, or with that
    /// certificate itself; the system's authorities without it.
    pub cacert: Option<PathBuf>,
    /// PEM files with our certificate and its key, for `restapi.verify_client: required`.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Take any certificate.
    pub insecure: bool,
}

impl Tls {
    /// The files that are named.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let identity = self.identity.iter().flat_map(|(cert, key)| [cert, key]);
        self.cacert.iter().chain(identity).map(PathBuf::as_path)
    }

    /// Reads the files.
    ///
    /// # Errors
    /// A line that says which file can't be used, why, and what to do.
    pub(super) fn load(&self) -> Result<Arc<ClientConfig>, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = match &self.cacert {
            _ if self.insecure => Verifier::of_any(&provider),
            Some(file) => {
                let found = certificates(file)?;
                let roots = roots(found.clone());
                if roots.is_empty() {
                    return Err(format!("{}: no certificate in it can be read", file.display()));
                }
                Verifier::new(roots, found, &provider)
            }
            None => Verifier::new(roots(rustls_native_certs::load_native_certs().certs), Vec::new(), &provider),
        };
        let identity = match &self.identity {
            Some((cert, key)) => Some(identity(cert, key, &provider)?),
            None => None,
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        Ok(Arc::new(match identity {
            Some(identity) => config.with_client_cert_resolver(Arc::new(identity)),
            None => config.with_no_client_auth(),
        }))
    }
}

/// Those of them that can be read.
fn roots(certificates: Vec<CertificateDer<'static>>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    roots
}

/// The whole of a file.
fn read_file(file: &Path) -> Result<Vec<u8>, String> {
    let bytes = read_at_most(file, FILE_LIMIT + 1).map_err(|e| match e.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "{}: permission denied; for files that only root may read see \
             /usr/share/doc/patroni-check/examples/tls.conf",
            file.display()
        ),
        io::ErrorKind::Other => format!("{}: {e}; a PEM file is expected", file.display()),
        _ => format!("{}: {e}", file.display()),
    })?;
    match bytes.len() as u64 {
        0 => Err(format!("{}: it is empty; a PEM file is expected", file.display())),
        length if length > FILE_LIMIT => Err(format!("{}: it is larger than any PEM file", file.display())),
        _ => Ok(bytes),
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read_file(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|e| unreadable(file, &e))?;
    if found.is_empty() {
        return Err(format!("{}: no certificate in it (PEM is expected: -----BEGIN CERTIFICATE-----)", file.display()));
    }
    Ok(found)
}

/// What is wrong with a PEM file, without what is in it, which may be secret.
fn unreadable(file: &Path, error: &pem::Error) -> String {
    let what = match error {
        pem::Error::MissingSectionEnd { .. } => "its end is missing",
        pem::Error::Base64Decode(_) => "what stands between BEGIN and END is damaged",
        _ => "it is damaged",
    };
    format!("{}: {what}", file.display())
}

/// Our certificate with those that lead to its authority, and its key.
fn identity(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<SingleCertAndKey, String> {
    let chain = certificates(cert)?;
    let pem = read_file(key)?;
    // PKCS #8 and, in headers, the older formats of OpenSSL.
    if pem.windows(9).any(|word| word == b"ENCRYPTED") {
        return Err(format!("{}: the key is encrypted; decrypt it with openssl pkey -in OLD -out NEW", key.display()));
    }
    let secret = PrivateKeyDer::from_pem_slice(&pem).map_err(|e| match e {
        pem::Error::NoItemsFound => {
            format!("{}: no private key in it (PEM is expected: -----BEGIN PRIVATE KEY-----)", key.display())
        }
        e => unreadable(key, &e),
    })?;
    let secret = provider.key_provider.load_private_key(secret).map_err(|_| {
        let known = "RSA of 2048 bits or more, P-256, P-384 and Ed25519 are known";
        format!("{}: the key is damaged or of an unknown kind ({known})", key.display())
    })?;
    let fits =
        |first: &CertificateDer<'static>| CertifiedKey::new(vec![first.clone()], Arc::clone(&secret)).keys_match();
    match chain.first().map(fits) {
        Some(Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch))) => {
            let mut others = chain.iter().skip(1);
            let what = if others.any(|other| fits(other).is_ok()) {
                "the certificate of this key has to be the first one in it"
            } else {
                "they do not belong together, or only one of them was renewed"
            };
            Err(format!("{} and {}: {what}", cert.display(), key.display()))
        }
        // One of version 1 can't be read here, and so not be compared; whether it is good enough is
        // for Patroni to say.
        Some(Err(e))
            if matches!(e, Error::InvalidCertificate(_)) && !is(&e, &webpki::Error::UnsupportedCertVersion) =>
        {
            Err(format!("{}: the first certificate in it can't be read: {e}", cert.display()))
        }
        _ => Ok(SingleCertAndKey::from(CertifiedKey::new(chain, secret))),
    }
}
