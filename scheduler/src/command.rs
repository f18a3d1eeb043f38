//! The command line of the `scheduler` process (upstream: `cmd/kube-scheduler`).

use std::process::ExitCode;

use client::delegated::{Door, SecureEndpoint};

/// Finds nodes for pods.
#[derive(Debug, clap::Parser)]
#[command(name = "scheduler")]
pub struct Command {
    #[command(flatten)]
    common: daemon::Common,
    #[command(flatten)]
    upstream: daemon::Upstream<Flags>,
    #[command(flatten)]
    secure: daemon::SecureArgs,
    #[command(flatten)]
    args: crate::Args,
}

/// Where upstream serves it.
const DOOR: Door = Door { name: "kube-scheduler", port: 10259 };

/// The flags of kube-scheduler that this process does not have.
struct Flags;

impl daemon::upstream::Table for Flags {
    const FLAGS: &'static str = include_str!("upstream_flags.txt");
    const NOT_COMMON: &'static [&'static str] = &["tls-cipher-suites", "tls-min-version"];
}

impl Command {
    /// Runs the process.
    pub fn run(self) -> ExitCode {
        daemon::main("scheduler", self.common, |process| async move {
            self.upstream.warn();
            let (config, kubeconfig) = self.args.into_config()?;
            let client = client::connect(kubeconfig.as_deref(), DOOR.name).await?;
            let endpoint = SecureEndpoint::open(&self.secure, DOOR).await?;
            client::delegated::beside(endpoint, process, |process| crate::run(config, client, process)).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubeadms_static_pod_starts_it() {
        let line = "scheduler --authentication-kubeconfig=/etc/kubernetes/scheduler.conf \
            --authorization-kubeconfig=/etc/kubernetes/scheduler.conf --bind-address=127.0.0.1 \
            --kubeconfig=/etc/kubernetes/scheduler.conf --leader-elect=true --leader-elect-retry-period=1s";
        let command: Command = daemon::pflag::try_parse_from(line.split_whitespace().map(Into::into)).unwrap();
        let (config, kubeconfig) = command.args.into_config().unwrap();
        assert_eq!(kubeconfig, Some("/etc/kubernetes/scheduler.conf".into()));
        assert_eq!(config.leader_election.unwrap().retry_period, std::time::Duration::from_secs(1));
    }

    #[test]
    fn every_flag_of_upstream_is_known() {
        daemon::upstream::check::<Flags, Command>();
    }
}
