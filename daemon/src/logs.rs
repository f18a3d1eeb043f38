//! Logging flags.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::words::OneLine;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of text per event.
    #[default]
    Text,
    /// One JSON object per event.
    Json,
}

/// Flags for logging; logs go to standard error.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct LogArgs {
    /// How log lines look.
    #[arg(id = "logging-format", long, value_name = "FORMAT", value_enum, default_value_t, global = true)]
    pub format: LogFormat,
    /// Log verbosity as in Kubernetes (0 to 10): up to 1 shows info, 2 to 4 debug, more shows traces.
    #[arg(id = "v", short, long, value_name = "LEVEL", default_value_t = 0, global = true)]
    pub verbosity: u8,
    /// Finer log filter, such as `info,apiserver=debug`; wins over -v.
    #[arg(id = "log-filter", long, value_name = "FILTER", env = "CORACLE_LOG", global = true)]
    pub filter: Option<String>,
}

impl LogArgs {
    /// Starts logging for this process. A second call changes nothing.
    pub fn init(&self) {
        let level = match self.verbosity {
            // The DNS library tells of every question at info.
            0..=1 => "info,hickory_server=warn",
            2..=4 => "debug",
            _ => "trace",
        };
        let filter = self.filter.as_deref().unwrap_or(level);
        let filter = EnvFilter::try_new(filter).unwrap_or_else(|err| {
            eprintln!("--log-filter {filter:?} is ignored: {err}");
            EnvFilter::new(level)
        });
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal());
        let _already_started = match self.format {
            LogFormat::Text => builder.fmt_fields(OneLine).try_init(),
            LogFormat::Json => builder.json().try_init(),
        };
    }
}
