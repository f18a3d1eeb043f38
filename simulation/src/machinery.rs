//! The control plane's processes: started, killed and started anew.

use std::sync::Arc;
use std::time::Duration;

use apiserver::testing::TestServer;
use client::LeaderElection;
use controllers::Ranges;
use daemon::Process;
use scheduler::config::{PluginRef, PluginSet, Plugins, ProfileConfig};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::history::History;
use crate::network::Network;
use crate::plan::Plan;
use crate::recorded::Recorded;

/// How long whoever watches over processes waits until it starts one anew.
const RESTART: Duration = Duration::from_secs(1);

/// The API server's process.
pub(crate) struct Server {
    network: Network,
    store: Arc<Recorded>,
    history: History,
    running: Option<TestServer>,
}

impl Server {
    /// A server that does not run yet.
    pub(crate) fn new(network: Network, store: Arc<Recorded>, history: History) -> Self {
        Self { network, store, history, running: None }
    }

    /// Starts it; from then on it can be reached.
    pub(crate) async fn start(&mut self) {
        let config = apiserver::Config { identity: Some("simulated".to_owned()), ..apiserver::Config::default() };
        let server = TestServer::with(config, Arc::<Recorded>::clone(&self.store)).await;
        self.network.lead_to(Some(server.service()));
        self.history.note(|| "the API server is up".to_owned());
        self.running = Some(server);
    }

    /// Ends it: with its last words, or at once.
    pub(crate) async fn stop(&mut self, is_graceful: bool) {
        self.history.note(|| format!("the API server stops, graceful: {is_graceful}"));
        self.network.lead_to(None);
        if let Some(server) = self.running.take().filter(|_| is_graceful) {
            server.stop().await;
        }
    }
}

/// What is to become of a component.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// Ends at once, and is started again after so long.
    Kill(Duration),
    /// Is told to end, and is started again after so long.
    Stop(Duration),
}

/// A component that is started whenever it does not run.
pub(crate) struct Component {
    pub(crate) name: String,
    orders: mpsc::Sender<Order>,
    _task: AbortOnDropHandle<()>,
}

/// Which component it is.
#[derive(Clone, Copy, Debug)]
enum Which {
    Controllers,
    Scheduler,
}

impl Component {
    fn start(which: Which, number: usize, world: &World) -> Self {
        let name = format!("{}-{number}", which.name());
        let (orders, told) = mpsc::channel(4);
        let task = keep(which, name.clone(), world.clone(), told);
        Self { name, orders, _task: AbortOnDropHandle::new(tokio::spawn(task)) }
    }

    /// Gives an order, unless it still obeys others.
    pub(crate) fn order(&self, order: Order) {
        let _is_busy = self.orders.try_send(order);
    }
}

impl Which {
    fn name(self) -> &'static str {
        match self {
            Self::Controllers => "controllers",
            Self::Scheduler => "scheduler",
        }
    }
}

/// What a component is started with.
#[derive(Clone)]
struct World {
    network: Network,
    history: History,
    elects: bool,
}

/// All components: one of each, or with others that stand by.
pub(crate) fn components(plan: &Plan, network: &Network, history: &History) -> Vec<Component> {
    let world = World { network: network.clone(), history: history.clone(), elects: plan.standby };
    let numbers = 0..if plan.standby { 2 } else { 1 };
    let both = numbers.flat_map(|number| [(Which::Controllers, number), (Which::Scheduler, number)]);
    both.map(|(which, number)| Component::start(which, number, &world)).collect()
}

async fn keep(which: Which, name: String, world: World, mut orders: mpsc::Receiver<Order>) {
    for life in 0_u32.. {
        world.history.note(|| format!("{name} starts"));
        let shutdown = CancellationToken::new();
        let mut running = JoinSet::new();
        let election = world.elects.then(|| election(which, &format!("{name}-{life}")));
        running.spawn(run(which, election, world.network.client(&name), Process::new(shutdown.clone())));
        let pause = tokio::select! {
            ended = running.join_next() => {
                let how = ended.map(|ended| ended.unwrap_or_else(|err| End::Wrong(err.to_string())));
                match how {
                    Some(End::Lost) => world.history.note(|| format!("{name} lost its lease")),
                    Some(End::Wrong(why)) => world.history.wrong(format!("{name} ended by itself: {why}")),
                    None => {}
                }
                RESTART
            }
            Some(order) = orders.recv() => {
                world.history.note(|| format!("{name}: {order:?}"));
                match order {
                    Order::Kill(pause) => pause,
                    Order::Stop(pause) => {
                        shutdown.cancel();
                        let _ends = tokio::time::timeout(Duration::from_secs(30), running.join_next()).await;
                        pause
                    }
                }
            }
        };
        drop(running);
        sleep(pause).await;
    }
}

enum End {
    Lost,
    Wrong(String),
}

async fn run(which: Which, election: Option<LeaderElection>, client: kube::Client, process: Process) -> End {
    match which {
        Which::Controllers => {
            let ranges = Ranges::out_of(vec!["10.244.0.0/16".to_owned()]);
            let root_ca = Some("certificates".to_owned());
            let config =
                controllers::Config { leader_election: election, ranges, root_ca, ..controllers::Config::default() };
            match controllers::run(config, client, process).await {
                Err(controllers::Error::LeaderElection(_)) => End::Lost,
                ended => End::Wrong(format!("{ended:?}")),
            }
        }
        Which::Scheduler => {
            let profiles = vec![profile()];
            let config = scheduler::Config { leader_election: election, profiles, ..scheduler::Config::default() };
            match scheduler::run(config, client, process).await {
                Err(scheduler::Error::Lost(_)) => End::Lost,
                ended => End::Wrong(format!("{ended:?}")),
            }
        }
    }
}

/// The default profile with the banker, who is there on request only.
fn profile() -> ProfileConfig {
    let banker = PluginRef { name: "BankersCheck".to_owned(), weight: None };
    let multi_point = PluginSet { enabled: vec![banker], ..PluginSet::default() };
    ProfileConfig {
        scheduler_name: "default-scheduler".to_owned(),
        plugins: Plugins { multi_point, ..Plugins::default() },
        ..ProfileConfig::default()
    }
}

fn election(which: Which, identity: &str) -> LeaderElection {
    LeaderElection {
        identity: identity.to_owned(),
        // Each attempt costs a request, and most of a simulation is waiting.
        retry_period: Duration::from_secs(4),
        presence: "/dev/null/nowhere".into(),
        ..LeaderElection::new(which.name(), "simulated")
    }
}
