//! What happens to the pods of a Service: their own changes, those of their endpoints, and those of this node's rules.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::Error;
use crate::client::{Call, Client, Lines};

/// No more is kept.
const EVENTS: usize = 4096;
/// A line of `nft monitor` is no longer than this; what is, is cut.
const RULE: u64 = 64 * 1024;

/// Follows the pods of a namespace for as long as it lives.
pub(super) struct Timeline {
    events: Events,
    _tasks: JoinSet<()>,
}

/// What happened, in order, and when this machine heard of it.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<(Instant, String)>>>);

impl Events {
    fn add(&self, what: String) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() < EVENTS {
            events.push((Instant::now(), what));
        }
    }
}

impl Timeline {
    /// Follows from now on. Rules are heard of where `nft` may be used here; where not, the events say so.
    pub(super) async fn start(client: &Client, namespace: &str) -> Result<Self, Error> {
        let (events, mut tasks) = (Events::default(), JoinSet::new());
        let pods = format!("/api/v1/namespaces/{namespace}/pods");
        let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
        follow(client, pods, Pods::default(), &events, &mut tasks).await?;
        follow(client, slices, Endpoints::default(), &events, &mut tasks).await?;
        let (told, chains) = (events.clone(), format!("{namespace}/"));
        tasks.spawn(async move {
            if let Err(err) = follow_rules(&chains, &told).await {
                told.add(format!("(rules are not heard of: {err})"));
            }
        });
        Ok(Self { events, _tasks: tasks })
    }

