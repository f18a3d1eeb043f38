//! The pods of a Deployment as a watch of one API server tells of them, one event after the other: never more than there may
//! be, and none on two nodes.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use http::Request;
use kube::api::WatchEvent;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;

const PODS: &str = "/api/v1/namespaces/default/pods?labelSelector=app%3Droam";
/// A watch that says nothing for so long is begun again; bookmarks come more often.
const SILENCE: Duration = Duration::from_secs(120);
/// Whoever asks again in vain waits for so long.
const PAUSE: Duration = Duration::from_millis(200);

/// A watch, as long as it is there.
pub(crate) struct Pods {
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

/// What a watch has told so far.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    limit: AtomicUsize,
    pods: Mutex<BTreeMap<String, Pod>>,
    wrong: Mutex<Vec<String>>,
    /// How often all was listed: more than once where a watch could not go on from what it had seen.
    listed: AtomicUsize,
}

#[derive(Clone)]
struct Pod {
    /// Neither being deleted nor at its end.
    is_live: bool,
    node: Option<String>,
}

impl Pods {
    /// Begins to watch by way of the API server of a kubeconfig; there may be so many pods.
    pub(crate) fn watch(kubeconfig: &Path, limit: usize) -> Self {
        let seen = Arc::<Seen>::default();
        seen.limit.store(limit, Ordering::SeqCst);
        let (for_thread, kubeconfig) = (Arc::clone(&seen), kubeconfig.to_owned());
        let thread = std::thread::spawn(move || {
            let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(follow(&kubeconfig, &for_thread));
        });
        Self { seen, thread: Some(thread) }
    }

    /// From now on there may be so many.
    pub(crate) fn allow(&self, limit: usize) {
        self.seen.limit.store(limit, Ordering::SeqCst);
    }

    /// How many there are that stay.
    pub(crate) fn live(&self) -> usize {
        live(&self.seen.pods.lock().unwrap())
    }

    /// How many of them have a node.
    pub(crate) fn placed(&self) -> usize {
        self.seen.pods.lock().unwrap().values().filter(|pod| pod.is_live && pod.node.is_some()).count()
    }

    /// The names of those that stay.
    pub(crate) fn names(&self) -> Vec<String> {
        let pods = self.seen.pods.lock().unwrap();
        pods.iter().filter(|(_, pod)| pod.is_live).map(|(name, _)| name.clone()).collect()
    }

    /// Ends; answers what was wrong, and how often all was listed.
    pub(crate) fn end(mut self) -> (Vec<String>, usize) {
        self.seen.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
        let wrong = std::mem::take(&mut *self.seen.wrong.lock().unwrap());
        (wrong, self.seen.listed.load(Ordering::SeqCst))
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::SeqCst);
    }
}

fn live(pods: &BTreeMap<String, Pod>) -> usize {
    pods.values().filter(|pod| pod.is_live).count()
}

/// Lists and watches, and goes on watching from what was seen last, until told to stop.
async fn follow(kubeconfig: &Path, seen: &Seen) {
    let (kubeconfig, options) = (Kubeconfig::read_from(kubeconfig).unwrap(), KubeConfigOptions::default());
    let client = Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap()).unwrap();
    let mut version = None;
    while !seen.stop.load(Ordering::SeqCst) {
        if version.is_none() {
            version = list(&client, seen).await;
        } else if watch(&client, seen, &mut version).await.is_ok() {
            continue;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Takes what there is for all that there is. Answers its version, if there was an answer.
async fn list(client: &Client, seen: &Seen) -> Option<String> {
    let list: Value = client.request(Request::get(PODS).body(Vec::new()).unwrap()).await.ok()?;
    seen.listed.fetch_add(1, Ordering::SeqCst);
    seen.pods.lock().unwrap().clear();
    list["items"].as_array()?.iter().for_each(|pod| seen.take(pod));
    list["metadata"]["resourceVersion"].as_str().map(str::to_owned)
}

/// Watches until the stream ends, which is well. Forgets the version when it is too old.
async fn watch(client: &Client, seen: &Seen, version: &mut Option<String>) -> kube::Result<()> {
    let from = version.clone().unwrap_or_default();
    let path = format!("{PODS}&watch=true&allowWatchBookmarks=true&resourceVersion={from}");
    let events = client.request_events::<Value>(Request::get(path).body(Vec::new()).unwrap()).await?;
    let (mut events, mut last) = (pin!(events), Instant::now());
    while !seen.stop.load(Ordering::SeqCst) && last.elapsed() < SILENCE {
        // Now and then it looks whether to stop.
        let Ok(next) = tokio::time::timeout(PAUSE, events.next()).await else { continue };
        let Some(event) = next.transpose()? else { return Ok(()) };
        last = Instant::now();
        match event {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                seen.take(&pod);
                *version = pod["metadata"]["resourceVersion"].as_str().map(str::to_owned);
            }
            WatchEvent::Deleted(pod) => {
                seen.pods.lock().unwrap().remove(name(&pod));
                *version = pod["metadata"]["resourceVersion"].as_str().map(str::to_owned);
            }
            WatchEvent::Bookmark(bookmark) => *version = Some(bookmark.metadata.resource_version),
            WatchEvent::Error(_) => *version = None,
        }
    }
    Ok(())
}

fn name(pod: &Value) -> &str {
    pod["metadata"]["name"].as_str().unwrap()
}

impl Seen {
    /// Takes note of a pod as it is now, and of what is wrong with that.
    fn take(&self, pod: &Value) {
        let (metadata, phase) = (&pod["metadata"], pod["status"]["phase"].as_str().unwrap_or_default());
        let is_live = metadata["deletionTimestamp"].is_null() && !["Succeeded", "Failed"].contains(&phase);
        let node = pod["spec"]["nodeName"].as_str().map(str::to_owned);
        let mut pods = self.pods.lock().unwrap();
        let before = pods.insert(name(pod).to_owned(), Pod { is_live, node: node.clone() });
        let (found, limit) = (live(&pods), self.limit.load(Ordering::SeqCst));
        drop(pods);
        let mut wrong = self.wrong.lock().unwrap();
        if found > limit {
            wrong.push(format!("{found} pods where {limit} may be, with {}", name(pod)));
        }
        if let Some(first) = before.and_then(|before| before.node)
            && node.as_ref() != Some(&first)
        {
            wrong.push(format!("{} went from {first} to {node:?}", name(pod)));
        }
        if metadata["ownerReferences"][0]["kind"] != "ReplicaSet" {
            wrong.push(format!("{} is nobody's", name(pod)));
        }
    }
}
