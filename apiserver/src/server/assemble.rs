//! Puts the parts of the server together, from the store up. Nothing runs yet. Upstream:
//! `controlplane.CompletedConfig.New`.

use std::sync::Arc;

use daemon::Process;
use jiff::Timestamp;
use store::Store;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::aggregator::Aggregator;
use crate::audit::Audit;
use crate::authn::tokens::Tokens;
use crate::config::Config;
use crate::conversion::Converters;
use crate::core::{Core, Stage};
use crate::encryption::{AtRest, Sealed};
use crate::error::Error;
use crate::flow_control::FlowControl;
use crate::flow_control::sending::Sending;
use crate::metrics::Metrics;
use crate::metrics::measured::Measured;
use crate::metrics::slis::Slis;
use crate::outbound::kubelets::Kubelets;
use crate::outbound::webhooks::Webhooks;
use crate::registry::{Registry, swapper};
use crate::request::intake::Intake;
use crate::service_addresses::Allocator;
use crate::usage::Usage;
use crate::watch_cache::{Feed, StoredObjects, WatchCache, is_cached};
use crate::{admission, authn, authz, runtime_config};

/// All parts, and what feeds the watch cache.
pub(super) fn assemble(config: Config, store: Arc<dyn Store>, process: &Process) -> Result<(Core, Feed), Error> {
    let catalog = runtime_config::catalog(&config.runtime_config, config.kubelet_certificate_authority.is_some())?;
    let rows = catalog.iter().filter(|row| is_cached(row)).map(|row| catalog.storage_row(row).clone());
    let store: Arc<dyn Store> = Arc::new(Measured::new(store, &catalog, &process.metrics));
    let at_rest = AtRest::load(&config.encryption, &catalog, &process.metrics)?.map(Arc::new);
    let (cache, feed) = WatchCache::opened_by(at_rest.clone(), store.clone(), rows);
    let sealed = at_rest.clone().map(|at_rest| Arc::new(Sealed::new(store.clone(), at_rest)));
    let store = sealed.clone().map_or(store, |sealed| sealed as Arc<dyn Store>);
    let rbac = Arc::new(authz::Rbac::new(&cache));
    let connections = TaskTracker::new();
    let webhooks = Webhooks::new(&cache, connections.clone(), process.shutdown.clone());
    let authorizers = authz::Maker::new(&cache, &rbac, &webhooks)?;
    let authz = Arc::new(authz::Chain::new(authorizers.make(&config)?));
    let tokens = Tokens::new(&config, &cache)
        .map_err(Error::part("--service-account-signing-key-file or --service-account-key-file"))?
        .map(Arc::new);
    let converters = Arc::new(Converters::new(webhooks.clone()));
    let admission = admission::chain(&admission::Environment {
        config: config.admission.clone(),
        toleration_seconds: config.toleration_seconds.clone(),
        configuration: admission::Configuration::read(config.admission.admission_control_config_file.as_deref())?,
        namespaces: admission::Namespaces::new(&cache, &store),
        cache: cache.clone(),
        store: store.clone(),
        swap: swapper(store.clone()),
        rbac: rbac.clone(),
        authz: authz.clone(),
        webhooks: webhooks.clone(),
        converters: converters.clone(),
        metrics: admission::Metrics::register(&process.metrics),
    })?;
    let ranges = (config.service_cluster_ip_ranges.clone(), config.service_node_ports.clone());
    let allocator = Allocator::new(ranges, store.clone(), cache.clone(), &catalog);
    let registry = Arc::new(Registry::new(
        (store, sealed),
        cache,
        catalog,
        admission,
        authz.clone(),
        allocator,
        converters,
        config.event_ttl,
    ));
    let tasks = TaskTracker::new();
    let flow_control = FlowControl::new(&config.limits, &process.metrics, &tasks);
    let sending = Arc::new(Sending::default());
    process.metrics.register(|registry| {
        let help = "Clients that were cut because they did not read their answer";
        registry.register("apiserver_stalled_responses", help, sending.stalled());
    });
    let aggregator = Aggregator::new(&config, registry.cache(), connections.clone(), process)
        .map_err(Error::part("connect to aggregated API servers"))?;
    StoredObjects::register(&process.metrics, registry.cache());
    let kubelets = Arc::new(kubelets(&config)?);
    let usage = Usage::new(kubelets.clone(), connections.clone(), tasks.clone(), process.shutdown.clone());
    let (authn, jwt) = authn::chain(&config, registry.cache(), tokens.clone(), &webhooks, &connections, process)?;
    let core = Core {
        authn,
        jwt,
        authz,
        authorizers,
        rbac,
        tokens,
        kubelets,
        usage: Arc::new(usage),
        aggregator: Arc::new(aggregator),
        at_rest,
        audit: Audit::new(&config.audit, &webhooks, &process.metrics)?.map(Arc::new),
        metrics: Metrics::new(process.metrics.clone()),
        slis: Slis::default(),
        started: Timestamp::now(),
        documents: Arc::default(),
        connections,
        tasks,
        shutdown: process.shutdown.clone(),
        stopping: process.stopping.clone(),
        intake: Intake::default(),
        flow_control: Arc::new(flow_control),
        sending,
        serving: TaskTracker::new(),
        stage: watch::Sender::new(Stage::Starting),
        registry,
        config,
    };
    Ok((core, feed))
}

fn kubelets(config: &Config) -> Result<Kubelets, Error> {
    let identity = (config.kubelet_client_certificate.as_deref(), config.kubelet_client_key.as_deref());
    Kubelets::new(config.kubelet_certificate_authority.as_deref(), identity).map_err(Error::part("connect to kubelets"))
}
