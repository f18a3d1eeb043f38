//! etcd behind TLS, with certificates made on the spot.

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use store::etcd::{EtcdStore, Options, Tls};
use store::{Error, Store};
use tempfile::TempDir;

use super::checks::create;
use super::etcd_server::{EtcdServer, connect};

/// A certificate authority.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for a server and client on loopback, and its key.
    fn sign(&self) -> (String, String) {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// Starts an etcd that asks its clients for certificates of this authority.
async fn start(authority: &Authority) -> Option<(EtcdServer, TempDir)> {
    let files = tempfile::tempdir().unwrap();
    let (certificate, key) = authority.sign();
    let write = |name: &str, text: &str| {
        let path = files.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let arguments = [
        format!("--cert-file={}", write("server.crt", &certificate)),
        format!("--key-file={}", write("server.key", &key)),
        format!("--trusted-ca-file={}", write("ca.crt", &authority.pem)),
        "--client-cert-auth".into(),
    ];
    Some((EtcdServer::start_with("https", &arguments).await?, files))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_shown_and_asked_for() {
    let (ours, other) = (Authority::new(), Authority::new());
    let Some((server, _files)) = start(&ours).await else { return };
    let options = |trusted: &Authority, identity: Option<(String, String)>| Options {
        tls: Some(Tls {
            ca: trusted.pem.clone().into_bytes(),
            identity: identity.map(|(certificate, key)| (certificate.into_bytes(), key.into_bytes())),
        }),
        ..Options::new([format!("https://127.0.0.1:{}", server.client)])
    };
    let store = connect(options(&ours, Some(ours.sign()))).await;
    let revision = create(&store, "/r/a", "1").await;
    assert_eq!(store.get("/r/a").await.unwrap().unwrap().mod_revision, revision);

    for refused in [options(&ours, None), options(&ours, Some(other.sign())), options(&other, Some(ours.sign()))] {
        let err = EtcdStore::connect(refused).await.err().unwrap();
        assert!(matches!(err, Error::Unavailable { .. } | Error::Backend { .. }), "{err:?}");
    }
}
