//! `coracle up`.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use cluster::{Invoker, Options};
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
            let options = Options { invoker: invoker(), ..self.options };
            cluster::up(options, shutdown, left, |line| println!("{line}")).await
        })
    }
}

/// The user who ran sudo.
fn invoker() -> Option<Invoker> {
    let [uid, gid] = ["SUDO_UID", "SUDO_GID"].map(|name| std::env::var(name).ok());
    Invoker::from_sudo(uid.as_deref(), gid.as_deref())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory as _;

    /// The script says what it takes without having been built; this is what makes it true.
    #[test]
    fn the_script_up_lists_every_option() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            _up: super::Up,
        }
        let script = include_str!("../../up");
        let help = script.split("HELP").nth(1).unwrap();
        let flags = help.split(|letter: char| letter.is_whitespace() || letter == ',');
        let listed: BTreeSet<&str> = flags.filter_map(|word| word.strip_prefix("--")).collect();
        let command = Line::command();
        let taken = command.get_arguments().filter(|argument| !argument.is_hide_set()).filter_map(clap::Arg::get_long);
        assert_eq!(listed, taken.chain(["help"]).collect());
    }
}
