//! A steady, small load of writes that are remembered once they have been acknowledged: none of them may be lost.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::command::eventually;

/// Between two writes.
const PAUSE: Duration = Duration::from_millis(50);
/// Whoever has not answered by then is asked again, on another connection.
const LATE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// The load, as long as it is there.
pub struct Writes {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Acknowledged>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    acknowledged: AtomicU64,
    /// The longest time without an acknowledgement, in milliseconds, since somebody asked.
    longest: AtomicU64,
}

/// What was acknowledged.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// Names of ConfigMaps that were created.
    pub names: Vec<String>,
    /// The last value of the counter.
    pub counter: u64,
    /// Writes of which nobody knows what became of them.
    pub unanswered: u64,
}

impl Writes {
    /// Begins to write ConfigMaps that are called `NAME-0` and so on, and to count `NAME-counter` up by compare-and-swap.
    pub fn start(kubeconfig: &Path, name: &str) -> Self {
        let shared = Arc::<Shared>::default();
        let (for_thread, kubeconfig, prefix) = (Arc::clone(&shared), kubeconfig.to_owned(), name.to_owned());
        let thread = std::thread::spawn(move || {
            let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(write(&kubeconfig, &prefix, &for_thread))
        });
        Self { shared, thread: Some(thread) }
    }

    /// Waits until so many more have been acknowledged; answers the longest time without one since the last call, in
    /// milliseconds.
    #[track_caller]
    pub fn go_on(&self, more: u64) -> u64 {
        let wanted = self.shared.acknowledged.load(Ordering::Relaxed) + more;
        eventually("writes are acknowledged", PATIENCE, || {
            (self.shared.acknowledged.load(Ordering::Relaxed) >= wanted).then_some(())
        });
        self.shared.longest.swap(0, Ordering::Relaxed)
    }

    /// Ends; answers what was acknowledged.
    pub fn stop(mut self) -> Acknowledged {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("it runs").join().expect("the load ends well")
    }
}

impl Drop for Writes {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

async fn write(kubeconfig: &Path, prefix: &str, shared: &Shared) -> Acknowledged {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("the kubeconfig is there");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let client = Client::try_from(config.expect("a good kubeconfig")).expect("a client");
    let mut done = Acknowledged::default();
    let mut last = Instant::now();
    for number in 0.. {
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("{prefix}-{number}");
        let created = ask(&client, Method::POST, MAPS, &map(&name, 0, None)).await.is_some();
        let counted = count(&client, &format!("{prefix}-counter")).await;
        done.unanswered += u64::from(!created) + u64::from(counted.is_none());
        done.names.extend(created.then_some(name));
        done.counter = counted.unwrap_or(done.counter);
        if created && counted.is_some() {
            let gap = u64::try_from(last.elapsed().as_millis()).unwrap_or(u64::MAX);
            shared.longest.fetch_max(gap, Ordering::Relaxed);
            shared.acknowledged.fetch_add(2, Ordering::Relaxed);
            last = Instant::now();
        }
        tokio::time::sleep(PAUSE).await;
    }
    done
}

/// Adds one to what is there, if nobody else has; answers the value that was acknowledged.
async fn count(client: &Client, counter: &str) -> Option<u64> {
    let path = format!("{MAPS}/{counter}");
    let Some(found) = ask(client, Method::GET, &path, &Value::Null).await else {
        return ask(client, Method::POST, MAPS, &map(counter, 1, None)).await.map(|_| 1);
    };
    let value = found["data"]["value"].as_str()?.parse::<u64>().ok()? + 1;
    let next = map(counter, value, found["metadata"]["resourceVersion"].as_str());
    ask(client, Method::PUT, &path, &next).await.map(|_| value)
}

fn map(name: &str, value: u64, version: Option<&str>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "resourceVersion": version}, "data": {"value": value.to_string()},
    })
}

/// The answer, if it says that all went well.
async fn ask(client: &Client, method: Method, path: &str, body: &Value) -> Option<Value> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = Request::builder().method(method).uri(path).header("Content-Type", "application/json").body(body);
    let answer = client.request::<Value>(request.expect("a good request"));
    tokio::time::timeout(LATE, answer).await.ok()?.ok()
}
