//! How long real pods take to be Ready, and to go.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::Error;
use crate::budget;
use crate::client::Call;
use crate::drive::{Limits, drive};
use crate::measures::Context;
use crate::objects::{pod_name, running_pod};
use crate::statistics::Latencies;
use crate::watch::Follower;

/// A pod, or a crowd of them, must be Ready by then; an image may have to be pulled.
const READY: Duration = Duration::from_secs(120);

/// Pods one after another, then many at once, then their namespace deleted.
pub(super) async fn started(context: &Context<'_>) -> Result<(), Error> {
    let options = context.options;
    let Some(image) = options.pods_image.clone() else {
        context
            .skip("pod starts skipped: give --pods-image IMAGE (and --pods-command if the image's own command ends)");
        return Ok(());
    };
    let command: Vec<String> =
        options.pods_command.iter().flat_map(|command| command.split_whitespace()).map(str::to_owned).collect();
    let starts = one_after_another(context, &image, &command).await?;
    let (together, gone) = at_once(context, image, command).await?;
    let mut table = context.table();
    for (name, part, expected) in [("p50", 0.5, budget::POD_START_P50), ("p99", 0.99, budget::POD_START_P99)] {
        if let Some(value) = starts.milliseconds(part) {
            table.add(
                format!("pod create to Ready, {} one after another, {name}", starts.len()),
                value,
                "ms",
                expected,
            );
        }
    }
    table.add(
        format!("{} pods at once, all Ready", options.pods_at_once),
        together.as_secs_f64(),
        "s",
        budget::PODS_AT_ONCE,
    );
    table.add(
        format!("namespace with {} running pods, deleted", options.pods_at_once),
        gone.as_secs_f64(),
        "s",
        budget::NAMESPACE_DELETED,
    );
    Ok(())
}

async fn one_after_another(context: &Context<'_>, image: &str, command: &[String]) -> Result<Latencies, Error> {
    let client = &context.cluster.client;
    let namespace = context.cluster.namespace("start").await?;
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let mut follower = Follower::start(client, &namespace).await?;
    let mut took = Vec::new();
    // The first is not counted: it may pull the image.
    for number in 0..=context.options.pod_starts {
        let name = pod_name(number);
        let start = Instant::now();
        client.call(&Call::post(path.clone(), running_pod(&name, image, command))).await?;
        let done = ready(&mut follower, std::iter::once(name.clone()).collect()).await?;
        if number > 0 {
            took.push(done - start);
        }
        client.call(&Call::delete(format!("{path}/{name}"))).await?;
    }
    Ok(took.into_iter().collect())
}

async fn at_once(context: &Context<'_>, image: String, command: Vec<String>) -> Result<(Duration, Duration), Error> {
    let (cluster, count) = (context.cluster, context.options.pods_at_once);
    let namespace = cluster.namespace("together").await?;
    let mut follower = Follower::start(&cluster.client, &namespace).await?;
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let start = Instant::now();
    let make = move |number| Call::post(path.clone(), running_pod(&pod_name(number), &image, &command));
    let creating = drive(&cluster.client, Limits::exactly(context.options.in_flight, count), make);
    let (created, done) = tokio::join!(creating, ready(&mut follower, (0..count).map(pod_name).collect()));
    created?;
    let together = done? - start;
    Ok((together, cluster.delete_namespace(&namespace).await?))
}

/// When the last of these pods was Ready.
async fn ready(follower: &mut Follower, mut waited_for: HashSet<String>) -> Result<Instant, Error> {
    let all = async {
        while !waited_for.is_empty() {
            let pod = follower.next().await?;
            if pod.was_restarted() {
                return Err(Error::PodEnds(pod.metadata.name));
            }
            if pod.condition("Ready") == Some(true) {
                waited_for.remove(&pod.metadata.name);
            }
        }
        Ok(Instant::now())
    };
    let late = |_| Error::TimedOut {
        what: "pods being Ready (does a kubelet run, and does the pod's command last?)".to_owned(),
        seconds: READY.as_secs(),
    };
    tokio::time::timeout(READY, all).await.map_err(late)?
}
