//! `coracle certificates`.

use std::process::ExitCode;

use cluster::Certificates;

/// Makes keys, certificates and kubeconfigs for a cluster whose members are separate processes.
#[derive(clap::Args)]
pub(crate) struct Make {
    #[command(flatten)]
    certificates: Certificates,
}

impl Make {
    pub(crate) fn run(self) -> ExitCode {
        match self.certificates.make() {
            Ok(written) => {
                println!("keys and certificates: {}", self.certificates.data_dir.join("pki").display());
                for path in written {
                    println!("kubeconfig: {}", path.display());
                }
                ExitCode::SUCCESS
            }
            Err(err) => {
                eprintln!("coracle: {err:#}");
                ExitCode::FAILURE
            }
        }
    }
}
