//! Connections that leave HTTP.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Stage;

const TOKEN: &str = "secret";

#[tokio::test]
async fn an_upgraded_connection_is_joined_with_that_of_the_other_server() {
    let tokens = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(tokens.path(), format!("{TOKEN},admin,1,\"system:masters\"\n")).unwrap();
    let path = tokens.path().to_owned();
    let mut stage = Stage::with(|config| config.token_auth_file = Some(path)).await;
    stage.register(&stage.spec()).await;
    stage.ready().await;
    stage.extension.asked();
    let address = stage.server.listen().await;
    let served = stage._directory.path().join("apiserver.crt");
    while !served.exists() {
        tokio::task::yield_now().await;
    }
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(served).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let socket = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("kubernetes").unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, socket).await.unwrap();
    let request = format!(
        "GET /apis/wardle.example.com/v1alpha1/echo HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\
         Connection: Upgrade\r\nUpgrade: echo\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 ") && head.contains("upgrade: echo"), "{head}");
    stream.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hello");
    let [asked] = stage.extension.asked().try_into().unwrap();
    assert_eq!((asked.all("x-remote-user"), asked.all("upgrade")), (vec!["admin".to_owned()], vec!["echo".to_owned()]));
    assert_eq!(asked.all("x-forwarded-for"), ["127.0.0.1"]);
}
