//! How a machine becomes a node: it finds the cluster, believes it by the hash of its CA, and shows a token to get a
//! certificate (upstream: `kubeadm join`, phases preflight, discovery and kubelet-start). Nothing of the machine is changed
//! before all of that has succeeded.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use client::Server;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::Api;
use kube::client::Body;
use kubelet::certificates::{self, Purpose};

use crate::node::{ClusterNetwork, NetworkText};
use crate::{authority, invitation};

/// A server that takes longer to answer one question is not there.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the certificate may take.
const CERTIFICATE: Duration = Duration::from_secs(60);
/// More is no ConfigMap of a cluster.
const LONGEST: usize = 256 * 1024;
const CLUSTER_INFO: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
const AGENT: &str = "coracle-join";

/// What a machine was given to join with.
pub(super) struct Ticket<'a> {
    pub(super) server: &'a Uri,
    pub(super) token: &'a str,
    /// Of the CA's public key.
    pub(super) hashes: &'a [String],
    pub(super) node: &'a str,
}

/// What it gets for that.
pub(super) struct Admitted {
    /// DER.
    pub(super) authorities: Vec<Vec<u8>>,
    /// Key and certificate, PEM.
    pub(super) certificate: String,
    pub(super) network: ClusterNetwork,
}

/// Reads `10.0.0.1:6443`, also with `https://` before it.
pub(super) fn server(text: &str) -> anyhow::Result<Uri> {
    let wrong = || format!("{text:?} is no address of an API server, such as 10.0.0.1:6443");
    let url = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let url: Uri = url.trim_end_matches('/').parse().with_context(wrong)?;
    let is_plain =
        url.scheme_str() == Some("https") && url.path().trim_matches('/').is_empty() && url.query().is_none();
    ensure!(is_plain && url.port_u16().is_some() && url.host().is_some_and(|host| !host.is_empty()), wrong());
    Ok(url)
}

impl Ticket<'_> {
    /// Asks for admission.
    pub(super) async fn show(&self) -> anyhow::Result<Admitted> {
        ensure!(
            invitation::is_token(self.token),
            "--token is no token, such as abcdef.0123456789abcdef: `coracle token create` on the control plane makes one"
        );
        ensure!(!self.hashes.is_empty(), "--ca-hash is missing: the command that `coracle up` prints has it");
        for hash in self.hashes {
            ensure!(authority::is_hash(hash), "--ca-hash {hash:?}: must be sha256: and 64 hexadecimal digits");
        }
        let authorities = self.believe().await?;
        let server = Server { url: self.server.clone(), authorities: Some(authorities.clone()) };
        let client = server.connect(Some(self.token), AGENT)?;
        self.check_name(&client).await?;
        let network = self.network(&client).await?;
        let asked = certificates::request(&client, self.node, &Purpose::Client, CERTIFICATE).await;
        Ok(Admitted { authorities, certificate: asked.context("certificate of this node")?, network })
    }

    /// The cluster's authorities, which are those that were meant.
    async fn believe(&self) -> anyhow::Result<Vec<Vec<u8>>> {
        let anonymous = Server { url: self.server.clone(), authorities: None }.connect(None, AGENT)?;
        let info: ConfigMap = fetch(&anonymous, self.server).await?;
        let text = info.data.and_then(|mut data| data.remove("kubeconfig")).context("cluster-info is empty")?;
        let (_, pem) = authority::published(&text).with_context(|| format!("cluster-info of {}", self.server))?;
        authority::pinned(&pem, self.hashes).with_context(|| self.server.to_string())
    }

    /// Another machine may be this node: it would lose its pods to us.
    async fn check_name(&self, client: &kube::Client) -> anyhow::Result<()> {
        let nodes: Api<Node> = Api::all(client.clone());
        let known = self.in_time(nodes.get_opt(self.node)).await?;
        ensure!(
            known.is_none(),
            "the cluster has a node {0} already: choose another --node-name, or remove that one: kubectl delete node {0}",
            self.node
        );
        Ok(())
    }

    async fn network(&self, client: &kube::Client) -> anyhow::Result<ClusterNetwork> {
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
        let data = self.in_time(maps.get(invitation::NETWORK)).await?.data.unwrap_or_default();
        let text: NetworkText = serde_json::from_value(serde_json::to_value(data)?).context(invitation::NETWORK)?;
        text.try_into().context(invitation::NETWORK)
    }

    async fn in_time<T>(&self, request: impl Future<Output = kube::Result<T>>) -> anyhow::Result<T> {
        match tokio::time::timeout(PATIENCE, request).await {
            Err(_) => bail!("{} does not answer", self.server),
            Ok(Err(kube::Error::Api(status))) if status.code == 401 => bail!(
                "the cluster does not know the token, or it has expired: `coracle token create` on the control plane makes \
                 another"
            ),
            Ok(answer) => answer.with_context(|| self.server.to_string()),
        }
    }
}

/// What everybody may read, from whoever answers: with bounds.
async fn fetch(client: &kube::Client, server: &Uri) -> anyhow::Result<ConfigMap> {
    let request = Request::get(CLUSTER_INFO).body(Body::empty())?;
    let fetched = async {
        let answer = client.send(request).await.with_context(|| format!("cannot reach {server}"))?;
        ensure!(
            answer.status() == StatusCode::OK,
            "{server} does not say of which cluster it is (status {}): is it one that nodes can join?",
            answer.status().as_u16()
        );
        let body = Limited::new(answer.into_body(), LONGEST).collect().await;
        let body = body.map_err(|err| anyhow::anyhow!("{server} sends no cluster-info: {err}"))?.to_bytes();
        serde_json::from_slice(&body).with_context(|| format!("{server} sends no cluster-info"))
    };
    tokio::time::timeout(PATIENCE, fetched).await.unwrap_or_else(|_| bail!("{server} does not answer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_with_their_port() {
        for good in ["10.0.0.1:6443", "https://10.0.0.1:6443", "https://api.example:6443/", "[fd00::1]:6443"] {
            assert_eq!(server(good).unwrap().port_u16(), Some(6443), "{good}");
        }
        for bad in ["", "10.0.0.1", "http://10.0.0.1:6443", "https://10.0.0.1:6443/x", "10.0.0.1:x", ":6443", "a b:1"] {
            let err = server(bad).unwrap_err().to_string();
            assert!(err.contains("no address of an API server"), "{bad}: {err}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_a_ticket_is_refused_before_anybody_is_asked() {
        let (server, hash) = (server("127.0.0.1:1").unwrap(), format!("sha256:{}", "0".repeat(64)));
        for (token, hashes, words) in [
            ("bad", vec![hash.clone()], "--token"),
            ("abcdef.0123456789abcdef", vec![], "--ca-hash"),
            ("abcdef.0123456789abcdef", vec!["sha256:0".to_owned()], "--ca-hash"),
            ("abcdef.0123456789abcdef", vec![hash], "cannot reach https://127.0.0.1:1"),
        ] {
            let ticket = Ticket { server: &server, token, hashes: &hashes, node: "n" };
            let err = format!("{:#}", ticket.show().await.err().unwrap());
            assert!(err.contains(words), "{err}");
        }
    }
}
