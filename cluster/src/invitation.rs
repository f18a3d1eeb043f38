//! What lets other machines join (upstream: `kubeadm init`, phase bootstrap-token, and `kubeadm token create`): where the
//! cluster is, as everybody may read it; what nodes may; and tokens.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use kube::config::{Cluster, Kubeconfig, NamedCluster};
use serde_json::json;

use crate::node::{ClusterNetwork, NetworkText};
use crate::pki::write_secret;
use crate::{addons, authority};

/// The ConfigMap of what all nodes have in common, in `kube-system`.
pub(crate) const NETWORK: &str = "coracle-node-network";
const RIGHTS: &str = include_str!("../../manifests/join.yaml");
/// How long a token is good (upstream's default).
const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// The group that `manifests/join.yaml` gives rights to.
const GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";
/// Letters of tokens, and how many of them are its name and its secret.
const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const ID: usize = 6;
const SECRET: usize = 16;

/// Where the cluster is for others, and whom they are to believe.
pub(crate) struct Door<'a> {
    /// Such as `https://10.0.0.1:6443`.
    pub(crate) server: String,
    /// PEM.
    pub(crate) authority: &'a str,
}

/// All that a machine needs to join. Shown as the command that does it.
#[derive(Clone, Debug)]
pub struct Invitation {
    pub(crate) server: String,
    pub(crate) token: String,
    pub(crate) hash: String,
}

impl fmt::Display for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sudo coracle join {} --token {} --ca-hash {}", self.server, self.token, self.hash)
    }
}

/// Publishes where the cluster is, and gives nodes their rights.
pub(crate) async fn open(admin: &kube::Client, door: &Door<'_>, network: &ClusterNetwork) -> anyhow::Result<()> {
    let cluster = Cluster {
        server: Some(door.server.clone()),
        certificate_authority_data: Some(base64::engine::general_purpose::STANDARD.encode(door.authority)),
        ..Cluster::default()
    };
    let kubeconfig = Kubeconfig {
        clusters: vec![NamedCluster { cluster: Some(cluster), ..NamedCluster::default() }],
        api_version: Some("v1".to_owned()),
        kind: Some("Config".to_owned()),
        ..Kubeconfig::default()
    };
    let map = |namespace: &str, name: &str, data: serde_json::Value| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": namespace}, "data": data,
        })
    };
    let mut objects = addons::documents(RIGHTS);
    objects.push(map("kube-public", "cluster-info", json!({"kubeconfig": crate::kubeconfig::text(&kubeconfig)})));
    objects.push(map("kube-system", NETWORK, serde_json::to_value(NetworkText::from(network))?));
    for object in &objects {
        addons::apply(admin, object).await?;
    }
    Ok(())
}

impl Invitation {
    /// With the token of an earlier time, which is good for another day; a new one when there is none in `file`.
    pub(crate) async fn kept(admin: &kube::Client, door: &Door<'_>, file: &Path) -> anyhow::Result<Self> {
        let known = std::fs::read_to_string(file).ok().filter(|token| is_token(token));
        let token = known.clone().unwrap_or_else(new_token);
        if known.is_none() {
            write_secret(file, &token)?;
        }
        Self::with(admin, door, token, TOKEN_LIFETIME).await
    }

    async fn with(admin: &kube::Client, door: &Door<'_>, token: String, lifetime: Duration) -> anyhow::Result<Self> {
        let hash = authority::hash_of(door.authority).context("the cluster's CA")?;
        addons::apply(admin, &secret(&token, lifetime)?).await?;
        Ok(Self { server: door.server.clone(), token, hash })
    }
}

/// Makes a token for the cluster with this data directory, which must run; answers the command by which others join.
pub async fn create_token(data_dir: &Path, lifetime: Duration) -> anyhow::Result<Invitation> {
    let path: PathBuf = data_dir.join("admin.kubeconfig");
    ensure!(path.exists(), "no cluster has been in {}: give its --data-dir", data_dir.display());
    let admin = client::connect(Some(&path), "coracle").await?;
    let maps: kube::Api<k8s_openapi::api::core::v1::ConfigMap> = kube::Api::namespaced(admin.clone(), "kube-public");
    let info = maps.get_opt("cluster-info").await.context("ask the cluster (does it run?)")?;
    let text = info.and_then(|info| info.data?.remove("kubeconfig"));
    let text = text.context("nobody can join: start the cluster with a --node-ip that other machines can reach")?;
    let (server, authority) = authority::published(&text).context("ConfigMap kube-public/cluster-info")?;
    Invitation::with(&admin, &Door { server, authority: &authority }, new_token(), lifetime).await
}

fn new_token() -> String {
    let letters = |count: usize| -> String {
        (0..count).map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())])).collect()
    };
    format!("{}.{}", letters(ID), letters(SECRET))
}

/// Whether a text has the form of a token, `abcdef.0123456789abcdef`.
pub(crate) fn is_token(text: &str) -> bool {
    let is_part = |part: &str, length| part.len() == length && part.bytes().all(|letter| LETTERS.contains(&letter));
    text.split_once('.').is_some_and(|(id, secret)| is_part(id, ID) && is_part(secret, SECRET))
}

fn secret(token: &str, lifetime: Duration) -> anyhow::Result<serde_json::Value> {
    let (id, secret) = token.split_once('.').context("a token has two parts")?;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let expires = k8s_openapi::jiff::Timestamp::now().checked_add(lifetime).context("--ttl is too long")?;
    Ok(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"},
        "data": {
            "token-id": encode(id), "token-secret": encode(secret),
            "expiration": encode(&expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            "usage-bootstrap-authentication": encode("true"), "usage-bootstrap-signing": encode("true"),
            "auth-extra-groups": encode(GROUP),
            "description": encode("lets nodes join"),
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_the_form_that_the_api_server_knows_and_are_never_the_same() {
        let (one, other) = (new_token(), new_token());
        assert!(is_token(&one) && one != other, "{one}");
        for bad in
            ["", "abcdef", "abcdef.", "abcdef.0123456789abcdeF", "abcde.0123456789abcdef", "abcdef.0123456789abcdef0"]
        {
            assert!(!is_token(bad), "{bad}");
        }
    }

    #[test]
    fn the_rights_of_nodes_are_yaml() {
        assert_eq!(addons::documents(RIGHTS).len(), 14);
    }
}
