use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;
use rcgen::{BasicConstraints, CertificateParams, DnType, DnValue, IsCa, KeyPair};
use x509_cert::Certificate;
use x509_cert::der::DecodePem;

use super::authority::SignError;
use super::*;
use crate::Signing;

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

fn ca() -> Signing {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "test-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Signing { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

pub(super) fn spec(
    signer: &str,
    name: &str,
    group: &str,
    names: &[&str],
    usages: &[&str],
) -> CertificateSigningRequestSpec {
    let mut params = CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, DnValue::Utf8String(group.to_owned()));
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    CertificateSigningRequestSpec {
        request: ByteString(pem.into_bytes()),
        signer_name: signer.to_owned(),
        usages: Some(usages.iter().map(|&usage| usage.to_owned()).collect()),
        username: Some(name.to_owned()),
        ..CertificateSigningRequestSpec::default()
    }
}

const CLIENT_USAGES: [&str; 2] = ["digital signature", "client auth"];

#[test]
fn a_signed_certificate_keeps_the_subject_and_verifies() {
    let ca = ca();
    let authority = Authority::new(&ca).unwrap();
    let spec = spec(
        policy::KUBELET_SERVING,
        "system:node:n1",
        "system:nodes",
        &["n1", "10.0.0.1"],
        &["digital signature", "server auth"],
    );
    let wanted = Wanted::parse(&spec).ok().unwrap();
    let pem = authority.sign(&wanted.request, spec.usages.as_ref().unwrap(), Duration::from_secs(3600), now()).unwrap();
    let certificate = Certificate::from_pem(&pem).unwrap();
    let tbs = certificate.tbs_certificate();
    assert_eq!(tbs.subject(), &wanted.request.info.subject);
    assert_eq!(tbs.validity().not_after.to_unix_duration().as_secs(), u64::try_from(now().as_second()).unwrap() + 3300);
    let extensions: Vec<_> = tbs.extensions().unwrap().iter().map(|known| known.extn_id.to_string()).collect();
    assert!(
        extensions.contains(&"2.5.29.17".to_owned()) && extensions.contains(&"2.5.29.37".to_owned()),
        "{extensions:?}"
    );
    assert!(matches!(
        authority.sign(&wanted.request, &["ocsp signing".into()], Duration::ZERO, now()),
        Err(SignError::Usage(_))
    ));
    let other = Signing { key: KeyPair::generate().unwrap().serialize_pem(), ..ca };
    assert!(matches!(Authority::new(&other), Err(SignError::Mismatch)));
}

#[test]
fn each_signer_refuses_what_it_must_not_sign() {
    let check = |spec: CertificateSigningRequestSpec, is_refused: bool| {
        let wanted = Wanted::parse(&spec).ok().unwrap();
        assert_eq!(policy::refusal(&spec, &wanted).is_some(), is_refused, "{:?}", policy::refusal(&spec, &wanted));
    };
    let node = "system:node:n1";
    check(spec(policy::KUBELET_CLIENT, node, "system:nodes", &[], &CLIENT_USAGES), false);
    check(spec(policy::KUBELET_CLIENT, node, "system:nodes", &["n1"], &CLIENT_USAGES), true);
    check(spec(policy::KUBELET_CLIENT, node, "other", &[], &CLIENT_USAGES), true);
    check(spec(policy::KUBELET_CLIENT, node, "system:nodes", &[], &["digital signature", "server auth"]), true);
    check(spec(policy::KUBELET_SERVING, node, "system:nodes", &[], &["digital signature", "server auth"]), true);
    check(spec(policy::CLIENT, "eve", "system:masters", &[], &CLIENT_USAGES), true);
    check(spec(policy::CLIENT, "eve", "developers", &[], &CLIENT_USAGES), false);
}

#[test]
fn only_kubelets_own_client_certificates_are_approved_without_an_administrator() {
    let approval = |mut spec: CertificateSigningRequestSpec, user: &str| {
        spec.username = Some(user.to_owned());
        policy::self_approval(&spec, &Wanted::parse(&spec).ok().unwrap())
    };
    let node = || spec(policy::KUBELET_CLIENT, "system:node:n1", "system:nodes", &[], &CLIENT_USAGES);
    assert_eq!(approval(node(), "system:node:n1"), Some("selfnodeclient"));
    assert_eq!(approval(node(), "system:bootstrap:abc"), Some("nodeclient"));
    assert_eq!(approval(spec(policy::CLIENT, "eve", "system:nodes", &[], &CLIENT_USAGES), "eve"), None);
}
