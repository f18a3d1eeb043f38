//! Signs certificates with the cluster's CA.
//!
//! The request's subject is kept byte for byte: a subject may have several organisations (groups), which the usual
//! certificate builders drop.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use x509_cert::Certificate;
use x509_cert::der::asn1::OctetString;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::pem::LineEnding;
use x509_cert::der::{Decode, DecodePem, Encode, EncodePem};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName,
};
use x509_cert::request::{CertReq, ExtensionReq};
use x509_cert::time::Time;

use crate::Signing;

const BASIC_CONSTRAINTS: &str = "2.5.29.19";
const KEY_USAGE: &str = "2.5.29.15";
const EXTENDED_KEY_USAGE: &str = "2.5.29.37";
const AUTHORITY_KEY_ID: &str = "2.5.29.35";
const SUBJECT_KEY_ID: &str = "2.5.29.14";
const SUBJECT_ALT_NAME: &str = "2.5.29.17";
/// Clocks of nodes may be behind; upstream dates certificates back by five minutes.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);

/// Why something cannot be signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    #[error("the CA certificate or the request is malformed")]
    Encoding(#[from] x509_cert::der::Error),
    #[error("the CA key cannot be used")]
    Key(#[from] rcgen::Error),
    #[error("the CA key is of an unknown kind")]
    KeyKind,
    #[error("the CA key does not belong to the CA certificate")]
    Mismatch,
    #[error("usage {0:?} is unknown")]
    Usage(String),
    #[error("the time is out of range")]
    Time(#[from] jiff::Error),
}

/// A CA ready to sign.
pub(crate) struct Authority {
    certificate: Certificate,
    key: KeyPair,
    /// The encoded algorithm identifier of its signatures.
    algorithm: &'static [u8],
}

impl Authority {
    pub(crate) fn new(signing: &Signing) -> Result<Self, SignError> {
        let certificate = Certificate::from_pem(&signing.certificate)?;
        let key = KeyPair::from_pem(&signing.key)?;
        let spki = certificate.tbs_certificate().subject_public_key_info().to_der()?;
        if spki != key.subject_public_key_info() {
            return Err(SignError::Mismatch);
        }
        let algorithm = algorithm(&key).ok_or(SignError::KeyKind)?;
        Ok(Self { certificate, key, algorithm })
    }

    /// Signs `request` for `usages`; answers PEM. Validity never goes beyond the CA's own.
    pub(crate) fn sign(
        &self,
        request: &CertReq,
        usages: &[String],
        duration: Duration,
        now: Timestamp,
    ) -> Result<String, SignError> {
        let issuer = self.certificate.tbs_certificate();
        let serial = serial();
        let spki = request.info.public_key.to_der()?;
        let mut tbs = Vec::new();
        tbs.extend(element(0xa0, &[0x02, 0x01, 0x02]));
        tbs.extend(element(0x02, &serial));
        tbs.extend(self.algorithm);
        tbs.extend(issuer.subject().to_der()?);
        tbs.extend(element(0x30, &self.validity(duration, now)?));
        tbs.extend(request.info.subject.to_der()?);
        tbs.extend(&spki);
        let extensions = self.extensions(request, usages)?.to_der()?;
        tbs.extend(element(0xa3, &extensions));
        let tbs = element(0x30, &tbs);
        let signature = self.key.sign(&tbs)?;
        let mut bits = vec![0];
        bits.extend(signature);
        let parts = [tbs.as_slice(), self.algorithm, &element(0x03, &bits)].concat();
        // Read back: what is handed out is well-formed.
        let certificate = Certificate::from_der(&element(0x30, &parts))?;
        Ok(certificate.to_pem(LineEnding::LF)?)
    }

    fn validity(&self, duration: Duration, now: Timestamp) -> Result<Vec<u8>, SignError> {
        let start = now.checked_sub(BACKDATE)?;
        let own = self.certificate.tbs_certificate().validity().not_after.to_unix_duration();
        let own = Timestamp::from_second(i64::try_from(own.as_secs()).unwrap_or(i64::MAX)).unwrap_or(Timestamp::MAX);
        let end = start.checked_add(SignedDuration::try_from(duration)?)?.min(own);
        let mut validity = time(start)?.to_der()?;
        validity.extend(time(end)?.to_der()?);
        Ok(validity)
    }

    fn extensions(&self, request: &CertReq, usages: &[String]) -> Result<Vec<Extension>, SignError> {
        let (key_usage, extended) = usages_of(usages)?;
        let mut extensions = vec![extension(KEY_USAGE, true, &key_usage)?];
        if !extended.is_empty() {
            extensions.push(extension(EXTENDED_KEY_USAGE, false, &ExtendedKeyUsage(extended))?);
        }
        extensions.push(extension(
            BASIC_CONSTRAINTS,
            true,
            &BasicConstraints { ca: false, path_len_constraint: None },
        )?);
        let own = self.certificate.tbs_certificate().extensions().into_iter().flatten();
        let own_id = own.into_iter().find(|known| known.extn_id.to_string() == SUBJECT_KEY_ID);
        if let Some(own_id) = own_id {
            let key_identifier = Some(OctetString::from_der(own_id.extn_value.as_bytes())?);
            let authority = AuthorityKeyIdentifier { key_identifier, ..AuthorityKeyIdentifier::default() };
            extensions.push(extension(AUTHORITY_KEY_ID, false, &authority)?);
        }
        if let Some(names) = alternative_names(request)? {
            let is_critical = request.info.subject.is_empty();
            extensions.push(extension(SUBJECT_ALT_NAME, is_critical, &names)?);
        }
        Ok(extensions)
    }
}

/// The names of a request besides its subject.
pub(crate) fn alternative_names(request: &CertReq) -> Result<Option<SubjectAltName>, SignError> {
    for attribute in request.info.attributes.iter() {
        for value in attribute.values.iter() {
            if attribute.oid.to_string() != "1.2.840.113549.1.9.14" {
                continue;
            }
            let requested = ExtensionReq::from_der(&value.to_der()?)?;
            if let Some(found) = requested.0.iter().find(|known| known.extn_id.to_string() == SUBJECT_ALT_NAME) {
                return Ok(Some(SubjectAltName::from_der(found.extn_value.as_bytes())?));
            }
        }
    }
    Ok(None)
}

fn extension(oid: &str, critical: bool, value: &impl Encode) -> Result<Extension, SignError> {
    let extn_value = OctetString::new(value.to_der()?)?;
    Ok(Extension { extn_id: ObjectIdentifier::new(oid).map_err(x509_cert::der::Error::from)?, critical, extn_value })
}

fn time(at: Timestamp) -> Result<Time, SignError> {
    let since = Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0));
    let system = std::time::SystemTime::UNIX_EPOCH + since;
    Ok(Time::try_from(system)?)
}

