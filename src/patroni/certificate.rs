//! Whether a certificate is Patroni's, and if not, why, in words that a person can act on.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

const NO_AUTHORITIES: &str = "this host knows no authorities (package ca-certificates): give Patroni's by --cacert";
const NOT_THE_SYSTEMS: &str = "no authority of the system's signed Patroni's certificate: give its own by --cacert";

/// Takes a certificate that one of the authorities signed (rustls's own rules), and one that is
/// itself, byte for byte, in the file of `--cacert`: pinned. curl takes these, and Patroni's users
/// have them: self-signed ones (`openssl req -x509` makes an authority of them), and ones whose
/// authority the host was not given.
///
/// Of a pinned one nothing is left to be signed by anybody, so neither its issuer nor CA:TRUE
/// matters. All else does: the handshake's signature proves that the other side has the key; it
/// must be in its time; and it must be for the host that was asked, because the file may hold the
/// certificates of all members, and another member's word is not this one's. The name is, as for
/// curl, one of subjectAltName, and the common name where there is none.
#[derive(Debug)]
pub(super) struct Verifier {
    takes_any: bool,
    authorities: Option<Arc<WebPkiServerVerifier>>,
    /// None where the system's authorities are meant.
    pinned: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// Without authorities, which is for a host that has none, no certificate is taken but pinned
    /// ones.
    pub(super) fn new(
        authorities: RootCertStore,
        pinned: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Self {
        let authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(authorities), Arc::clone(provider));
        let algorithms = provider.signature_verification_algorithms;
        // It fails without any, and with revocation lists that can't be read.
        Verifier { takes_any: false, authorities: authorities.build().ok(), pinned, algorithms }
    }

    /// Takes any certificate, whoever has its key.
    pub(super) fn of_any(provider: &CryptoProvider) -> Self {
        let algorithms = provider.signature_verification_algorithms;
        Verifier { takes_any: true, authorities: None, pinned: Vec::new(), algorithms }
    }

    fn verify_signature(
        &self,
        verify: impl FnOnce() -> Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.takes_any { Ok(HandshakeSignatureValid::assertion()) } else { verify() }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.takes_any {
            return Ok(ServerCertVerified::assertion());
        }
        if !self.pinned.contains(end_entity) {
            let Some(authorities) = &self.authorities else { return Err(Error::General(NO_AUTHORITIES.into())) };
            let verified = authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
            return verified.map_err(|e| match e {
                Error::InvalidCertificate(CertificateError::UnknownIssuer) if self.pinned.is_empty() => {
                    Error::General(NOT_THE_SYSTEMS.into())
                }
                e => e,
            });
        }
        let certificate = ParsedCertificate::try_from(end_entity)?;
        // Nobody's signature is looked for, so this ends by one of two errors; that it is out of
        // its time comes before them.
        let nobody = RootCertStore::empty();
        match verify_server_cert_signed_by_trust_anchor(&certificate, &nobody, &[], now, self.algorithms.all) {
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {}
            Err(e) if is(&e, &webpki::Error::CaUsedAsEndEntity) => {}
            other => other?,
        }
        match verify_server_name(&certificate, server_name) {
            Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented }))
                if presented.is_empty() =>
            {
                let presented: Vec<_> = common_name(end_entity).into_iter().collect();
                if !presented.iter().any(|name| name.eq_ignore_ascii_case(&expected.to_str())) {
                    return Err(CertificateError::NotValidForNameContext { expected, presented }.into());
                }
            }
            other => other?,
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(|| verify_tls12_signature(message, cert, dss, &self.algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(|| verify_tls13_signature(message, cert, dss, &self.algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.algorithms.supported_schemes();
        if self.takes_any {
            // What is not verified may be of any kind.
            schemes.extend([
                SignatureScheme::ECDSA_NISTP521_SHA512,
                SignatureScheme::ED448,
                SignatureScheme::RSA_PKCS1_SHA1,
                SignatureScheme::ECDSA_SHA1_Legacy,
            ]);
        }
        schemes
    }
}

/// The subject's common name: what follows the attribute's OID, 2.5.4.3. That these bytes could
/// stand in another attribute does not matter of a certificate that the operator gave.
fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    const OID: [u8; 5] = [6, 3, 0x55, 4, 3];
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let subject = certificate.subject();
    let start = subject.windows(OID.len()).position(|bytes| bytes == OID)? + OID.len();
    let [_, length, text @ ..] = subject.get(start..)? else { return None };
    Some(String::from_utf8_lossy(text.get(..usize::from(*length))?).into_owned())
}

/// Whether it is this error of webpki's, which rustls has no name for.
pub(super) fn is(error: &Error, wanted: &webpki::Error) -> bool {
    match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(e))) => e.downcast_ref() == Some(wanted),
        _ => false,
    }
}

/// Why there is no TLS session, in some 90 characters, which is what HAProxy has room for.
pub(super) fn reason(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(e) => unfit(e),
        Error::AlertReceived(alert) => refused(*alert),
        Error::InvalidMessage(_) => "no TLS comes back; is http:// meant?".into(),
        Error::PeerIncompatible(why) => format!("Patroni and we have nothing in common ({why:?}); TLS 1.2 is needed"),
        Error::General(why) => why.clone(),
        other => other.to_string(),
    }
}

