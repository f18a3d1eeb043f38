//! One request for a certificate, to its end.

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;
use kube::runtime::wait::{self, await_condition};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

use super::Purpose;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("make a key and a request")]
    Make(#[from] rcgen::Error),
    /// The API server refuses the request.
    #[error("ask for a certificate")]
    Ask(#[source] kube::Error),
    #[error("wait for the certificate")]
    Wait(#[source] wait::Error),
    /// Nobody approved or signed it in time.
    #[error("request {name} for a certificate was not answered within {} s", .patience.as_secs())]
    Late { name: String, patience: Duration },
    /// Somebody said no.
    #[error("request {name} for a certificate was refused: {why}")]
    Refused { name: String, why: String },
    #[error("read the certificate in {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("keep the certificate in {path}")]
    Keep {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("use the certificate")]
    Unfit(#[source] daemon::LiveIdentityError),
}

/// Asks for a certificate of a node with a new key, and waits at most `patience` for it; returns key and certificates as PEM
/// in one text.
pub async fn request(
    client: &kube::Client,
    node: &str,
    purpose: &Purpose,
    patience: Duration,
) -> Result<String, Error> {
    let (key, request) = make(node, purpose)?;
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let created = api.create(&PostParams::default(), &request).await.map_err(Error::Ask)?;
    let name = created.metadata.name.unwrap_or_default();
    let decided = await_condition(api, &name, |request: Option<&CertificateSigningRequest>| {
        request.is_none_or(|request| refusal(request).is_some() || certificate(request).is_some())
    });
    let Ok(decided) = tokio::time::timeout(patience, decided).await else {
        return Err(Error::Late { name, patience });
    };
    let request = decided.map_err(Error::Wait)?;
    let why = match &request {
        None => Some("it was removed".to_owned()),
        Some(request) => refusal(request),
    };
    match (why, request.as_ref().and_then(certificate)) {
        (None, Some(certificate)) => Ok(key.serialize_pem() + &certificate),
        (why, _) => Err(Error::Refused { name, why: why.unwrap_or_default() }),
    }
}

fn make(node: &str, purpose: &Purpose) -> Result<(KeyPair, CertificateSigningRequest), Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
    let (signer, usage) = match purpose {
        Purpose::Client => ("kubernetes.io/kube-apiserver-client-kubelet", "client auth"),
        Purpose::Serving(addresses) => {
            params.subject_alt_names.push(SanType::DnsName(node.try_into()?));
            params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
            ("kubernetes.io/kubelet-serving", "server auth")
        }
    };
    let key = KeyPair::generate()?;
    let pem = params.serialize_request(&key)?.pem()?;
    let request = CertificateSigningRequest {
        metadata: ObjectMeta { generate_name: Some("csr-".to_owned()), ..ObjectMeta::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: signer.to_owned(),
            usages: Some(vec!["digital signature".to_owned(), usage.to_owned()]),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    Ok((key, request))
}

fn refusal(request: &CertificateSigningRequest) -> Option<String> {
    let conditions = request.status.as_ref()?.conditions.iter().flatten();
    let mut refusals = conditions.filter(|condition| ["Denied", "Failed"].contains(&condition.type_.as_str()));
    refusals.next().map(|refusal| {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        format!("{} {} {}", refusal.type_, text(&refusal.reason), text(&refusal.message)).trim_end().to_owned()
    })
}

fn certificate(request: &CertificateSigningRequest) -> Option<String> {
    let pem = request.status.as_ref()?.certificate.as_ref().filter(|pem| !pem.0.is_empty())?;
    String::from_utf8(pem.0.clone()).ok()
}
