//! `coracle why` and `coracle simulate`: what the scheduler would decide, asked from outside with the user's own rights.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use daemon::LogArgs;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use serde::Deserialize as _;
use serde_json::Value;

use crate::config::Config;
use crate::driver::Rehearsal;

/// The most bytes of a file of pods.
const MAX_FILE: u64 = 16 << 20;

/// How to reach the cluster and decide as its scheduler.
#[derive(Clone, Debug, clap::Args)]
struct Access {
    /// Path of a kubeconfig file; as kubectl finds it, if none is given.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Path of the KubeSchedulerConfiguration file that the scheduler of the cluster uses, if it uses one.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The namespace of pods that name none.
    #[arg(long, short, default_value = "default")]
    namespace: String,
    /// How many seconds reading the cluster may take.
    #[arg(long, default_value_t = 30)]
    timeout: u16,
}

impl Access {
    async fn open(self) -> anyhow::Result<(kube::Client, Question)> {
        let client = client::connect(self.kubeconfig.as_deref(), "coracle").await?;
        let config = self.config.as_deref().map(Config::from_file).transpose()?.map(|(config, _)| config);
        let patience = Duration::from_secs(u64::from(self.timeout));
        Ok((client, Question { config: config.unwrap_or_default(), namespace: self.namespace, patience }))
    }
}

/// What decisions are asked about.
#[derive(Clone, Debug)]
pub struct Question {
    /// That of the cluster's scheduler.
    pub config: Config,
    /// The namespace of pods that name none.
    pub namespace: String,
    /// How long reading the cluster may take.
    pub patience: Duration,
}

/// Says why a pod is where it is, or is nowhere: what each node is refused for, and by whom, or how it is scored.
#[derive(Clone, Debug, clap::Args)]
pub struct Why {
    /// The name of the pod.
    pod: String,
    #[command(flatten)]
    access: Access,
}

impl Why {
    /// Runs the command.
    pub fn run(self) -> ExitCode {
        quietly(async {
            let (client, question) = self.access.open().await?;
            print!("{}", why(&question, client, &self.pod).await?);
            Ok(())
        })
    }
}

/// The answer of `coracle why`, as text. Fails when the client may not read the pod, or what the scheduler reads.
pub async fn why(question: &Question, client: kube::Client, name: &str) -> anyhow::Result<String> {
    let namespace = &question.namespace;
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pod = api.get(name).await.with_context(|| format!("read pod {namespace}/{name}"))?;
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let is = node.map_or("has no node".to_owned(), |node| format!("is on node {node}; if it had none"));
    let mut rehearsal = Rehearsal::read(&question.config, client, question.patience).await?;
    Ok(format!("pod {namespace}/{name} {is}:\n{}", rehearsal.why(pod)?))
}

/// Says what would become of pods, without making them: each sees those before it, and nobody is evicted.
#[derive(Clone, Debug, clap::Args)]
pub struct Simulate {
    /// A YAML or JSON file of pods.
    #[arg(long, short)]
    filename: PathBuf,
    #[command(flatten)]
    access: Access,
}

impl Simulate {
    /// Runs the command.
    pub fn run(self) -> ExitCode {
        quietly(async {
            let text = read(&self.filename)?;
            let (client, question) = self.access.open().await?;
            print!("{}", simulate(&question, client, &text).await?);
            Ok(())
        })
    }
}

/// The answer of `coracle simulate` for the pods of a YAML text. Fails when the client may not make them, or read what the
/// scheduler reads.
pub async fn simulate(question: &Question, client: kube::Client, text: &str) -> anyhow::Result<String> {
    let mut pods = Vec::new();
    for (number, pod) in parse(text)?.into_iter().enumerate() {
        pods.push(completed(pod, number, &question.namespace, &client).await?);
    }
    let fates = Rehearsal::read(&question.config, client, question.patience).await?.simulate(pods);
    Ok(fates.into_iter().map(|(key, fate)| format!("pod {key} {fate}\n")).collect())
}

/// The pod as the API server would store it: with defaults, its priority and what admission does to it, if the user may
/// make it at all.
async fn completed(mut pod: Pod, number: usize, namespace: &str, client: &kube::Client) -> anyhow::Result<Pod> {
    let namespace = pod.namespace().unwrap_or_else(|| namespace.to_owned());
    pod.metadata.namespace = Some(namespace.clone());
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let name = pod.name_any();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let mut pod = api.create(&dry, &pod).await.with_context(|| format!("pod {namespace}/{name} could not be made"))?;
    // Pods of one generated name must not be taken for each other.
    pod.metadata.uid = Some(format!("simulated-{number}"));
    Ok(pod)
}

fn read(path: &Path) -> anyhow::Result<String> {
    let about = || format!("read {}", path.display());
    let mut text = String::new();
    std::fs::File::open(path).with_context(about)?.take(MAX_FILE + 1).read_to_string(&mut text).with_context(about)?;
    if text.len() as u64 > MAX_FILE {
        bail!("{} is larger than {MAX_FILE} bytes", path.display());
    }
    Ok(text)
}

/// The pods of a text of YAML documents: pods, and lists of them.
fn parse(text: &str) -> anyhow::Result<Vec<Pod>> {
    let mut pods = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        match Value::deserialize(document)? {
            Value::Null => {}
            list if list["kind"] == "List" || list["kind"] == "PodList" => {
                let items = list["items"].as_array().into_iter().flatten();
                items.map(pod).try_for_each(|item| item.map(|item| pods.push(item)))?;
            }
            other => pods.push(pod(&other)?),
        }
    }
    if pods.is_empty() {
        bail!("there are no pods");
    }
    Ok(pods)
}

fn pod(value: &Value) -> anyhow::Result<Pod> {
    let kind = (value["apiVersion"].as_str().unwrap_or_default(), value["kind"].as_str().unwrap_or_default());
    if !matches!(kind, ("v1" | "", "Pod")) && kind != ("", "") {
        bail!("{} of {:?} is not a pod: only pods can be simulated", kind.1, kind.0);
    }
    // As text, which the informers read, too: reading typed objects out of trees would be as much code again.
    Ok(serde_json::from_str(&value.to_string())?)
}

fn quietly(task: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let quiet = LogArgs { filter: Some("error".to_owned()), ..LogArgs::default() };
    daemon::task("coracle", &quiet, task)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_read_from_documents_and_lists() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\n---\nkind: List\nitems: [{kind: Pod, metadata: {name: b}}]\n";
        let names: Vec<String> = parse(text).unwrap().iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn what_is_no_pod_is_refused() {
        for (text, why) in [
            ("", "there are no pods"),
            ("apiVersion: apps/v1\nkind: Deployment", "Deployment of \"apps/v1\" is not a pod"),
            ("kind: Pod\nmetadata: 7", "invalid type"),
            ("{", "did not find"),
        ] {
            let err = format!("{:#}", parse(text).unwrap_err());
            assert!(err.contains(why), "{text}: {err}");
        }
    }
}
