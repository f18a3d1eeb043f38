//! `coracle join`, `coracle leave` and `coracle token`.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use cluster::{JoinOptions, LeaveOptions};
use daemon::LogArgs;

use crate::which::Which;

/// Makes this machine a node of a cluster, and keeps it one until Ctrl-C.
#[derive(clap::Args)]
pub(crate) struct Join {
    #[command(flatten)]
    logs: LogArgs,
    #[command(flatten)]
    options: JoinOptions,
}

impl Join {
    pub(crate) fn run(self) -> ExitCode {
        daemon::task("coracle", &quiet(self.logs), async {
            let left = Arc::new(cluster::Left::default());
            let last = Arc::clone(&left);
            let shutdown = daemon::shutdown_with_last_words(move || {
                // Nobody may be there to read it; the process ends all the same.
                let _unread = writeln!(std::io::stdout(), "{}", last.last_words());
            });
            cluster::join(self.options, shutdown, left, tell).await
        })
    }
}

/// Moves this node's pods elsewhere, ends it, and removes what it has made on this machine.
#[derive(clap::Args)]
pub(crate) struct Leave {
    #[command(flatten)]
    options: LeaveOptions,
}

impl Leave {
    pub(crate) fn run(self) -> ExitCode {
        daemon::task("coracle", &quiet(LogArgs::default()), cluster::leave(self.options, tell))
    }
}

/// Work with the tokens by which machines join.
#[derive(clap::Subcommand)]
pub(crate) enum Token {
    /// Make a token, and print the command by which another machine joins.
    Create {
        #[command(flatten)]
        which: Which,
        /// How long the token is good.
        #[arg(long, default_value = "24h0m0s", value_parser = daemon::pflag::duration)]
        ttl: Duration,
    },
}

impl Token {
    pub(crate) fn run(self) -> ExitCode {
        let Self::Create { which, ttl } = self;
        daemon::task("coracle", &quiet(LogArgs::default()), async move {
            println!("{}", cluster::create_token(&which.data_dir()?, ttl).await?);
            Ok(())
        })
    }
}

/// What the user must know is printed; logs are for when something is wrong. Before the cluster's CA is known, nothing that
/// the server says is believed without its hash: that its certificate is not checked yet is no news.
fn quiet(logs: LogArgs) -> LogArgs {
    let filter =
        logs.filter.clone().or_else(|| (logs.verbosity == 0).then(|| "warn,kube_client::client::tls=error".to_owned()));
    LogArgs { filter, ..logs }
}

/// Nobody may be there to read it.
fn tell(line: String) {
    let _unread = writeln!(std::io::stdout(), "{line}");
}
