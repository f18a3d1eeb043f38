//! `coracle up`.

use std::process::ExitCode;

use cluster::Options;
use daemon::LogArgs;

/// Brings up a whole cluster on this machine, and keeps it until Ctrl-C.
#[derive(clap::Args)]
pub(crate) struct Up {
    #[command(flatten)]
    logs: LogArgs,
    #[command(flatten)]
    options: Options,
}

impl Up {
    pub(crate) fn run(self) -> ExitCode {
        // What the user must know is printed; logs are for when something is wrong.
        let quiet = LogArgs {
            filter: self.logs.filter.clone().or_else(|| (self.logs.verbosity == 0).then(|| "warn".to_owned())),
            ..self.logs
        };
        daemon::task("coracle", &quiet, async {
            println!("coracle {}", daemon::VERSION);
            cluster::up(self.options, daemon::shutdown_on_signal(), |line| println!("{line}")).await
        })
    }
}
