//! `coracle kubeconfig`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

/// Prints the administrator's kubeconfig of the cluster on this machine.
#[derive(clap::Args)]
pub(crate) struct Print {
    /// Where the cluster keeps everything.
    #[arg(long, default_value = "/var/lib/coracle")]
    data_dir: PathBuf,
}

impl Print {
    pub(crate) fn run(self) -> ExitCode {
        let path = self.data_dir.join("admin.kubeconfig");
        let read = std::fs::read_to_string(&path)
            .with_context(|| format!("read {} (has `coracle up` run with this --data-dir?)", path.display()));
        match read {
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
}
