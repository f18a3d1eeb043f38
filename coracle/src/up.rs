//! `coracle up`.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

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
            let left = Arc::new(cluster::Left::default());
            let last = Arc::clone(&left);
            let shutdown = daemon::shutdown_with_last_words(move || {
                // Nobody may be there to read it; the process ends all the same.
                let _unread = writeln!(std::io::stdout(), "{}", last.last_words());
            });
            cluster::up(self.options, shutdown, left, |line| println!("{line}")).await
        })
    }
}
