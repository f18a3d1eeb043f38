//! Kubeconfig files: how clients outside this process find the API server and show who they are.

use std::path::Path;

use kube::config::{AuthInfo, Cluster, Context, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext};
use secrecy::SecretString;

use crate::pki::{Pair, PkiError, write_secret};

/// A kubeconfig with everything inline, so that the file can be copied elsewhere. `name` names cluster and context.
pub(crate) fn kubeconfig(name: &str, server: &str, ca: &str, user: &str, identity: &Pair) -> Kubeconfig {
    let encode = |pem: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem);
    let cluster =
        Cluster { server: Some(server.to_owned()), certificate_authority_data: Some(encode(ca)), ..Cluster::default() };
    let auth = AuthInfo {
        client_certificate_data: Some(encode(&identity.certificate)),
        client_key_data: Some(SecretString::from(encode(&identity.key))),
        ..AuthInfo::default()
    };
    let context = Context { cluster: name.to_owned(), user: Some(user.to_owned()), ..Context::default() };
    Kubeconfig {
        clusters: vec![NamedCluster { name: name.to_owned(), cluster: Some(cluster), ..NamedCluster::default() }],
        auth_infos: vec![NamedAuthInfo { name: user.to_owned(), auth_info: Some(auth), ..NamedAuthInfo::default() }],
        contexts: vec![NamedContext { name: name.to_owned(), context: Some(context), ..NamedContext::default() }],
        current_context: Some(name.to_owned()),
        api_version: Some("v1".to_owned()),
        kind: Some("Config".to_owned()),
        ..Kubeconfig::default()
    }
}

/// Writes a kubeconfig, mode 0600.
pub(crate) fn write(path: &Path, config: &Kubeconfig) -> Result<(), PkiError> {
    let text = serde_yaml::to_string(config).expect("a kubeconfig is plain text and maps");
    write_secret(path, &text)
}
