//! The command line of `load`.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

/// Loads a Kubernetes API server for a minute at most (more if pods are started) and prints one table.
///
/// Makes namespaces called load-<id>-..., and nodes if asked to, and removes them at the end. The user of the kubeconfig
/// needs cluster-admin.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "load", version)]
pub struct Options {
    /// The cluster to load.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context; its current one by default.
    #[arg(long)]
    pub context: Option<String>,
    /// Load a server that is not on this machine.
    #[arg(long)]
    pub allow_remote: bool,
    /// Write the table as JSON, too.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Only these measures, separated by commas.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<Measure>,
    /// The protocol to speak.
    #[arg(long, value_enum, default_value = "2")]
    pub http: Protocol,
    /// Connections that requests share with HTTP/2 (HTTP/1.1 has one for each request in flight).
    #[arg(long, default_value_t = 4, value_parser = bounded(64))]
    pub connections: usize,
    /// Requests in flight.
    #[arg(long, default_value_t = 64, value_parser = bounded(1000))]
    pub in_flight: usize,
    /// Seconds for each measure of requests a second.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub seconds: u64,
    /// Pods in the namespace that is read.
    #[arg(long, default_value_t = 2000, value_parser = bounded(20_000))]
    pub pods: usize,
    /// Lists in flight.
    #[arg(long, default_value_t = 4, value_parser = bounded(64))]
    pub list_in_flight: usize,
    /// Watchers of the fan-out.
    #[arg(long, default_value_t = 200, value_parser = bounded(2000))]
    pub watchers: usize,
    /// Writes that the watchers see, at full speed.
    #[arg(long, default_value_t = 1000, value_parser = bounded(100_000))]
    pub watch_writes: usize,
    /// Writers of the fan-out.
    #[arg(long, default_value_t = 16, value_parser = bounded(1000))]
    pub watch_writers: usize,
    /// Nodes to make for the scheduling measure; 0 skips it.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub fake_nodes: u32,
    /// Pods to schedule.
    #[arg(long, default_value_t = 3000, value_parser = bounded(50_000))]
    pub scheduling_pods: usize,
    /// Pods of the growing cluster.
    #[arg(long, default_value_t = 10_000, value_parser = bounded(200_000))]
    pub scale_pods: usize,
    /// How many of them are created a second.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub scale_rate: u32,
    /// Image of the pods that are started; none skips these measures.
    #[arg(long, value_name = "IMAGE")]
    pub pods_image: Option<String>,
    /// What the pods run instead of the image's own command, split at spaces. It must not end.
    #[arg(long, value_name = "COMMAND")]
    pub pods_command: Option<String>,
    /// Pods to start one after another.
    #[arg(long, default_value_t = 20, value_parser = bounded(1000))]
    pub pod_starts: usize,
    /// Pods to start at once.
    #[arg(long, default_value_t = 50, value_parser = bounded(500))]
    pub pods_at_once: usize,
    /// Clients that ask for a list and do not read it.
    #[arg(long, default_value_t = 200, value_parser = bounded(1000))]
    pub stalled_readers: usize,
    /// Pods in that list.
    #[arg(long, default_value_t = 150_000, value_parser = bounded(1_000_000))]
    pub stalled_objects: usize,
    /// CustomResourceDefinitions whose OpenAPI documents are read.
    #[arg(long, default_value_t = 460, value_parser = bounded(5000))]
    pub crds: usize,
    /// Processes whose memory, CPU time and writes to watch while idle, before and after the load.
    #[arg(long, value_name = "PID", num_args = 1.., value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// Seconds to watch idle processes for.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub idle_seconds: u64,
    /// A command whose cold start to measure, split at spaces; {dir} is a new directory and {port} a free port.
    #[arg(long, value_name = "COMMAND")]
    pub cold_start: Option<String>,
    /// Where the started command answers 200 once it is ready.
    #[arg(long, default_value = "https://127.0.0.1:{port}/readyz")]
    pub cold_start_url: String,
    /// How often to start it.
    #[arg(long, default_value_t = 5, value_parser = bounded(100))]
    pub cold_start_runs: usize,
}

fn bounded(most: u64) -> impl clap::builder::TypedValueParser<Value = usize> {
    clap::builder::RangedU64ValueParser::<usize>::new().range(1..=most)
}

impl Options {
    /// Whether a measure was asked for: all are, unless some are named.
    pub fn wants(&self, measure: Measure) -> bool {
        self.only.is_empty() || self.only.contains(&measure)
    }

    /// Whether a measure that needs the API server was asked for. Without a kubeconfig only a measure that is named, or
    /// nothing at all to do, is such a demand.
    pub fn wants_server(&self) -> bool {
        let named = self.only.iter().any(|measure| !matches!(measure, Measure::Idle | Measure::ColdStart));
        let all =
            self.only.is_empty() && (self.kubeconfig.is_some() || (self.cold_start.is_none() && self.pid.is_empty()));
        named || all
    }

    /// How long one measure runs.
    pub fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// The parts of a run, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    Creates,
    Gets,
    Lists,
    Selectors,
    Patches,
    Watch,
    Deletes,
    Scheduling,
    Pods,
    /// Only when it is named: it makes many objects.
    StalledReaders,
    /// Only when it is named: it makes many definitions.
    Openapi,
    /// Only when it is named: it needs hollow nodes.
    Scale,
    /// Only when it is named: it needs an image of busybox.
    Services,
    /// Only when it is named, as the one before.
    Rollout,
    Idle,
    ColdStart,
}

/// The version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    #[value(name = "1.1")]
    Http1,
    #[value(name = "2")]
    Http2,
}

impl Protocol {
    /// Its name in TLS handshakes.
    pub fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory as _, Parser as _};

    fn parse(line: &str) -> Options {
        Options::parse_from(line.split_whitespace())
    }

    #[test]
    fn the_flags_are_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn all_measures_are_wanted_unless_some_are_named() {
        let some = parse("load --kubeconfig k --only creates,gets --pid 1 2 --http 1.1");
        assert!(some.wants(Measure::Creates) && !some.wants(Measure::Watch) && some.wants_server());
        assert_eq!((some.pid, some.http), (vec![1, 2], Protocol::Http1));
        assert!(parse("load --kubeconfig k").wants(Measure::Watch));
    }

    #[test]
    fn a_cold_start_needs_no_server() {
        assert!(!parse("load --cold-start x").wants_server());
        assert!(!parse("load --kubeconfig k --only cold-start --cold-start x").wants_server());
        assert!(parse("load --cold-start x --kubeconfig k").wants_server());
        assert!(parse("load").wants_server());
    }

    #[test]
    fn sizes_are_bounded() {
        for line in ["load --in-flight 0", "load --pods 9999999", "load --seconds 0", "load --only nonsense"] {
            assert!(Options::try_parse_from(line.split_whitespace()).is_err(), "{line}");
        }
    }
}
