//! What lets other machines join (upstream: `kubeadm init`, phase bootstrap-token, and `kubeadm token create`): where the
//! cluster is, as everybody may read it; what nodes may; and tokens.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use kube::config::{Cluster, Kubeconfig, NamedCluster};
use serde_json::json;

use crate::node::{ClusterNetwork, NetworkText};
use crate::pki::write_secret;
use crate::{addons, authority};

/// The file among the keys of a node that has joined, which tells of its cluster.
pub(crate) const JOINED: &str = "joined.json";
/// The ConfigMap of what all nodes have in common, in `kube-system`.
pub(crate) const NETWORK: &str = "coracle-node-network";
const RIGHTS: &str = include_str!("../../manifests/join.yaml");
/// How long a token is good (upstream's default).
const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// The group that `manifests/join.yaml` gives rights to.
const GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";
/// Letters of tokens, and how many of them are its name and its secret.
const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
/// How long a cluster may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
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
    let admin = administrator(data_dir).await?;
    let maps: kube::Api<k8s_openapi::api::core::v1::ConfigMap> = kube::Api::namespaced(admin.clone(), "kube-public");
    let info = tokio::time::timeout(PATIENCE, maps.get_opt("cluster-info")).await;
    let at = data_dir.display();
    let info = info.with_context(|| format!("the cluster in {at} has not answered within {} s", PATIENCE.as_secs()))?;
    let info = match info {
        Err(err) if is_refused(&err) => {
            bail!("the cluster in {at} does not run: start it with `coracle up --data-dir {at}` and its other options")
        }
        info => info.with_context(|| format!("ask the cluster in {at}"))?,
    };
    let text = info.and_then(|info| info.data?.remove("kubeconfig"));
    let text = text.context("nobody can join: start the cluster with a --node-ip that other machines can reach")?;
    let (server, authority) = authority::published(&text).context("ConfigMap kube-public/cluster-info")?;
    Invitation::with(&admin, &Door { server, authority: &authority }, new_token(), lifetime).await
}

/// A client of the cluster with this data directory, as its administrator.
async fn administrator(data_dir: &Path) -> anyhow::Result<kube::Client> {
    let (path, at) = (data_dir.join("admin.kubeconfig"), data_dir.display());
    match path.try_exists() {
        Ok(true) => {}
        Err(err) if err.kind() == ErrorKind::PermissionDenied => bail!("{at} is another user's: run this with sudo"),
        Err(err) => return Err(err).with_context(|| format!("look into {at}")),
        Ok(false) => {
            let joined = data_dir.join("pki").join(JOINED).exists();
            ensure!(!joined, "{at} is a node that has joined a cluster: make tokens where `coracle up` runs");
            bail!("no cluster has been in {at}: give the --data-dir of its `coracle up`");
        }
    }
    Ok(client::connect(Some(&path), "coracle").await?)
}

/// Whether nobody listens where the server should be.
fn is_refused(err: &kube::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(err);
    while let Some(err) = cause {
        if err.downcast_ref::<io::Error>().is_some_and(|err| err.kind() == ErrorKind::ConnectionRefused) {
            return true;
        }
        cause = err.source();
    }
    false
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

    #[tokio::test]
    async fn a_cluster_that_does_not_run_is_said_with_how_to_start_it() {
        daemon::install_crypto_provider();
        let place = tempfile::tempdir().unwrap();
        let create = || async {
            let err = create_token(place.path(), TOKEN_LIFETIME).await.unwrap_err();
            format!("{err:#}")
        };
        assert!(create().await.contains("no cluster has been in"));
        std::fs::create_dir(place.path().join("pki")).unwrap();
        std::fs::write(place.path().join("pki").join(JOINED), "{}").unwrap();
        assert!(create().await.contains("a node that has joined"));
        let pki = crate::pki::Pki::open(&place.path().join("pki")).unwrap();
        let admin = pki.client("admin", crate::pki::Identity { user: "admin", group: "" }).unwrap();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let server = format!("https://{closed}");
        let config = crate::kubeconfig::kubeconfig("c", &server, &pki.ca().certificate, "admin", &admin);
        crate::kubeconfig::write(&place.path().join("admin.kubeconfig"), &config).unwrap();
        let said = create().await;
        assert!(said.contains("does not run: start it with `coracle up"), "{said}");
    }

    #[test]
    fn the_rights_of_nodes_are_yaml() {
        assert_eq!(addons::documents(RIGHTS).len(), 14);
    }
}
