//! `coracle kubeconfig`.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::which::Which;

/// Prints the administrator's kubeconfig of the cluster on this machine.
#[derive(clap::Args)]
pub(crate) struct Print {
    #[command(flatten)]
    which: Which,
}

impl Print {
    pub(crate) fn run(self) -> ExitCode {
        match self.read() {
            Ok(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(err) => {
                eprintln!("coracle: {err:#}");
                ExitCode::FAILURE
            }
        }
    }
    fn read(&self) -> anyhow::Result<String> {
        let path = self.which.data_dir()?.join("admin.kubeconfig");
        let read = std::fs::read_to_string(&path);
        read.with_context(|| format!("read {} (has `coracle up` run with this --data-dir?)", path.display()))
    }
}
