//! `coracle stop-pods`.

use std::process::ExitCode;

use cluster::NodePods;
use daemon::LogArgs;

/// Stops the pods of this node, which a kubelet leaves running when it ends.
#[derive(clap::Args)]
pub(crate) struct Stop {
    #[command(flatten)]
    pods: NodePods,
}

impl Stop {
    pub(crate) fn run(self) -> ExitCode {
        let quiet = LogArgs { filter: Some("warn".to_owned()), ..LogArgs::default() };
        daemon::task("coracle", &quiet, async {
            let stopped = self.pods.stop(|line| println!("{line}")).await?;
            println!("pods stopped: {stopped}");
            Ok(())
        })
    }
}
