//! Configuration of the enforcement of NetworkPolicies.

use std::path::PathBuf;

use anyhow::Context as _;

/// What it works with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of this node: policies are enforced for its pods.
    pub node_name: String,
    /// The bridge of this node's pods: what passes it to or from an address that is no known pod's is dropped.
    pub bridge: String,
    /// Name of the nftables table.
    pub table: String,
}

/// Flags of the `network-policy` binary.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Path of a kubeconfig file.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Name of this node; by default the host's name.
    #[arg(long)]
    pub hostname_override: Option<String>,
    /// Name of the network bridge of this node's pods, as the kubelet's --bridge.
    #[arg(long, default_value = "coracle0")]
    pub bridge: String,
    /// Name of the nftables table.
    #[arg(long, default_value = "coracle-policy")]
    pub table: String,
    /// Remove the rules and exit: pods are no longer isolated.
    #[arg(long)]
    pub cleanup: bool,
}

impl Args {
    /// Checks the flags.
    pub fn into_config(self) -> anyhow::Result<Config> {
        check("--bridge", &self.bridge, "-_.", 15)?;
        check("--table", &self.table, "-_", 100)?;
        let node_name = match self.hostname_override {
            Some(name) => name,
            None => host::name().context("read the host's name (or give --hostname-override)")?.to_lowercase(),
        };
        Ok(Config { node_name, bridge: self.bridge, table: self.table })
    }
}

/// Both names become words of nft's language.
fn check(flag: &str, name: &str, beside: &str, longest: usize) -> anyhow::Result<()> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || beside.contains(letter);
    let good = name.starts_with(|first: char| first.is_ascii_alphabetic()) && name.chars().all(plain);
    anyhow::ensure!(
        good && name.len() <= longest,
        "{flag} {name:?}: must be at most {longest} letters, digits and {beside}, and begin with a letter"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_nft_would_read_otherwise_are_refused() {
        for (bridge, table, word) in [
            ("br0\" accept #", "t", "--bridge"),
            ("a-bridge-of-16-l", "t", "--bridge"),
            ("", "t", "--bridge"),
            ("br0", "t; flush ruleset", "--table"),
            ("br0", "0t", "--table"),
        ] {
            let args = Args {
                kubeconfig: None,
                hostname_override: Some("n".into()),
                bridge: bridge.into(),
                table: table.into(),
                cleanup: false,
            };
            let err = args.into_config().unwrap_err().to_string();
            assert!(err.starts_with(word), "{err}");
        }
    }
}
