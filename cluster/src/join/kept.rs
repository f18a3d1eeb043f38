//! What a node keeps of the cluster that it has joined, in the folder `pki` of its data directory.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use serde::{Deserialize, Serialize};

use super::admission::Admitted;
use crate::invitation::JOINED;
use crate::node::{ClusterNetwork, NetworkText};
use crate::pki::write_secret;

const CLIENT: &str = "kubelet-client.pem";
const SERVING: &str = "kubelet-serving.pem";

/// A node that has joined.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) server: String,
    pub(super) node: String,
    /// DER in base64.
    authorities: Vec<String>,
    network: NetworkText,
}

/// Files of a node.
#[derive(Clone, Debug)]
pub(super) struct Files {
    directory: PathBuf,
}

impl Files {
    pub(super) fn in_data_dir(data_dir: &Path) -> Self {
        Self { directory: data_dir.join("pki") }
    }

    /// The node's certificate for the API server, with its key.
    pub(super) fn client(&self) -> PathBuf {
        self.directory.join(CLIENT)
    }

    /// The certificate of the kubelet's server, with its key.
    pub(super) fn serving(&self) -> PathBuf {
        self.directory.join(SERVING)
    }

    /// What was kept; `None` where nothing was.
    pub(super) fn read(&self) -> anyhow::Result<Option<Kept>> {
        let path = self.directory.join(JOINED);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(err).with_context(|| format!("read {}", path.display())),
        };
        let kept = serde_json::from_str(&text);
        kept.map(Some).with_context(|| format!("{} (`coracle leave` removes it)", path.display()))
    }

    /// Keeps what admission gave, the certificate first: what tells of it comes last.
    pub(super) fn write(&self, server: &str, node: &str, admitted: &Admitted) -> anyhow::Result<()> {
        use std::os::unix::fs::DirBuilderExt as _;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory);
        made.with_context(|| format!("make directory {}", self.directory.display()))?;
        let encode = |der: &Vec<u8>| base64::engine::general_purpose::STANDARD.encode(der);
        let kept = Kept {
            server: server.to_owned(),
            node: node.to_owned(),
            authorities: admitted.authorities.iter().map(encode).collect(),
            network: NetworkText::from(&admitted.network),
        };
        write_secret(&self.client(), &admitted.certificate)?;
        Ok(write_secret(&self.directory.join(JOINED), &serde_json::to_string_pretty(&kept)?)?)
    }

    /// Removes all of it.
    pub(super) fn remove(&self) -> anyhow::Result<()> {
        for file in [JOINED, CLIENT, SERVING] {
            let path = self.directory.join(file);
            match std::fs::remove_file(&path) {
                Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                    return Err(err).with_context(|| format!("remove {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Kept {
    pub(super) fn authorities(&self) -> anyhow::Result<Vec<Vec<u8>>> {
        let decode = |text: &String| base64::engine::general_purpose::STANDARD.decode(text);
        let authorities = self.authorities.iter().map(decode).collect::<Result<Vec<_>, _>>().context("CA")?;
        ensure!(!authorities.is_empty(), "there is no CA");
        Ok(authorities)
    }

    pub(super) fn network(self) -> anyhow::Result<ClusterNetwork> {
        self.network.try_into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again_and_removed_without_a_trace() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::in_data_dir(directory.path());
        assert!(files.read().unwrap().is_none());
        let network = ClusterNetwork {
            pods: vec!["10.244.0.0/16".parse().unwrap(), "fd00:10::/56".parse().unwrap()],
            services: vec!["10.96.0.0/16".parse().unwrap(), "fd00:11::/112".parse().unwrap()],
            balancers: vec!["192.0.2.1/32".parse().unwrap()],
            dns: "10.96.0.10".parse().unwrap(),
            domain: "cluster.local".to_owned(),
        };
        let admitted =
            Admitted { authorities: vec![vec![1, 2]], certificate: "c".to_owned(), network: network.clone() };
        files.write("https://192.0.2.1:6443", "n", &admitted).unwrap();
        let kept = files.read().unwrap().unwrap();
        assert_eq!((kept.server.as_str(), kept.node.as_str()), ("https://192.0.2.1:6443", "n"));
        assert_eq!((kept.authorities().unwrap(), kept.network().unwrap()), (vec![vec![1, 2]], network));
        files.remove().unwrap();
        assert_eq!(std::fs::read_dir(directory.path().join("pki")).unwrap().count(), 0);
    }
}
