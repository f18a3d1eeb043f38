//! The command line of the `controller-manager` process (upstream: `cmd/kube-controller-manager`).

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use client::delegated::{Door, SecureEndpoint};
use x509_cert::der::pem::{LineEnding, encode_string};

/// Runs the controllers.
#[derive(Debug, clap::Parser)]
#[command(name = "controller-manager")]
pub struct Command {
    /// How to reach the API server.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
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
const DOOR: Door = Door { name: "kube-controller-manager", port: 10257 };

/// The flags of kube-controller-manager that this process does not have.
struct Flags;

impl daemon::upstream::Table for Flags {
    const FLAGS: &'static str = include_str!("upstream_flags.txt");
    const NOT_COMMON: &'static [&'static str] = &["tls-cipher-suites", "tls-min-version"];
}

impl Command {
    /// Runs the process.
    pub fn run(self) -> ExitCode {
        daemon::main("controller-manager", self.common, |process| async move {
            self.upstream.warn();
            let mut config = self.args.into_config()?;
            if config.root_ca.is_none() {
                // Pods trust the API server by what this process trusts it by, even if that is nothing, as upstream's do.
                config.root_ca = Some(pem(&client::authorities(self.kubeconfig.as_deref()).await?)?);
            }
            let client = client::connect(self.kubeconfig.as_deref(), DOOR.name).await?;
            let endpoint = SecureEndpoint::open(&self.secure, DOOR).await?;
            client::delegated::beside(endpoint, process, |process| crate::run(config, client, process)).await
        })
    }
}

fn pem(certificates: &[Vec<u8>]) -> anyhow::Result<String> {
    let one = |certificate: &Vec<u8>| encode_string("CERTIFICATE", LineEnding::LF, certificate);
    certificates.iter().map(one).collect::<Result<_, _>>().context("encode the certificates of the kubeconfig")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_written_as_others_write_them() {
        let pair = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(["ca".to_owned()]).unwrap().self_signed(&pair).unwrap();
        let one = certificate.pem().replace('\r', "");
        assert_eq!(pem(&[]).unwrap(), "");
        assert_eq!(pem(&[certificate.der().to_vec(), certificate.der().to_vec()]).unwrap(), format!("{one}{one}"));
    }

    #[test]
    fn kubeadms_static_pod_starts_it() {
        let line = "controller-manager --allocate-node-cidrs=true \
            --authentication-kubeconfig=/etc/kubernetes/controller-manager.conf \
            --authorization-kubeconfig=/etc/kubernetes/controller-manager.conf --bind-address=127.0.0.1 \
            --client-ca-file=/etc/kubernetes/pki/ca.crt --cluster-cidr=10.244.0.0/16 --cluster-name=kubernetes \
            --cluster-signing-cert-file=/etc/kubernetes/pki/ca.crt --cluster-signing-key-file=/etc/kubernetes/pki/ca.key \
            --controllers=*,bootstrapsigner,tokencleaner --kubeconfig=/etc/kubernetes/controller-manager.conf \
            --leader-elect=true --requestheader-client-ca-file=/etc/kubernetes/pki/front-proxy-ca.crt \
            --root-ca-file=/etc/kubernetes/pki/ca.crt \
            --service-account-private-key-file=/etc/kubernetes/pki/sa.key --service-cluster-ip-range=10.96.0.0/12 \
            --use-service-account-credentials=true";
        let command: Command = daemon::pflag::try_parse_from(line.split_whitespace().map(Into::into)).unwrap();
        assert_eq!(command.args.controllers, ["*", "bootstrapsigner", "tokencleaner"]);
        assert_eq!((command.args.ranges.allocate_node_cidrs, command.args.leader.leader_elect), (true, Some(true)));
    }

    #[test]
    fn every_flag_of_upstream_is_known() {
        daemon::upstream::check::<Flags, Command>();
    }
}
