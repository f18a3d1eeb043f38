//! A cluster that grows to many pods at a steady rate, on hollow nodes, and what it costs to ask it then: upstream's service
//! level objectives (sig-scalability: SLOs) at the side.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::Error;
use crate::budget;
use crate::client::Call;
use crate::drive::{Answered, Limits, Outcome, drive};
use crate::idle::{MEBIBYTE, Sample};
use crate::measures::Context;
use crate::objects::{HOLLOW, hollow_pod, number_patch, pod_name};
use crate::statistics::Latencies;
use crate::watch::Follower;

/// After the last create, all pods must be Ready by then.
const SETTLED: Duration = Duration::from_secs(300);
/// Of requests about one object, and of lists of everything, when the cluster is full.
const ASKING: usize = 8;
const LISTS: usize = 10;

/// When something happened to pods, by their numbers' names.
type Moments = HashMap<String, Instant>;

/// Creates the pods, waits until all are Ready, and asks for them.
pub(super) async fn grown(context: &Context<'_>) -> Result<(), Error> {
    let (cluster, options) = (context.cluster, context.options);
    let path = format!("/api/v1/nodes?labelSelector={HOLLOW}");
    let nodes = cluster.client.json(&Call::get(path)).await?["items"].as_array().map_or(0, Vec::len);
    if nodes == 0 {
        context.skip("scale skipped: no hollow nodes; start kubelet --runtime fake --count 1000");
        return Ok(());
    }
    let namespace = cluster.namespace("scale").await?;
    let mut follower = Follower::start(&cluster.client, &namespace).await?;
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let count = options.scale_pods;
    let pace = Duration::from_secs(1) / options.scale_rate;
    let time = pace * u32::try_from(count).unwrap_or(u32::MAX) + SETTLED;
    let limits = Limits { pace: Some(pace), time, ..Limits::exactly(options.in_flight, count) };
    let to = path.clone();
    let creating = drive(&cluster.client, limits, move |number| Call::post(to.clone(), hollow_pod(number)));
    let (mut bound, mut ready) = (Moments::new(), Moments::new());
    let following = tokio::time::timeout(time, follow(&mut follower, count, &mut bound, &mut ready));
    let (created, followed) = tokio::join!(creating, following);
    let created = created?;
    let late = |_| Error::TimedOut { what: "pods on hollow nodes being Ready".to_owned(), seconds: time.as_secs() };
    followed.map_err(late)??;
    let full = ask(context, &path, count).await?;
    let mut table = context.table();
    let what = format!("{count} pods on {nodes} hollow nodes");
    table.add(format!("{what}, created"), created.rate(), "/s", None);
    let mut add = |name: &str, latencies: &Latencies, expected: Option<budget::Expectation>| {
        for (part, p) in [(0.5, "p50"), (0.99, "p99")] {
            if let Some(value) = latencies.milliseconds(part) {
                table.add(format!("{name}, {p}"), value, "ms", expected.filter(|_| part > 0.9));
            }
        }
    };
    add("growing: create", &created.latencies(), budget::SLO_MUTATING);
    add("growing: from create to bound", &since(&created.answered, &bound), None);
    add("growing: from create to Ready", &since(&created.answered, &ready), budget::SLO_POD_START);
    add("full: get", &full.get.latencies(), budget::SLO_READING);
    add("full: patch", &full.patch.latencies(), budget::SLO_MUTATING);
    add("full: list of all", &full.list.latencies(), budget::SLO_LISTING);
    for pid in &options.pid {
        let sample = Sample::take(*pid)?;
        table.add(format!("full: memory of {}", sample.name), sample.resident as f64 / MEBIBYTE, "MiB RSS", None);
    }
    Ok(())
}

async fn follow(follower: &mut Follower, count: usize, bound: &mut Moments, ready: &mut Moments) -> Result<(), Error> {
    while ready.len() < count {
        let pod = follower.next().await?;
        let now = Instant::now();
        if pod.spec.node_name.is_some() {
            bound.entry(pod.metadata.name.clone()).or_insert(now);
        }
        if pod.condition("Ready") == Some(true) {
            ready.entry(pod.metadata.name).or_insert(now);
        }
    }
    Ok(())
}

/// How long after they were sent; what a watch shows before the answer counts from the sending, too.
fn since(created: &[Answered], moments: &Moments) -> Latencies {
    let took = |one: &Answered| Some(moments.get(&pod_name(one.number))?.saturating_duration_since(one.sent));
    created.iter().filter_map(took).collect()
}

struct Full {
    get: Outcome,
    patch: Outcome,
    list: Outcome,
}

async fn ask(context: &Context<'_>, path: &str, count: usize) -> Result<Full, Error> {
    let (client, time) = (&context.cluster.client, Limits::for_time(ASKING, context.options.time()));
    let path_of = |path: &str| {
        let path = path.to_owned();
        move |number: usize| format!("{path}/{}", pod_name(number % count))
    };
    let (one, all) = (path_of(path), path.to_owned());
    let get = drive(client, time, move |number| Call::get(one(number))).await?;
    let one = path_of(path);
    let patch =
        drive(client, time, move |number| Call::merge_patch(one(number), number_patch("scale", number))).await?;
    let lists = Limits { time: Duration::from_secs(600), ..Limits::exactly(2, LISTS) };
    let list = drive(client, lists, move |_| Call::get(all.clone())).await?;
    Ok(Full { get, patch, list })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_count_from_the_sending_of_what_was_seen() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let created =
            [Answered { number: 0, sent: at(0), done: at(4) }, Answered { number: 1, sent: at(5), done: at(9) }];
        let moments = Moments::from([(pod_name(1), at(25))]);
        let delays = since(&created, &moments);
        assert_eq!((delays.len(), delays.milliseconds(1.0)), (1, Some(20.0)));
    }
}
