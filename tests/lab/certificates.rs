//! Certificates made on the spot, complete enough for the strictest reader (Python 3.13's VERIFY_X509_STRICT).

use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// Somebody who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names, no trouble");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("randomness");
        Authority(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    pub fn write(&self, file: &Path) {
        fs::write(file, self.0.pem()).expect("the file can be written");
    }

    /// Writes a certificate for these names and addresses, and its key: NAME.crt and NAME.key.
    pub fn issue(&self, directory: &Path, name: &str, names: &[&str], is_expired: bool) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("good names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        if is_expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().expect("randomness");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        fs::write(directory.join(format!("{name}.crt")), certificate.pem()).expect("the file can be written");
        fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).expect("the file can be written");
    }
}
