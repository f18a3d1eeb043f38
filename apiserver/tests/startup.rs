//! Starts the binary as others start kube-apiserver: envtest of controller-runtime with its flags and keys, kubeadm with
//! those of its static pod. Both need etcd; without it they are skipped, or fail with `E2E_REQUIRED=1`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod process;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, PublicKeyData as _, SignatureAlgorithm,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use process::{Running, etcd, free_port, is_installed};

/// How long a start or an end may take: far more than it does.
const PATIENCE: Duration = Duration::from_secs(30);
const REVIEWS: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// A CA, and certificates by it in files.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    keys: &'static SignatureAlgorithm,
}

/// A certificate and its key, PEM.
struct Pair {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(name: &str, keys: &'static SignatureAlgorithm) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate_for(keys).unwrap()).unwrap(), keys }
    }

    /// For a user, in perhaps one group.
    fn client(&self, name: &str, group: Option<&str>) -> Pair {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        self.sign(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// For a server on this machine.
    fn server(&self) -> Pair {
        let names = ["localhost", "127.0.0.1"].map(str::to_owned).to_vec();
        self.sign(CertificateParams::new(names).unwrap(), ExtendedKeyUsagePurpose::ServerAuth)
    }

    fn sign(&self, mut params: CertificateParams, purpose: ExtendedKeyUsagePurpose) -> Pair {
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate_for(self.keys).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }
}

/// Files below a temporary directory.
struct Files(TempDir);

impl Files {
    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::create_dir_all(self.at(name).parent().unwrap()).unwrap();
        std::fs::write(self.at(name), content).unwrap();
    }

    fn pair(&self, name: &str, pair: &Pair) {
        self.write(&format!("{name}.crt"), &pair.certificate);
        self.write(&format!("{name}.key"), &pair.key);
    }

    /// `--flag=file`.
    fn flag(&self, flag: &str, file: &str) -> String {
        format!("--{flag}={}", self.at(file).display())
    }
}

/// A client that trusts `ca` (PEM), or any server, and shows a certificate if it has one.
async fn client(port: u16, ca: Option<&str>, user: Option<&Pair>, token: Option<&str>) -> kube::Client {
    daemon::install_crypto_provider();
    let base64 = |text: &str| STANDARD.encode(text);
    let mut cluster = json!({"server": format!("https://127.0.0.1:{port}"), "insecure-skip-tls-verify": ca.is_none()});
    if let Some(ca) = ca {
        cluster["certificate-authority-data"] = base64(ca).into();
    }
    let mut by = json!({});
    if let Some(pair) = user {
        by["client-certificate-data"] = base64(&pair.certificate).into();
        by["client-key-data"] = base64(&pair.key).into();
    }
    if let Some(token) = token {
        by["token"] = token.into();
    }
    let kubeconfig: Kubeconfig = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": by}],
    }))
    .unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    kube::Client::try_from(config).unwrap()
}

async fn get(client: &kube::Client, path: &str) -> Result<String, kube::Error> {
    client.request_text(http::Request::get(path).body(Vec::new()).unwrap()).await
}

async fn post(client: &kube::Client, path: &str, body: &Value, headers: &[(&str, &str)]) -> Result<Value, kube::Error> {
    let mut request = http::Request::post(path).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    client.request(request.body(body.to_string().into_bytes()).unwrap()).await
}

/// The code of a refusal.
fn code<T: std::fmt::Debug>(answer: Result<T, kube::Error>) -> u16 {
    match answer.unwrap_err() {
        kube::Error::Api(status) => status.code,
        other => panic!("{other}"),
    }
}

