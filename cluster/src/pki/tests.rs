//! Keys and certificates in a directory.

use super::*;

const ADMIN: Identity<'_> = Identity { user: "admin", group: "system:masters" };

#[test]
fn a_second_open_finds_the_same_certificates() {
    let directory = tempfile::tempdir().unwrap();
    let first = Pki::open(directory.path()).unwrap();
    let (admin, key) = (first.client("admin", ADMIN).unwrap(), first.service_account_key().unwrap());
    let second = Pki::open(directory.path()).unwrap();
    assert_eq!(second.ca(), first.ca());
    assert_eq!(second.client("admin", ADMIN).unwrap(), admin);
    assert_eq!(second.service_account_key().unwrap(), key);
}

#[test]
fn a_server_gets_a_new_certificate_when_its_address_changes() {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::open(directory.path()).unwrap();
    let one = [IpAddr::from([127, 0, 0, 1])];
    let two = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([10, 0, 0, 1])];
    let server = Identity { user: "kube-apiserver", group: "" };
    let first = pki.server("apiserver", server, &["localhost"], &one).unwrap();
    assert_eq!(pki.server("apiserver", server, &["localhost"], &one).unwrap(), first);
    assert_ne!(pki.server("apiserver", server, &["localhost"], &two).unwrap(), first);
}

#[test]
fn front_proxies_have_a_ca_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::open(directory.path()).unwrap();
    let front_proxy = pki.front_proxy().unwrap();
    assert_ne!(front_proxy.ca(), pki.ca());
    let identity = Identity { user: "front-proxy-client", group: "" };
    let client = front_proxy.client("front-proxy-client", identity).unwrap();
    assert_eq!(pki.front_proxy().unwrap().client("front-proxy-client", identity).unwrap(), client);
    assert!(front_proxy.still_good("front-proxy-client", &client, &[]).unwrap());
    assert!(!pki.still_good("front-proxy-client", &client, &[]).unwrap());
    assert!(directory.path().join("front-proxy-ca.crt").exists());
}

#[test]
fn etcd_has_a_ca_of_its_own_whose_members_are_servers_and_clients_of_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::open(directory.path()).unwrap();
    let etcd = pki.etcd().unwrap();
    assert_ne!(etcd.ca(), pki.ca());
    let pair = etcd.peer("server", Identity { user: "etcd", group: "" }, &["etcd-1"], &[]).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(pair.certificate.as_bytes()).unwrap();
    let certificate = pem.parse_x509().unwrap();
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && usage.client_auth);
    assert!(directory.path().join("etcd/server.crt").exists());
}

#[test]
fn another_machine_gets_leaves_of_the_same_ca_but_not_its_key() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let pki = Pki::open(here.path()).unwrap();
    let other = pki.elsewhere(there.path()).unwrap();
    let pair = other.client("kubelet", Identity { user: "system:node:n", group: "system:nodes" }).unwrap();
    assert!(pki.still_good("kubelet", &pair, &[]).unwrap());
    assert_eq!(fs::read_to_string(there.path().join("ca.crt")).unwrap(), pki.ca().certificate);
    assert!(!there.path().join("ca.key").exists() && !here.path().join("kubelet.key").exists());
}

/// A leaf as earlier versions made them: it does not name the key that signed it.
fn without_authority(pki: &Pki, name: &str) -> Pair {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = validity(LEAF_LIFETIME);
    let certificate = params.signed_by(&key, &pki.issuer).unwrap();
    let pair = Pair { certificate: certificate.pem(), key: key.serialize_pem() };
    write_pair(&pki.directory, name, &pair).unwrap();
    pair
}

#[test]
fn a_leaf_that_does_not_name_its_authority_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::open(directory.path()).unwrap();
    let old = without_authority(&pki, "admin");
    let again = Pki::open(directory.path()).unwrap();
    let new = again.client("admin", ADMIN).unwrap();
    assert_ne!(new, old);
    assert_eq!(again.ca(), pki.ca(), "the CA stays");
    assert_eq!(again.client("admin", ADMIN).unwrap(), new, "once");
}

/// What Python 3.13 asks of certificates by default (`VERIFY_X509_STRICT`), by OpenSSL itself.
#[test]
fn strict_clients_accept_every_leaf() {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::open(directory.path()).unwrap();
    let server = Identity { user: "kube-apiserver", group: "" };
    pki.server("apiserver", server, &["localhost"], &[IpAddr::from([127, 0, 0, 1])]).unwrap();
    pki.client("admin", ADMIN).unwrap();
    for (name, purpose) in [("apiserver", "sslserver"), ("admin", "sslclient")] {
        let openssl = std::process::Command::new("openssl")
            .args(["verify", "-x509_strict", "-purpose", purpose, "-CAfile"])
            .args([pki.path("ca.crt"), pki.path(&format!("{name}.crt"))])
            .output();
        let Ok(verified) = openssl else {
            eprintln!("skipped: there is no openssl here");
            return;
        };
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success(), "{name}: {said}");
    }
}

#[test]
fn a_damaged_ca_is_refused_with_its_path() {
    let directory = tempfile::tempdir().unwrap();
    Pki::open(directory.path()).unwrap();
    fs::write(directory.path().join("ca.key"), "nonsense").unwrap();
    let err = Pki::open(directory.path()).unwrap_err();
    assert!(err.to_string().contains("ca.key"), "{err}");
}

#[test]
fn keys_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    Pki::open(directory.path()).unwrap().client("admin", ADMIN).unwrap();
    let mode = fs::metadata(directory.path().join("admin.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
