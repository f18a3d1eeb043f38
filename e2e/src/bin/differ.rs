//! The `differ` binary: compares two API servers by what they answer.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use e2e::differential::{Conversation, Finding, Plan, compare, record, replay};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use secrecy::SecretString;

/// Sends the same conversations, made by chance, to a reference API server and to another, and prints what they answer
/// differently. Everything happens in namespaces of its own, which are deleted again.
#[derive(Debug, Parser)]
#[command(name = "differ", version)]
struct Options {
    /// The server that is right: its kubeconfig, or its URL (with --reference-token).
    #[arg(long, value_name = "KUBECONFIG|URL")]
    reference: Option<String>,
    #[arg(long, value_name = "TOKEN")]
    reference_token: Option<String>,
    /// The server that is to be compared with it.
    #[arg(long, value_name = "KUBECONFIG|URL")]
    server: Option<String>,
    #[arg(long, value_name = "TOKEN")]
    server_token: Option<String>,
    /// Do not check the certificates of servers that are named by a URL.
    #[arg(long)]
    insecure: bool,
    /// Talk to servers that are not on this machine.
    #[arg(long)]
    allow_remote: bool,
    /// The same seed makes the same conversations.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many conversations.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    conversations: u32,
    /// Requests of a conversation after the first.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(0..=100))]
    steps: u32,
    /// Only these resources, in the plural, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Write the conversations with the answers of the reference to a file instead of comparing.
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    record: Option<PathBuf>,
    /// Play the conversations of this file to the server instead of comparing.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    // An error says that a provider is installed already.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run(&options).await {
        Ok(findings) => {
            findings.iter().for_each(|finding| println!("{finding}"));
            println!("{} differences", findings.len());
            if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(err) => {
            eprintln!("differ: {err:#}");
            ExitCode::from(2)
        }
    }
}

async fn run(options: &Options) -> anyhow::Result<Vec<Finding>> {
    let plan = Plan {
        seed: options.seed,
        conversations: options.conversations as usize,
        steps: options.steps as usize,
        only: options.only.clone(),
    };
    let connect = |server: &Option<String>, token: &Option<String>, flag: &'static str| {
        let (server, token) = (server.clone(), token.clone());
        async move {
            let server = server.with_context(|| format!("{flag} is needed: no server is guessed"))?;
            client(&server, token, options).await.with_context(|| server.clone())
        }
    };
    if let Some(file) = &options.replay {
        let server = connect(&options.server, &options.server_token, "--server").await?;
        return Ok(replay(&server, &read(file)?).await?);
    }
    let reference = connect(&options.reference, &options.reference_token, "--reference").await?;
    let conversations = plan.conversations();
    ensure!(!conversations.is_empty(), "--only names no resource that conversations can be about");
    if let Some(file) = &options.record {
        let version = reference.apiserver_version().await?.git_version;
        let recorded = record(&reference, conversations).await?;
        let written = Conversation::write_all("differential", &version, &recorded);
        std::fs::write(file, format!("{written:#}\n")).with_context(|| format!("write {}", file.display()))?;
        return Ok(Vec::new());
    }
    let server = connect(&options.server, &options.server_token, "--server").await?;
    Ok(compare(&reference, &server, &plan).await?)
}

fn read(file: &Path) -> anyhow::Result<Vec<Conversation>> {
    let text = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let tree = serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", file.display()))?;
    Ok(Conversation::read_all(&tree)?)
}

/// A client of a server that is named by its URL or by a kubeconfig.
async fn client(server: &str, token: Option<String>, options: &Options) -> anyhow::Result<Client> {
    let mut config = if server.starts_with("http://") || server.starts_with("https://") {
        let mut config = Config::new(server.parse()?);
        config.accept_invalid_certs = options.insecure;
        config
    } else {
        let file = Kubeconfig::read_from(server)?;
        Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?
    };
    if let Some(token) = token {
        config.auth_info.token = Some(SecretString::from(token));
    }
    let host = config.cluster_url.host().unwrap_or_default().trim_matches(['[', ']']);
    let local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if !local && !options.allow_remote {
        bail!("{host} is not this machine: say --allow-remote if it may be talked to");
    }
    Ok(Client::try_from(config)?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Options::command().debug_assert();
    }

    #[tokio::test]
    async fn servers_elsewhere_need_leave() {
        let options = Options::parse_from(["differ", "--reference", "https://192.0.2.1:6443"]);
        let refused = run(&options).await.unwrap_err();
        assert!(format!("{refused:#}").contains("--allow-remote"), "{refused:#}");
    }
}