fn unfit(error: &CertificateError) -> String {
    let at = |time: &UnixTime| match UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs())) {
        Some(time) => humantime::format_rfc3339_seconds(time).to_string(),
        None => "some time".to_owned(),
    };
    match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("Patroni's certificate or its issuer's expired at {}; renew it", at(not_after))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("Patroni's certificate is valid only from {}; is the clock right?", at(not_before))
        }
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            "no subjectAltName in Patroni's certificate; reissue it or give it itself by --cacert".into()
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            // `DnsName("db1")`, `IpAddress(127.0.0.1)`.
            let names = presented.iter().map(|name| {
                let inner = name.split_once('(').map_or(name.as_str(), |(_, inner)| inner);
                inner.trim_matches(['"', ')'])
            });
            let names: Vec<_> = names.collect();
            format!("Patroni's certificate is not for {}; it is for {}", expected.to_str(), names.join(" and "))
        }
        CertificateError::UnknownIssuer => {
            "Patroni's certificate is by nobody in --cacert or its certfile lacks an intermediate".into()
        }
        CertificateError::BadSignature => {
            "wrong signature: another authority of that name in --cacert? RSA below 2048 bits?".into()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "Patroni's certificate has an unknown kind of key or signature; RSA and SHA-256 do".into()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "Patroni's certificate is not for servers (extendedKeyUsage lacks serverAuth)".into()
        }
        CertificateError::BadEncoding => "Patroni's certificate can't be read: it is damaged".into(),
        CertificateError::Other(OtherError(e)) => match e.downcast_ref() {
            Some(webpki::Error::UnsupportedCertVersion) => {
                "X.509 version 1 in Patroni's certificate or its issuer's; reissue it as version 3".into()
            }
            Some(webpki::Error::CaUsedAsEndEntity) => {
                "Patroni's certificate is an authority (CA:TRUE): give it itself by --cacert".into()
            }
            Some(webpki::Error::EndEntityUsedAsCa) => {
                "Patroni's certificate is signed by one that is no authority's (CA:FALSE)".into()
            }
            _ => format!("Patroni's certificate is not accepted: {e:?}"),
        },
        other => format!("Patroni's certificate is not accepted: {other}"),
    }
}

/// Patroni's side ended the handshake.
fn refused(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
            "Patroni wants a certificate of ours: set --cert and --key".into()
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError => {
            format!("Patroni refused our certificate ({alert:?}): see its restapi.cafile")
        }
        AlertDescription::HandshakeFailure => {
            "Patroni ended the handshake: it wants --cert and --key or its key is P-521 or so".into()
        }
        AlertDescription::ProtocolVersion => "Patroni speaks no TLS that we do: 1.2 or 1.3 is needed".into(),
        other => format!("Patroni ended the session ({other:?})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of the 120 bytes of a reply behind `MAINT DOWN # patroni: TLS: `, its `\n`
    /// aside.
    const ROOM: usize = 92;

    #[test]
    fn a_reason_says_what_to_do_in_the_room_that_there_is() {
        use AlertDescription as Alert;
        let webpkis = |e: webpki::Error| CertificateError::Other(OtherError(Arc::new(e))).into();
        let alert = Error::AlertReceived;
        for (error, wanted) in [
            (alert(Alert::CertificateRequired), "set --cert and --key"),
            (alert(Alert::UnknownCA), "(UnknownCA): see its restapi.cafile"),
            (alert(Alert::UnsupportedCertificate), "(UnsupportedCertificate): see its restapi.cafile"),
            (alert(Alert::CertificateUnknown), "(CertificateUnknown): see its restapi.cafile"),
            (alert(Alert::HandshakeFailure), "wants --cert and --key or its key is P-521 or so"),
            (alert(Alert::ProtocolVersion), "1.2 or 1.3 is needed"),
            (alert(Alert::InternalError), "Patroni ended the session (InternalError)"),
            (Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType), "is http:// meant?"),
            (Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered), "nothing in common"),
            (Error::General(NO_AUTHORITIES.into()), "--cacert"),
            (Error::General(NOT_THE_SYSTEMS.into()), "--cacert"),
            (CertificateError::UnknownIssuer.into(), "its certfile lacks an intermediate"),
            (CertificateError::BadSignature.into(), "RSA below 2048 bits?"),
            (CertificateError::BadEncoding.into(), "it is damaged"),
            (CertificateError::InvalidPurpose.into(), "lacks serverAuth"),
            (CertificateError::Expired.into(), "is not accepted: "),
            (webpkis(webpki::Error::UnsupportedCertVersion), "reissue it as version 3"),
            (webpkis(webpki::Error::CaUsedAsEndEntity), "give it itself by --cacert"),
            (webpkis(webpki::Error::EndEntityUsedAsCa), "(CA:FALSE)"),
            (webpkis(webpki::Error::UnsupportedCriticalExtension), "UnsupportedCriticalExtension"),
        ] {
            let reason = reason(&error);
            assert!(reason.contains(wanted) && reason.len() <= ROOM, "{}: {reason}, wanted {wanted}", reason.len());
        }
    }
}