/// Twenty random bytes at most, positive and without a leading zero.
fn serial() -> [u8; 16] {
    let mut serial: [u8; 16] = rand::random();
    serial[0] = (serial[0] & 0x7f) | 0x40;
    serial
}

/// One DER element.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
            // At most eight bytes.
            out.push(0x80 | bytes.len() as u8);
            out.extend(bytes);
        }
    }
    out.extend(content);
    out
}

/// The algorithm identifiers of RFC 5758, 8410 and 4055 for the kinds of keys that a CA may have.
fn algorithm(key: &KeyPair) -> Option<&'static [u8]> {
    let known = key.algorithm();
    if *known == rcgen::PKCS_ECDSA_P256_SHA256 {
        Some(&[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02])
    } else if *known == rcgen::PKCS_ECDSA_P384_SHA384 {
        Some(&[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03])
    } else if *known == rcgen::PKCS_ED25519 {
        Some(&[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70])
    } else if *known == rcgen::PKCS_RSA_SHA256 {
        Some(&[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00])
    } else {
        None
    }
}

fn usages_of(usages: &[String]) -> Result<(KeyUsage, Vec<ObjectIdentifier>), SignError> {
    let mut bits = Vec::new();
    let mut extended = Vec::new();
    for usage in usages {
        match usage.as_str() {
            "signing" | "digital signature" => bits.push(KeyUsages::DigitalSignature),
            "content commitment" => bits.push(KeyUsages::NonRepudiation),
            "key encipherment" => bits.push(KeyUsages::KeyEncipherment),
            "key agreement" => bits.push(KeyUsages::KeyAgreement),
            "data encipherment" => bits.push(KeyUsages::DataEncipherment),
            "server auth" => extended.push("1.3.6.1.5.5.7.3.1"),
            "client auth" => extended.push("1.3.6.1.5.5.7.3.2"),
            "code signing" => extended.push("1.3.6.1.5.5.7.3.3"),
            "email protection" => extended.push("1.3.6.1.5.5.7.3.4"),
            other => return Err(SignError::Usage(other.to_owned())),
        }
    }
    let flags = bits.into_iter().fold(Default::default(), |flags, bit| flags | bit);
    let oids = extended.into_iter().map(ObjectIdentifier::new).collect::<Result<Vec<_>, _>>();
    Ok((KeyUsage(flags), oids.map_err(x509_cert::der::Error::from)?))
}
