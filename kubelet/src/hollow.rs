//! Hollow nodes: many kubelets in one process, whose containers are there in name only (upstream: pkg/kubemark).
//!
//! They register, keep their leases, take pods and report them as every kubelet does; nothing runs, nothing is mounted, and
//! nothing listens. A pod may say by annotations how its containers do:
//!
//! ```text
//! hollow.coracle.dev/start-delay: 2s            how long each start takes
//! hollow.coracle.dev/fail-start: no such file   no start succeeds, and these are the runtime's words
//! hollow.coracle.dev/run-for: 1m                they end by themselves after that
//! hollow.coracle.dev/exit-code: "3"             with this code instead of 0
//! hollow.coracle.dev/out-of-memory: 1m          the kernel's killer ends them after that
//! hollow.coracle.dev/ignore-stop: "true"        they end only when their grace period is over
//! ```
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use daemon::{Process, Supervisor};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use runtime::SandboxConfig;
use runtime::fake::{Behavior, FakeRuntime, Script};

use crate::config::{Args, Config, Pair};
use crate::node::Registration;
use crate::resources;

/// The longest row of nodes: one range of addresses for tests has so many.
const MOST: u32 = 100_000;
/// Nodes that share a connection to the API server. Each has a few watches, and some for its pods; a server has about 250
/// streams for a connection.
const SHARE: usize = 40;
/// The range for tests of networks (RFC 2544): what is there is no machine.
const FIRST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const PREFIX: &str = "hollow.coracle.dev/";
/// The label of these nodes: pods that are to run in earnest stay away from them, and others come to them, by it.
const LABEL: (&str, &str) = ("hollow.coracle.dev/node", "true");

/// The flags of hollow nodes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Flags {
    /// With --runtime fake: so many nodes, named --hostname-override and a number from 0, instead of one of that name
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST)))]
    count: Option<u32>,
    /// With --runtime fake: what each node has instead of what this machine has, as cpu=16,memory=64Gi,nvidia.com/gpu=8
    #[arg(long, value_delimiter = ',', value_parser = crate::config::pair)]
    capacity: Vec<Pair>,
}

impl Flags {
    /// Refuses what only hollow nodes have.
    pub(crate) fn check_absent(&self) -> anyhow::Result<()> {
        for (flag, is_given) in [("--count", self.count.is_some()), ("--capacity", !self.capacity.is_empty())] {
            if is_given {
                bail!("{flag}: only hollow nodes have it: --runtime fake");
            }
        }
        Ok(())
    }

    fn capacity(&self) -> anyhow::Result<BTreeMap<String, String>> {
        for (resource, amount) in &self.capacity {
            if resource == "pods" {
                bail!("--capacity pods: that is --max-pods");
            }
            let milli = resources::milli(&Quantity(amount.clone())).filter(|milli| *milli >= 0);
            milli.with_context(|| format!("--capacity {resource}: {amount:?} is no amount"))?;
        }
        Ok(self.capacity.iter().cloned().collect())
    }
}

/// Runs the nodes until the process is asked to end.
pub(crate) async fn run(
    args: &Args,
    flags: &Flags,
    kubeconfig: Option<PathBuf>,
    process: Process,
) -> anyhow::Result<()> {
    let nodes = configs(args, flags)?;
    let mut clients = Vec::new();
    for _ in 0..nodes.len().div_ceil(SHARE) {
        clients.push(client::connect(kubeconfig.as_deref(), "kubelet").await?);
    }
    let mut tasks = Supervisor::new(process.shutdown.clone());
    let mut ready = Vec::new();
    for (number, config) in nodes.into_iter().enumerate() {
        let (client, process) = (clients[number / SHARE].clone(), process.component());
        ready.push(process.ready.watch());
        tasks.add("hollow node", move |_| async move {
            let name = config.node_name.clone();
            crate::run(config, client, process).await.with_context(|| name)
        });
    }
    let all = process.ready.clone();
    tasks.add("readiness", move |shutdown| async move {
        let wait = async {
            for node in &mut ready {
                node.ready().await;
            }
            all.set();
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = wait => shutdown.cancelled().await,
        }
        anyhow::Ok(())
    });
    tasks.run().await
}

/// What each node is to do.
fn configs(args: &Args, flags: &Flags) -> anyhow::Result<Vec<Config>> {
    let capacity = flags.capacity()?;
    let names = |base: String| match flags.count {
        None => vec![base],
        Some(count) => (0..count).map(|number| format!("{base}-{number}")).collect(),
    };
    let mut configs = Vec::new();
    for (number, name) in names(args.node_name()?).into_iter().enumerate() {
        let runtime = Arc::new(FakeRuntime::scripted(script));
        let config = args.hollow(&name, address(number)?, runtime)?;
        let mut labels = config.registration.labels;
        labels.insert(LABEL.0.to_owned(), LABEL.1.to_owned());
        let registration = Registration { labels, capacity: capacity.clone(), ..config.registration };
        configs.push(Config { registration, ..config });
    }
    Ok(configs)
}

