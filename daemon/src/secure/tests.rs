use std::sync::Mutex;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::*;

/// Lets those through that a certificate names, and notes everybody.
#[derive(Clone, Default)]
struct Doorman(Arc<Mutex<Vec<Caller>>>);

impl Gate for Doorman {
    async fn judge(&self, caller: Caller) -> Result<(), Refusal> {
        let known = caller.certificate.is_some();
        self.0.lock().unwrap().push(caller);
        if known { Ok(()) } else { Err(Refusal { status: StatusCode::FORBIDDEN, body: "{}".to_owned() }) }
    }
}

struct Server {
    address: SocketAddr,
    doorman: Doorman,
    server: CertificateDer<'static>,
    shutdown: CancellationToken,
}

async fn start(client_ca: Vec<CertificateDer<'static>>) -> Server {
    crate::install_crypto_provider();
    let identity = Identity::made(&["localhost"], &[IpAddr::V4(Ipv4Addr::LOCALHOST)]).unwrap();
    let server = identity.certificates()[0].clone();
    let tls = server_config(identity, client_ca, &TlsOptions::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, doorman) = (listener.local_addr().unwrap(), Doorman::default());
    let checks = Checks { open: vec!["/healthz".to_owned(), "/livez/*".to_owned()], gate: doorman.clone() };
    let secure = Secure { listener, tls: TlsAcceptor::from(Arc::new(tls)), checks: Arc::new(checks) };
    let (process, shutdown) = (crate::detached(), CancellationToken::new());
    tokio::spawn(secure.serve(process.metrics.clone(), process.ready.watch(), shutdown.clone()));
    Server { address, doorman, server, shutdown }
}

impl Server {
    async fn get(&self, path: &str, token: &str, identity: Option<(&rcgen::Certificate, &KeyPair)>) -> String {
        let mut roots = RootCertStore::empty();
        roots.add(self.server.clone()).unwrap();
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
                builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
        };
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // Whoever is turned away may see the connection end without a last word of TLS.
        let _end = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }
}

#[tokio::test]
async fn health_is_open_and_the_rest_is_for_the_gate_to_say() {
    let server = start(Vec::new()).await;
    assert!(server.get("/healthz", "t", None).await.starts_with("HTTP/1.1 200"));
    assert!(server.doorman.0.lock().unwrap().is_empty(), "nobody was asked");
    for path in ["/metrics", "/readyz", "/nowhere"] {
        assert!(server.get(path, "t", None).await.starts_with("HTTP/1.1 403"), "{path}");
    }
    let asked = server.doorman.0.lock().unwrap()[0].clone();
    let expected = Caller { certificate: None, token: Some("t".into()), verb: "get", path: "/metrics".into() };
    assert_eq!(asked, expected);
    server.shutdown.cancel();
}

#[tokio::test]
async fn a_client_is_who_its_certificate_names() {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "prometheus");
    params.distinguished_name.push(DnType::OrganizationName, "monitoring");
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &ca).unwrap();
    let server = start(vec![ca.der().clone()]).await;
    assert!(server.get("/metrics", "", Some((&certificate, &key))).await.starts_with("HTTP/1.1 200"));
    let asked = server.doorman.0.lock().unwrap()[0].certificate.clone().unwrap();
    assert_eq!((asked.common.as_str(), asked.organizations), ("prometheus", vec!["monitoring".to_owned()]));
    server.shutdown.cancel();
}

#[test]
fn open_paths_are_whole_paths_or_beginnings() {
    let check = |open: &str, path: &str, expected: bool| assert_eq!(is_open(open, path), expected, "{open} {path}");
    check("/healthz", "/healthz", true);
    check("/healthz", "/healthz/", true);
    check("/healthz", "/healthz/ping", false);
    check("/healthz/*", "/healthz/ping", true);
    check("/healthz", "/healthzz", false);
    check("*", "/metrics", true);
}

#[tokio::test]
async fn port_zero_is_no_endpoint() {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        secure: SecureArgs,
    }
    let line = |arguments: &str| crate::pflag::try_parse_from::<Line>(arguments.split(' ').map(Into::into));
    let args = line("x --secure-port=0 --authentication-tolerate-lookup-failure=false").unwrap().secure;
    assert!(!args.authentication_tolerate_lookup_failure);
    let door = Door { name: "kube-scheduler", port: 10259 };
    assert!(args.bind(door, Vec::new(), Doorman::default()).await.unwrap().is_none());
    let half = line("x --tls-cert-file=a").map(|line| line.secure.tls_cert_file).unwrap_err();
    assert!(half.to_string().contains("--tls-private-key-file"), "{half}");
}
