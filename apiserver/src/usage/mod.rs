//! What nodes and pods use, asked of kubelets when somebody wants to know (upstream: the metrics-server).
//!
//! ```text
//! a question -> which nodes? -> what is known of them is fresh: that
//!                           \-> else a task asks the kubelet (scrape), once for all who wait
//! sample, and the one before, or a second one after a moment -> rate: what was used between the two
//! ```
//!
//! It is a part of this server, and no server of its own behind an APIService: this one knows the kubelets already and
//! has an identity that they let in, nothing has to be reached by a Service or probed every half minute, and an idle
//! cluster asks nobody. Who installs another server for the group has an APIService that names it, and
//! [`crate::aggregator`] sends requests there before this is looked at.
//!
//! Nothing is asked before somebody wants to know, and nothing is remembered for longer than [`KEPT`] after that. What a
//! kubelet says has bounds ([`scrape`]), and only of pods of its own node it is believed.

mod rate;
mod sample;
mod scrape;
mod text;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::outbound::kubelets::{Backend, Kubelets};

pub(crate) use self::rate::{Rates, Used};
use self::sample::Sample;
use self::scrape::Scraper;

/// What is known is fresh for so long: who asks every 15 seconds, as autoscalers do, gets new figures each time.
const FRESH: Duration = Duration::from_secs(10);
/// A sample that is older is no beginning of a window: what was long ago says nothing of now.
const KEPT: Duration = Duration::from_secs(60);
/// Between two samples when there is none from before.
const SHORTEST: Duration = Duration::from_secs(1);
/// A kubelet that gave no answer is not asked again for so long; twice as long each time, up to [`KEPT`].
const REST: Duration = Duration::from_secs(10);
/// A question is answered by then, without the nodes of which nothing is known yet.
const PATIENCE: Duration = Duration::from_secs(8);

/// What nodes use, by their names.
pub(crate) type ByNode = HashMap<String, Arc<Rates>>;

/// What is known of nodes, and the way to learn more.
pub(crate) struct Usage {
    scraper: Scraper,
    nodes: Mutex<HashMap<String, Node>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// What is known of one node.
struct Node {
    sample: Option<Arc<Sample>>,
    rates: Option<Arc<Rates>>,
    /// When its kubelet was last asked to the end.
    asked: Instant,
    failures: u32,
    /// Closed when the kubelet has been asked.
    asking: Option<watch::Receiver<()>>,
}

impl Node {
    fn new() -> Self {
        Self { sample: None, rates: None, asked: Instant::now(), failures: 0, asking: None }
    }

    /// What to wait for while its kubelet is asked; a task that has gone, however it ended, asks nobody.
    fn asking(&self) -> Option<watch::Receiver<()>> {
        self.asking.clone().filter(|asking| asking.has_changed().is_ok())
    }

    /// Whether what is known, if anything, is the answer for now.
    fn is_settled(&self) -> bool {
        let rest = REST.saturating_mul(1 << self.failures.saturating_sub(1).min(8)).min(KEPT);
        match (self.failures, &self.rates) {
            (0, Some(_)) => self.asked.elapsed() < FRESH,
            (0, None) => false,
            _ => self.asked.elapsed() < rest,
        }
    }
}

impl Usage {
    /// Asks nobody yet. Connections are driven by tasks of `connections`.
    pub(crate) fn new(
        kubelets: Arc<Kubelets>,
        connections: TaskTracker,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        let scraper = Scraper::new(kubelets, connections, shutdown.clone());
        Self { scraper, nodes: Mutex::default(), tasks, shutdown }
    }

    /// What these nodes use, as far as their kubelets say in time. `find` finds the kubelet of a node.
    pub(crate) async fn of(self: &Arc<Self>, names: Vec<String>, find: impl Fn(&str) -> Option<Backend>) -> ByNode {
        let deadline = Instant::now() + PATIENCE;
        let waits: Vec<_> = names.iter().filter_map(|name| self.ask(name, &find)).collect();
        for mut asked in waits {
            // An error says that the task is done.
            if timeout_at(deadline, asked.changed()).await.is_err() {
                break;
            }
        }
        let nodes = self.nodes();
        let known = |name: String| {
            let rates = nodes.get(&name)?.rates.clone()?;
            Some((name, rates))
        };
        names.into_iter().filter_map(known).collect()
    }

    /// Sees to it that the kubelet of a node is asked, if need be; what to wait for.
    fn ask(self: &Arc<Self>, name: &str, find: &impl Fn(&str) -> Option<Backend>) -> Option<watch::Receiver<()>> {
        let mut nodes = self.nodes();
        if let Some(node) = nodes.get(name).filter(|node| node.asking().is_some() || node.is_settled()) {
            return node.asking();
        }
        let backend = find(name)?;
        if nodes.is_empty() {
            self.tasks.spawn(self.clone().forget());
        }
        let node = nodes.entry(name.to_owned()).or_insert_with(Node::new);
        let (done, asking) = watch::channel(());
        node.asking = Some(asking.clone());
        let before = node.sample.clone().filter(|sample| sample.is_within(KEPT));
        let (usage, name) = (self.clone(), name.to_owned());
        self.tasks.spawn(async move {
            let measured = usage.shutdown.run_until_cancelled(usage.measure(&backend, before)).await;
            usage.learn(&name, measured.unwrap_or(Err(scrape::Error::Shutdown)));
            drop(done);
        });
        Some(asking)
    }

    async fn measure(
        &self,
        backend: &Backend,
        before: Option<Arc<Sample>>,
    ) -> Result<(Arc<Sample>, Rates), scrape::Error> {
        let first = Arc::new(self.scraper.scrape(backend).await?);
        let (older, newer) = match before {
            Some(before) => (before, first),
            None => {
                sleep(SHORTEST).await;
                (first, Arc::new(self.scraper.scrape(backend).await?))
            }
        };
        let rates = Rates::between(&older, &newer);
        Ok((newer, rates))
    }

    fn learn(&self, name: &str, measured: Result<(Arc<Sample>, Rates), scrape::Error>) {
        let mut nodes = self.nodes();
        let Some(node) = nodes.get_mut(name) else { return };
        node.asking = None;
        node.asked = Instant::now();
        match measured {
            Ok((sample, rates)) => {
                (node.sample, node.rates, node.failures) = (Some(sample), Some(Arc::new(rates)), 0);
            }
            Err(err) => {
                tracing::debug!(node = name, error = &err as &dyn std::error::Error, "a kubelet told nothing");
                node.rates = None;
                node.failures = node.failures.saturating_add(1);
            }
        }
    }

    /// Forgets what nobody has asked about for a while; ends when nothing is known any more.
    async fn forget(self: Arc<Self>) {
        let forget = async {
            loop {
                sleep(KEPT).await;
                let mut nodes = self.nodes();
                nodes.retain(|_, node| node.asking().is_some() || node.asked.elapsed() < KEPT);
                if nodes.is_empty() {
                    nodes.shrink_to_fit();
                    return;
                }
            }
        };
        self.shutdown.run_until_cancelled(forget).await;
    }

    fn nodes(&self) -> MutexGuard<'_, HashMap<String, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
