//! The parts of a running server, put together once ([`crate::server`]) and used by all that answers requests.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::aggregator::Aggregator;
use crate::audit::Audit;
use crate::authn::tokens::Tokens;
use crate::authn::{self, Jwt};
use crate::authz;
use crate::config::Config;
use crate::documents::Documents;
use crate::encryption::AtRest;
use crate::flow_control::FlowControl;
use crate::flow_control::sending::Sending;
use crate::metrics::Metrics;
use crate::metrics::slis::Slis;
use crate::outbound::kubelets::Kubelets;
use crate::registry::Registry;
use crate::request::intake::Intake;
use crate::usage::Usage;

/// How far the start has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Starting,
    Filled,
    Bootstrapped,
}

/// The parts of a running server.
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) registry: Arc<Registry>,
    pub(crate) authn: authn::Chain,
    pub(crate) authz: Arc<authz::Chain>,
    pub(crate) authorizers: authz::Maker,
    /// Users by tokens of issuers.
    pub(crate) jwt: Option<Arc<Jwt>>,
    /// Who may do what, whether or not it is asked to authorise.
    pub(crate) rbac: Arc<authz::Rbac>,
    /// The issuer of ServiceAccount tokens.
    pub(crate) tokens: Option<Arc<Tokens>>,
    pub(crate) kubelets: Arc<Kubelets>,
    /// What nodes and pods use.
    pub(crate) usage: Arc<Usage>,
    /// Which versions other servers serve.
    pub(crate) aggregator: Arc<Aggregator>,
    pub(crate) at_rest: Option<Arc<AtRest>>,
    pub(crate) audit: Option<Arc<Audit>>,
    pub(crate) metrics: Metrics,
    pub(crate) slis: Slis,
    /// When the server was put together.
    pub(crate) started: Timestamp,
    pub(crate) documents: Arc<Documents>,
    /// Tasks of connections to nodes, pods and webhooks.
    pub(crate) connections: TaskTracker,
    /// Tasks of the server's own controllers.
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
    /// Cancelled before `shutdown`, when the server goes on serving for a while.
    pub(crate) stopping: CancellationToken,
    pub(crate) intake: Intake,
    pub(crate) flow_control: Arc<FlowControl>,
    /// Answers on their way.
    pub(crate) sending: Arc<Sending>,
    /// Listeners that are served or drained.
    pub(crate) serving: TaskTracker,
    pub(crate) stage: watch::Sender<Stage>,
}

impl Core {
    /// Whether the watch cache holds everything.
    pub(crate) fn is_filled(&self) -> bool {
        *self.stage.borrow() >= Stage::Filled
    }

    /// Whether the objects that a cluster cannot do without are there.
    pub(crate) fn is_bootstrapped(&self) -> bool {
        *self.stage.borrow() >= Stage::Bootstrapped
    }

    /// Waits until it is.
    pub(crate) async fn filled(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let mut stage = self.stage.subscribe();
        let _filled = stage.wait_for(|stage| *stage >= Stage::Filled).await;
    }
}
