//! Kubeconfig files: how clients outside this process find the API server and show who they are.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use kube::config::{AuthInfo, Cluster, Context, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext};
use secrecy::SecretString;
use tracing::warn;

use crate::keys::Keys;
use crate::options::Plan;
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

/// Writes the administrator's kubeconfig, and says where the one is that the user who began this can read.
pub(crate) fn write_for_users(plan: &Plan, keys: &Keys) -> anyhow::Result<PathBuf> {
    let server = format!("https://127.0.0.1:{}", plan.options.secure_port);
    let name = plan.options.name.context();
    let config = kubeconfig(&name, &server, &keys.pki.ca().certificate, &format!("{name}-admin"), &keys.admin);
    write(&plan.kubeconfig, &config)?;
    let Some(invoker) = plan.options.invoker else { return Ok(plan.kubeconfig.clone()) };
    if plan.options.write_kubeconfig.is_some() {
        let owned = File::open(&plan.kubeconfig).and_then(|file| invoker.own(file));
        owned.with_context(|| format!("give {} to the user of sudo", plan.kubeconfig.display()))?;
        return Ok(plan.kubeconfig.clone());
    }
    let Some(home) = invoker.home() else { return Ok(plan.kubeconfig.clone()) };
    let written = invoker.write(&home, &format!("{}.kubeconfig", plan.options.node.bridge), &text(&config));
    Ok(written.unwrap_or_else(|err| {
        warn!(error = &err as &dyn std::error::Error, home = %home.display(), "no kubeconfig for the user of sudo");
        plan.kubeconfig.clone()
    }))
}

/// Writes a kubeconfig, mode 0600.
pub(crate) fn write(path: &Path, config: &Kubeconfig) -> Result<(), PkiError> {
    write_secret(path, &text(config))
}

/// The kubeconfig as a file has it.
pub(crate) fn text(config: &Kubeconfig) -> String {
    serde_yaml::to_string(config).expect("a kubeconfig is plain text and maps")
}
