//! Pods scheduled a second, onto nodes that are only objects.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::Error;
use crate::budget;
use crate::client::Call;
use crate::drive::{Limits, drive};
use crate::measures::Context;
use crate::objects::{fake_node, pod_name, schedulable_pod};
use crate::statistics::per_second;
use crate::watch::Follower;

/// A scheduler that has not looked at a pod by then does not run.
const ANSWER: Duration = Duration::from_secs(5);
/// All pods must have a node by then.
const ALL: Duration = Duration::from_secs(90);

/// Creates pods as fast as the server takes them and counts until the last has a node.
pub(super) async fn scheduled(context: &Context<'_>) -> Result<(), Error> {
    let options = context.options;
    if options.fake_nodes == 0 {
        context
            .skip("scheduling skipped: give --fake-nodes 1000 (makes Node objects that run nothing, and removes them)");
        return Ok(());
    }
    let (cluster, id) = (context.cluster, context.cluster.id.clone());
    cluster.expect_nodes();
    let nodes = Limits::exactly(options.in_flight, options.fake_nodes as usize);
    drive(&cluster.client, nodes, move |number| Call::post("/api/v1/nodes", fake_node(&id, number))).await?;
    let namespace = cluster.namespace("scheduling").await?;
    let mut follower = Follower::start(&cluster.client, &namespace).await?;
    let (path, id) = (format!("/api/v1/namespaces/{namespace}/pods"), cluster.id.clone());
    let probe = pod_name(options.scheduling_pods);
    cluster.client.call(&Call::post(path.clone(), schedulable_pod(&id, options.scheduling_pods))).await?;
    if !looked_at(&mut follower, &probe).await? {
        context.skip(format!("scheduling skipped: no scheduler looked at a pod within {} s", ANSWER.as_secs()));
        return Ok(());
    }
    let start = Instant::now();
    let limits = Limits::exactly(options.in_flight, options.scheduling_pods);
    let creating = drive(&cluster.client, limits, move |number| Call::post(path.clone(), schedulable_pod(&id, number)));
    let placing = tokio::time::timeout(ALL, placed(&mut follower, options.scheduling_pods, &probe));
    let (created, last) = tokio::join!(creating, placing);
    let created = created?;
    let last =
        last.map_err(|_| Error::TimedOut { what: "scheduling all pods".to_owned(), seconds: ALL.as_secs() })??;
    let mut table = context.table();
    let rate = per_second(options.scheduling_pods as f64, last - start);
    table.add(format!("pods scheduled, {} nodes", options.fake_nodes), rate, "pods/s", budget::SCHEDULED);
    table.add("creates beside it (they bound the line above)", created.rate(), "/s", None);
    Ok(())
}

async fn looked_at(follower: &mut Follower, probe: &str) -> Result<bool, Error> {
    let looking = async {
        loop {
            let pod = follower.next().await?;
            if pod.metadata.name == probe && (pod.spec.node_name.is_some() || pod.condition("PodScheduled").is_some()) {
                return Ok(true);
            }
        }
    };
    tokio::time::timeout(ANSWER, looking).await.unwrap_or(Ok(false))
}

/// When the last of `count` pods got its node.
async fn placed(follower: &mut Follower, count: usize, probe: &str) -> Result<Instant, Error> {
    let mut names = HashSet::new();
    while names.len() < count {
        let pod = follower.next().await?;
        if pod.spec.node_name.is_some() && pod.metadata.name != probe {
            names.insert(pod.metadata.name);
        }
    }
    Ok(Instant::now())
}