/// Polls as envtest and a kubelet do.
async fn wait_until_served(port: u16) {
    let nobody = client(port, None, None, None).await;
    for path in ["/healthz", "/readyz", "/livez"] {
        let deadline = Instant::now() + PATIENCE;
        while let Err(err) = get(&nobody, path).await {
            assert!(Instant::now() < deadline, "{path}: {err}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn start(flags: &[String]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_apiserver"));
    command.args(flags);
    Running::when(command, "listening")
}

/// Asks a process to end, and waits until it has.
fn terminate(mut running: Running) {
    let asked = Command::new("kill").arg(running.0.id().to_string()).status().unwrap();
    assert!(asked.success());
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = running.0.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(status.success(), "{status}");
}

/// The directory that envtest makes, and its flags, in its order.
fn envtest(files: &Files, port: u16, etcd: &str) -> (Authority, Authority, Vec<String>) {
    let [serving, clients, signer] = ["a", "b", "c"].map(|_| Authority::new("envtest-environment", &PKCS_RSA_SHA256));
    files.pair("apiserver", &serving.server());
    files.write("sa-signer.crt", &signer.issuer.pem());
    files.write("sa-signer.key", &signer.issuer.key().serialize_pem());
    files.write("client-cert-auth-ca.crt", &clients.issuer.pem());
    let flags = vec![
        "--allow-privileged=true".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--cert-dir={}", files.0.path().display()),
        files.flag("client-ca-file", "client-cert-auth-ca.crt"),
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        format!("--etcd-servers={etcd}"),
        format!("--secure-port={port}"),
        format!("--service-account-issuer=https://127.0.0.1:{port}/"),
        files.flag("service-account-key-file", "sa-signer.crt"),
        files.flag("service-account-signing-key-file", "sa-signer.key"),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
    ];
    (serving, clients, flags)
}

#[tokio::test]
async fn envtest_starts_it_and_its_users_work_with_it() {
    if !is_installed("etcd") {
        return;
    }
    let files = Files(tempfile::tempdir().unwrap());
    let (port, etcd_url) = (free_port(), format!("http://127.0.0.1:{}", free_port()));
    let _etcd = etcd(&files.at("etcd"), &etcd_url, &[]);
    let (serving, clients, flags) = envtest(&files, port, &etcd_url);
    let server = start(&flags);
    wait_until_served(port).await;

    let ca = serving.issuer.pem();
    let admin = clients.client("admin", Some("system:masters"));
    let admin = client(port, Some(&ca), Some(&admin), None).await;
    let definition = json!({
        "metadata": {"name": "boats.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "boats", "kind": "Boat"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "properties": {"seats": {"type": "integer"}}}},
            }}}],
        },
    });
    post(&admin, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition, &[]).await.unwrap();
    let boat = json!({"apiVersion": "example.com/v1", "kind": "Boat", "metadata": {"name": "b"}, "spec": {"seats": 1}});
    let boats = "/apis/example.com/v1/namespaces/default/boats";
    let deadline = Instant::now() + PATIENCE;
    while let Err(err) = post(&admin, boats, &boat, &[]).await {
        assert!(Instant::now() < deadline, "{err}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let pod = post(&admin, "/api/v1/namespaces/default/pods", &pod, &[]).await.unwrap();
    assert_eq!(pod["spec"]["volumes"], Value::Null, "the ServiceAccount plugin is off");

    let user = clients.client("user", None);
    let user = client(port, Some(&ca), Some(&user), None).await;
    assert_eq!(code(get(&user, boats).await), 403);
    let stranger = Authority::new("envtest-environment", &PKCS_RSA_SHA256).client("admin", Some("system:masters"));
    let stranger = client(port, Some(&ca), Some(&stranger), None).await;
    assert!(get(&stranger, boats).await.is_err(), "another CA of the same name signed it");
    terminate(server);
}

#[test]
fn its_help_and_version_are_what_tools_look_for() {
    let run = |flag: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_apiserver")).arg(flag).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, help, _) = run("--help");
    assert_eq!(status, Some(0));
    let has = |flag: &str| help.lines().any(|line| line.trim_start().starts_with(flag));
    assert!(has("--bind-address") && has("--service-account-issuer") && !has("--insecure-port"));
    let (status, version, _) = run("--version");
    assert_eq!((status, version.starts_with("Kubernetes v1.36.")), (Some(0), true), "{version}");
    let (status, _, why) = run("--encryption-provider-config=/etc/keys.yaml");
    assert_eq!((status, why.contains("--encryption-provider-config")), (Some(1), true), "{why}");
    let (status, _, why) = run("--no-such-flag");
    assert_eq!((status, why.contains("--no-such-flag")), (Some(1), true), "{why}");
}

/// What kubeadm writes below /etc/kubernetes/pki.
struct Kubeadm {
    cluster: Authority,
    front_proxy: Authority,
}

impl Kubeadm {
    fn write(files: &Files) -> Self {
        let new = |name: &str| Authority::new(name, &PKCS_ECDSA_P256_SHA256);
        let (cluster, front_proxy, etcd) = (new("kubernetes"), new("front-proxy-ca"), new("etcd-ca"));
        files.write("ca.crt", &cluster.issuer.pem());
        files.pair("apiserver", &cluster.server());
        let kubelets = cluster.client("kube-apiserver-kubelet-client", Some("kubeadm:cluster-admins"));
        files.pair("apiserver-kubelet-client", &kubelets);
        files.write("front-proxy-ca.crt", &front_proxy.issuer.pem());
        files.pair("front-proxy-client", &front_proxy.client("front-proxy-client", None));
        files.write("etcd/ca.crt", &etcd.issuer.pem());
        files.pair("etcd/server", &etcd.server());
        files.pair("apiserver-etcd-client", &etcd.client("kube-apiserver-etcd-client", None));
        let tokens = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        files.write("sa.key", &tokens.serialize_pem());
        let public = STANDARD.encode(tokens.subject_public_key_info());
        files.write("sa.pub", &format!("-----BEGIN PUBLIC KEY-----\n{public}\n-----END PUBLIC KEY-----\n"));
        Self { cluster, front_proxy }
    }

    /// The command of the static pod, on the loopback interface.
    fn flags(files: &Files, port: u16, etcd: &str) -> Vec<String> {
        let files_of = [
            ("client-ca-file", "ca.crt"),
            ("etcd-cafile", "etcd/ca.crt"),
            ("etcd-certfile", "apiserver-etcd-client.crt"),
            ("etcd-keyfile", "apiserver-etcd-client.key"),
            ("kubelet-client-certificate", "apiserver-kubelet-client.crt"),
            ("kubelet-client-key", "apiserver-kubelet-client.key"),
            ("proxy-client-cert-file", "front-proxy-client.crt"),
            ("proxy-client-key-file", "front-proxy-client.key"),
            ("requestheader-client-ca-file", "front-proxy-ca.crt"),
            ("service-account-key-file", "sa.pub"),
            ("service-account-signing-key-file", "sa.key"),
            ("tls-cert-file", "apiserver.crt"),
            ("tls-private-key-file", "apiserver.key"),
        ];
        let others = [
            "--advertise-address=192.0.2.10",
            "--allow-privileged=true",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--enable-bootstrap-token-auth=true",
            "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            "--runtime-config=",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            "--service-cluster-ip-range=10.96.0.0/12",
        ];
        let files_of = files_of.iter().map(|(flag, file)| files.flag(flag, file));
        let own = [format!("--etcd-servers={etcd}"), format!("--secure-port={port}")];
        files_of.chain(others.map(str::to_owned)).chain(own).collect()
    }
}

/// etcd as kubeadm runs it: only who has a certificate of its CA may speak with it.
fn secured_etcd(files: &Files, url: &str) -> Running {
    let flags = [
        files.flag("cert-file", "etcd/server.crt"),
        files.flag("key-file", "etcd/server.key"),
        files.flag("trusted-ca-file", "etcd/ca.crt"),
        "--client-cert-auth=true".to_owned(),
    ];
    etcd(Path::new(&files.at("data")), url, &flags)
}

#[tokio::test]
async fn kubeadms_static_pod_starts_with_front_proxies_and_bootstrap_tokens() {
    if !is_installed("etcd") {
        return;
    }
    let files = Files(tempfile::tempdir().unwrap());
    let pki = Kubeadm::write(&files);
    let (port, etcd_url) = (free_port(), format!("https://127.0.0.1:{}", free_port()));
    let _etcd = secured_etcd(&files, &etcd_url);
    let server = start(&Kubeadm::flags(&files, port, &etcd_url));
    wait_until_served(port).await;
    let ca = pki.cluster.issuer.pem();
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});

    let proxy = client(port, Some(&ca), Some(&pki.front_proxy.client("front-proxy-client", None)), None).await;
    let named = [("x-remote-user", "jane"), ("x-remote-group", "dev"), ("x-remote-extra-scope", "a")];
    let answer = post(&proxy, REVIEWS, &review, &named).await.unwrap();
    let user = &answer["status"]["userInfo"];
    assert_eq!(
        (&user["username"], &user["groups"][0], &user["extra"]["scope"][0]),
        (&json!("jane"), &json!("dev"), &json!("a"))
    );
    assert_eq!(code(post(&proxy, REVIEWS, &review, &[]).await), 401, "a proxy that names nobody is nobody");
    let other = client(port, Some(&ca), Some(&pki.front_proxy.client("other", None)), None).await;
    assert_eq!(code(post(&other, REVIEWS, &review, &named).await), 401, "its name is not allowed");
    let admin = client(port, Some(&ca), Some(&pki.cluster.client("admin", Some("system:masters"))), None).await;
    let answer = post(&admin, REVIEWS, &review, &named).await.unwrap();
    assert_eq!(answer["status"]["userInfo"]["username"], "admin", "headers of users count for nothing");

    let token = json!({
        "metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token",
        "stringData": {"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true"},
    });
    post(&admin, "/api/v1/namespaces/kube-system/secrets", &token, &[]).await.unwrap();
    let joining = client(port, Some(&ca), None, Some("abcdef.0123456789abcdef")).await;
    let deadline = Instant::now() + PATIENCE;
    let answer = loop {
        match post(&joining, REVIEWS, &review, &[]).await {
            Ok(answer) => break answer,
            Err(err) => assert!(Instant::now() < deadline, "{err}"),
        }
    };
    assert_eq!(answer["status"]["userInfo"]["username"], "system:bootstrap:abcdef");
    terminate(server);
}