    /// What has happened so far.
    pub(super) fn events(&self) -> Vec<(Instant, String)> {
        self.events.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What is known of objects, and what their changes mean.
trait Known: Send + 'static {
    /// Takes up an object, or that it is gone; tells what is new.
    fn see(&mut self, object: &Value, is_gone: bool) -> Vec<String>;
}

async fn follow(
    client: &Client,
    path: String,
    mut known: impl Known,
    events: &Events,
    tasks: &mut JoinSet<()>,
) -> Result<(), Error> {
    let list = client.json(&Call::get(path.clone())).await?;
    for object in list["items"].as_array().into_iter().flatten() {
        // What was before is no event.
        known.see(object, false);
    }
    let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    let call = Call::get(format!("{path}?watch=true&resourceVersion={version}&timeoutSeconds=600"));
    let mut lane = client.lane().await?;
    let mut lines = Lines::of(lane.open(&call).await?.into_body());
    let events = events.clone();
    tasks.spawn(async move {
        while let Ok(Some(line)) = lines.next().await {
            let event: Value = serde_json::from_slice(&line).unwrap_or_default();
            match event["type"].as_str() {
                Some("BOOKMARK") => {}
                Some("ADDED" | "MODIFIED" | "DELETED") => {
                    known
                        .see(&event["object"], event["type"] == "DELETED")
                        .into_iter()
                        .for_each(|what| events.add(what));
                }
                _ => break,
            }
        }
        events.add(format!("(the watch of {path} has ended)"));
        drop(lane);
    });
    Ok(())
}

/// Pods by name.
#[derive(Default)]
struct Pods(BTreeMap<String, PodState>);

#[derive(Default, Clone, Copy)]
struct PodState {
    is_ready: bool,
    is_deleted: bool,
    has_ended: bool,
}

impl Known for Pods {
    fn see(&mut self, pod: &Value, is_gone: bool) -> Vec<String> {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let label = format!("pod {name} ({})", pod["status"]["podIP"].as_str().unwrap_or("no address"));
        let conditions = pod["status"]["conditions"].as_array();
        let is_ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
        let containers = pod["status"]["containerStatuses"].as_array();
        let has_ended = |container: &Value| container["state"]["terminated"].is_object();
        let now = PodState {
            is_ready: conditions.is_some_and(|all| all.iter().any(is_ready)),
            is_deleted: pod["metadata"]["deletionTimestamp"].is_string(),
            has_ended: containers.is_some_and(|all| !all.is_empty() && all.iter().all(has_ended)),
        };
        let before = self.0.insert(name.to_owned(), now);
        let was = before.unwrap_or_default();
        let mut news = Vec::new();
        let mut tell = |is_new: bool, what: &str| news.extend(is_new.then(|| format!("{label} {what}")));
        tell(before.is_none(), "is created");
        tell(now.is_ready && !was.is_ready, "is ready");
        tell(now.is_deleted && !was.is_deleted, "is deleted, with its grace");
        tell(!now.is_ready && was.is_ready, "is no longer ready");
        tell(now.has_ended && !was.has_ended, "has containers that have all ended");
        tell(is_gone, "is gone");
        if is_gone {
            self.0.remove(name);
        }
        news
    }
}

/// The states of endpoints by slice and address.
#[derive(Default)]
struct Endpoints(BTreeMap<String, BTreeMap<String, &'static str>>);

impl Known for Endpoints {
    fn see(&mut self, slice: &Value, is_gone: bool) -> Vec<String> {
        let name = slice["metadata"]["name"].as_str().unwrap_or_default();
        let mut now = BTreeMap::new();
        for endpoint in slice["endpoints"].as_array().into_iter().flatten().filter(|_| !is_gone) {
            let Some(address) = endpoint["addresses"][0].as_str() else { continue };
            let conditions = &endpoint["conditions"];
            let state = match (conditions["ready"].as_bool(), conditions["serving"].as_bool()) {
                // Unknown counts as ready (API of EndpointSlices).
                (None | Some(true), _) => "is ready",
                (Some(false), Some(true)) => "terminates, and serves",
                (Some(false), _) => "does not serve",
            };
            now.insert(address.to_owned(), state);
        }
        let was = self.0.insert(name.to_owned(), now.clone()).unwrap_or_default();
        let changed = now.iter().filter(|(address, state)| was.get(*address) != Some(*state));
        let mut news: Vec<String> = changed.map(|(address, state)| format!("endpoint {address} {state}")).collect();
        let removed = was.keys().filter(|address| !now.contains_key(*address));
        news.extend(removed.map(|address| format!("endpoint {address} is removed")));
        if is_gone {
            self.0.remove(name);
        }
        news
    }
}

/// Hears of new rules in chains whose names have `chains` in them: ours, and those of upstream's proxy.
async fn follow_rules(chains: &str, events: &Events) -> std::io::Result<()> {
    let mut nft = Command::new("nft");
    nft.args(["monitor", "rules"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = nft.kill_on_drop(true).spawn()?;
    if let Some(output) = child.stdout.take() {
        tell_rules(output, chains, events).await?;
    }
    events.add(format!("(nft monitor has ended: {})", child.wait().await?));
    Ok(())
}

async fn tell_rules(output: impl AsyncRead + Unpin, chains: &str, events: &Events) -> std::io::Result<()> {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut output).take(RULE).read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line);
        if let Some(rule) = text.strip_prefix("add rule ").filter(|rule| rule.contains(chains)) {
            // Without table and chain: what is done.
            let what = rule.split_whitespace().skip(3).collect::<Vec<_>>().join(" ");
            events.add(format!("rule: {what}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_life_of_a_pod_is_told_once_each() {
        let mut pods = Pods::default();
        let mut check = |ready: &str, deleted: bool, state: &str, is_gone: bool, expected: &[&str]| {
            let mut pod = json!({
                "metadata": {"name": "web-1"},
                "status": {
                    "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": ready}],
                    "containerStatuses": [{"state": {state: {}}}],
                },
            });
            if deleted {
                pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            }
            let expected: Vec<String> = expected.iter().map(|what| format!("pod web-1 (10.0.0.1) {what}")).collect();
            assert_eq!(pods.see(&pod, is_gone), expected);
        };
        check("False", false, "waiting", false, &["is created"]);
        check("True", false, "running", false, &["is ready"]);
        check("True", false, "running", false, &[]);
        check("True", true, "running", false, &["is deleted, with its grace"]);
        check("False", true, "terminated", false, &["is no longer ready", "has containers that have all ended"]);
        check("False", true, "terminated", true, &["is gone"]);
        assert!(pods.0.is_empty());
    }

    #[test]
    fn endpoints_are_told_when_they_change() {
        let mut endpoints = Endpoints::default();
        let mut check = |states: &[(&str, Value)], expected: &[&str]| {
            let all: Vec<Value> = states
                .iter()
                .map(|(address, conditions)| json!({"addresses": [address], "conditions": conditions}))
                .collect();
            let news = endpoints.see(&json!({"metadata": {"name": "web"}, "endpoints": all}), false);
            assert_eq!(news, expected);
        };
        let (ready, ending) = (json!({"ready": true}), json!({"ready": false, "serving": true, "terminating": true}));
        check(
            &[("10.0.0.1", ready.clone()), ("10.0.0.2", json!({"ready": false}))],
            &["endpoint 10.0.0.1 is ready", "endpoint 10.0.0.2 does not serve"],
        );
        check(
            &[("10.0.0.1", ending.clone()), ("10.0.0.2", ready.clone())],
            &["endpoint 10.0.0.1 terminates, and serves", "endpoint 10.0.0.2 is ready"],
        );
        check(&[("10.0.0.2", ready)], &["endpoint 10.0.0.1 is removed"]);
        let news = endpoints.see(&json!({"metadata": {"name": "web"}}), true);
        assert_eq!(news, ["endpoint 10.0.0.2 is removed"]);
    }

    #[tokio::test]
    async fn rules_of_the_namespace_are_told_and_no_others() {
        let events = Events::default();
        let output = "delete rule ip t cluster-0-ns/web/tcp handle 3\n\
                      add rule ip t cluster-0-ns/web/tcp meta l4proto tcp dnat to 10.0.0.1:8080\n\
                      add rule ip t cluster-1-other/web/tcp meta l4proto tcp dnat to 10.0.0.2:8080\n\
                      # new generation 7 by process 1 (nft)\n";
        tell_rules(output.as_bytes(), "ns/", &events).await.unwrap();
        let told: Vec<String> = events.0.lock().unwrap().iter().map(|(_, what)| what.clone()).collect();
        assert_eq!(told, ["rule: meta l4proto tcp dnat to 10.0.0.1:8080"]);
    }
}