fn address(number: usize) -> anyhow::Result<IpAddr> {
    Ok(Ipv4Addr::from_bits(FIRST.to_bits() + u32::try_from(number)?).into())
}

/// What a pod's annotations say of its containers.
fn script(pod: &SandboxConfig) -> Result<Script, String> {
    let mut script = Script::default();
    let mut behaviors = Vec::new();
    let (mut run_for, mut code) = (None, None);
    let own = pod.annotations.iter().filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value.as_str())));
    for (name, value) in own {
        let wrong = |why: &str| format!("annotation {PREFIX}{name}: {value:?}: {why}");
        let time = || daemon::pflag::duration(value).map_err(|why| wrong(&why));
        match name {
            "start-delay" => script.delay = time()?,
            "run-for" => run_for = Some(time()?),
            "exit-code" => code = Some(value.parse::<u8>().map_err(|_| wrong("must be from 0 to 255"))?),
            "out-of-memory" => behaviors.push(Behavior::OutOfMemory { after: time()? }),
            "fail-start" if value.is_empty() => return Err(wrong("must say why")),
            "fail-start" => behaviors.push(Behavior::FailStart(value.to_owned())),
            "ignore-stop" => match value {
                "true" => behaviors.push(Behavior::IgnoreStop),
                "false" => {}
                _ => return Err(wrong("must be true or false")),
            },
            _ => return Err(wrong("hollow nodes know no such thing")),
        }
    }
    match (run_for, code) {
        (Some(after), code) => behaviors.push(Behavior::Exit { after, code: code.unwrap_or(0).into() }),
        (None, Some(_)) => return Err(format!("annotation {PREFIX}exit-code needs {PREFIX}run-for")),
        (None, None) => {}
    }
    if behaviors.len() > 1 {
        return Err(format!(
            "annotations {PREFIX}*: fail-start, run-for, out-of-memory and ignore-stop exclude each other"
        ));
    }
    script.behavior = behaviors.pop().unwrap_or_default();
    Ok(script)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pod(annotations: &[(&str, &str)]) -> SandboxConfig {
        let annotations = annotations.iter().map(|(name, value)| (format!("{PREFIX}{name}"), (*value).to_owned()));
        let mut all: BTreeMap<_, _> = annotations.collect();
        all.insert("example.com/run-for".to_owned(), "not ours".to_owned());
        SandboxConfig { annotations: all, ..SandboxConfig::default() }
    }

    #[test]
    fn annotations_say_how_containers_do() {
        assert_eq!(script(&pod(&[])).unwrap(), Script::default());
        let job = script(&pod(&[("start-delay", "1.5s"), ("run-for", "1m"), ("exit-code", "3")])).unwrap();
        let behavior = Behavior::Exit { after: Duration::from_secs(60), code: 3 };
        assert_eq!(job, Script { delay: Duration::from_millis(1500), behavior });
        let killed = script(&pod(&[("out-of-memory", "5s")])).unwrap().behavior;
        assert_eq!(killed, Behavior::OutOfMemory { after: Duration::from_secs(5) });
        assert_eq!(script(&pod(&[("ignore-stop", "true")])).unwrap().behavior, Behavior::IgnoreStop);
        assert_eq!(script(&pod(&[("ignore-stop", "false")])).unwrap().behavior, Behavior::Run);
    }

    #[test]
    fn what_an_annotation_cannot_say_is_refused_by_its_name() {
        let check = |annotations: &[(&str, &str)], text: &str| {
            let why = script(&pod(annotations)).unwrap_err();
            assert!(why.contains(text), "{why}");
        };
        check(&[("run-for", "soon")], "hollow.coracle.dev/run-for: \"soon\"");
        check(&[("run-for", "-1s")], "hollow.coracle.dev/run-for");
        check(&[("exit-code", "256"), ("run-for", "1s")], "from 0 to 255");
        check(&[("exit-code", "1")], "needs hollow.coracle.dev/run-for");
        check(&[("fail-start", "")], "must say why");
        check(&[("ignore-stop", "yes")], "true or false");
        check(&[("start-dealy", "1s")], "hollow.coracle.dev/start-dealy");
        check(&[("fail-start", "x"), ("run-for", "1s")], "exclude each other");
    }
}
