//! Certificates made on the spot, complete enough for the strictest reader (Python 3.13's
//! VERIFY_X509_STRICT).

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// One of X.509 version 1 for localhost, in its time for a hundred years, which rcgen can't make:
/// `openssl x509 -req` does.
pub const VERSION_1: &str = "-----BEGIN CERTIFICATE-----
MIIBJDCBywIUPDedH8WFgdzcuqeTW7weE5UaaekwCgYIKoZIzj0EAwIwFDESMBAG
A1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNTA1MDQ0OFoYDzIxMjYxMTAxMDUwNDQ4
WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AAT0UQuCsgkLyMvehd5KilG4WtQp1kCMvnypC9JWLKDTC91uI1QUdVDONQDNTAGt
GTQf/XmpkW6C7MmRU+nV1IPwMAoGCCqGSM49BAMCA0gAMEUCID2MbWDw6vGndBos
5SUfFFtmgOctGGOTB8BhT5EUlxfCAiEAtFGzdmQQmvPytVYo46zICvO3ENBA9GGj
qBhQiICYBXg=
-----END CERTIFICATE-----
";

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Issued {
    /// Writes NAME.crt and NAME.key, and gives their paths.
    pub fn write(&self, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = (directory.join(format!("{name}.crt")), directory.join(format!("{name}.key")));
        fs::write(&certificate, &self.certificate).expect("the file can be written");
        fs::write(&key, &self.key).expect("the file can be written");
        (certificate, key)
    }
}

/// What a certificate has unless told otherwise: the common name `name` and these names and
/// addresses.
fn params(name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("good names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params
}

pub fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
}

pub fn not_yet_valid(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2099, 1, 1);
    params.not_after = date_time_ymd(2100, 1, 1);
}

/// CA:TRUE, as `openssl req -x509` makes it.
pub fn authority(params: &mut CertificateParams) {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
}

pub fn self_signed(name: &str, names: &[&str], shape: impl FnOnce(&mut CertificateParams)) -> Issued {
    let mut params = params(name, names);
    shape(&mut params);
    let key = KeyPair::generate().expect("randomness");
    let certificate = params.self_signed(&key).expect("a certificate").pem();
    Issued { certificate, key: key.serialize_pem() }
}

/// Somebody who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("randomness");
        Authority(CertifiedIssuer::self_signed(Authority::params(name), key).expect("a certificate"))
    }

    /// One below this one.
    pub fn intermediate(&self, name: &str) -> Self {
        let key = KeyPair::generate().expect("randomness");
        Authority(CertifiedIssuer::signed_by(Authority::params(name), key, &self.0).expect("a certificate"))
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).expect("no names, no trouble");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn write(&self, file: &Path) {
        fs::write(file, self.pem()).expect("the file can be written");
    }

    pub fn sign(&self, name: &str, names: &[&str], shape: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = params(name, names);
        shape(&mut params);
        let key = KeyPair::generate().expect("randomness");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate").pem();
        Issued { certificate, key: key.serialize_pem() }
    }

    /// Writes a certificate for these names and addresses, and its key: NAME.crt and NAME.key.
    pub fn issue(&self, directory: &Path, name: &str, names: &[&str], is_expired: bool) {
        self.sign(name, names, |params| {
            if is_expired {
                expired(params)
            }
        })
        .write(directory, name);
    }
}
