//! The server as a whole: its parts, and the order in which a request passes them.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::{Duration, Instant};

use api::ApiError;
use api::strategy::User;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use daemon::Process;
use futures::FutureExt as _;
use http::request::Parts;
use http::{Request, StatusCode};
use jiff::Timestamp;
use store::Store;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::admission;
use crate::aggregator;
use crate::aggregator::{Aggregator, Claim};
use crate::audit::{self, AUDIT_ID, Audit, AuditId};
use crate::authn;
use crate::authz;
use crate::bootstrap;
use crate::config::Config;
use crate::conversion::Converters;
use crate::definitions;
use crate::documents::Documents;
use crate::encryption::{AtRest, Sealed};
use crate::error::Error;
use crate::flow_control;
use crate::flow_control::sending::Sending;
use crate::flow_control::{Class, FLOW_SCHEMA, FlowControl, PRIORITY_LEVEL, Seat};
use crate::handler::{self, Call, Incoming};
use crate::http::{Cut, Edge, Handshake, InProcess};
use crate::impersonate;
use crate::metrics::Metrics;
use crate::metrics::measured::Measured;
use crate::metrics::slis::Slis;
use crate::outbound::kubelets::Kubelets;
use crate::outbound::webhooks::Webhooks;
use crate::proxy;
use crate::registry::{Registry, swapper};
use crate::request::info::RequestInfo;
use crate::request::intake::{Intake, drop_unread};
use crate::request::negotiate::{Accept, is_pretty};
use crate::request::query::Query;
use crate::response::{self, Answer};
use crate::routes::discovery;
use crate::routes::health;
use crate::routes::openapi;
use crate::routes::pages;
use crate::service_addresses::Allocator;
use crate::subresources;
use crate::watch_cache::{Feed, ResourceCache, WatchCache};

/// How far the start has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
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
    authorizers: authz::Maker,
    /// Users by tokens of issuers.
    jwt: Option<Arc<authn::Jwt>>,
    /// Who may do what, whether or not it is asked to authorise.
    pub(crate) rbac: Arc<authz::Rbac>,
    /// The issuer of ServiceAccount tokens.
    pub(crate) tokens: Option<Arc<authn::tokens::Tokens>>,
    pub(crate) kubelets: Kubelets,
    /// Which versions other servers serve.
    pub(crate) aggregator: Arc<Aggregator>,
    pub(crate) at_rest: Option<Arc<AtRest>>,
    audit: Option<Arc<Audit>>,
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
    intake: Intake,
    pub(crate) flow_control: Arc<FlowControl>,
    /// Answers on their way.
    pub(crate) sending: Arc<Sending>,
    /// Listeners that are served or drained.
    serving: TaskTracker,
    stage: watch::Sender<Stage>,
}

impl Core {
    pub(crate) fn is_filled(&self) -> bool {
        *self.stage.borrow() >= Stage::Filled
    }

    pub(crate) fn is_bootstrapped(&self) -> bool {
        *self.stage.borrow() >= Stage::Bootstrapped
    }

    async fn filled(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let mut stage = self.stage.subscribe();
        let _filled = stage.wait_for(|stage| *stage >= Stage::Filled).await;
    }
}

/// The API server. Clones share everything.
#[derive(Clone)]
pub struct ApiServer {
    core: Arc<Core>,
    process: Process,
    feed: Arc<Mutex<Option<Feed>>>,
}

impl ApiServer {
    /// Puts the server together; nothing runs yet. [`ApiServer::run`] makes it live.
    pub fn new(config: Config, store: Arc<dyn Store>, process: Process) -> Result<Self, Error> {
        let catalog = crate::runtime_config::catalog(&config.runtime_config)?;
        let rows = catalog.iter().filter(|row| handler::is_stored(row)).map(|row| catalog.storage_row(row).clone());
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
        let tokens = authn::tokens::Tokens::new(&config, &cache)
            .map_err(Error::part("--service-account-signing-key-file or --service-account-key-file"))?
            .map(Arc::new);
        let converters = Arc::new(Converters::new(webhooks.clone()));
        let admission = admission::builtin(
            &config,
            &cache,
            (&store, swapper(store.clone())),
            &rbac,
            &authz,
            &webhooks,
            &converters,
        )?;
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
        let aggregator = Aggregator::new(&config, registry.cache(), connections.clone(), &process)
            .map_err(Error::part("connect to aggregated API servers"))?;
        let identity = (config.kubelet_client_certificate.as_deref(), config.kubelet_client_key.as_deref());
        let kubelets = Kubelets::new(config.kubelet_certificate_authority.as_deref(), identity)
            .map_err(Error::part("connect to kubelets"))?;
        let (authn, jwt) = authn::chain(&config, registry.cache(), tokens.clone(), &webhooks, &connections, &process)?;
        let core = Core {
            authn,
            jwt,
            authz,
            authorizers,
            rbac,
            tokens,
            kubelets,
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
        Ok(Self { core: Arc::new(core), process, feed: Arc::new(Mutex::new(Some(feed))) })
    }

    /// The router: all stages after the network edge. Requests wait until the cache is filled.
    pub fn router(&self) -> Router {
        Router::new().fallback(handle).with_state(self.core.clone())
    }

    /// An in-memory transport that shows this client certificate (DER), or none. Requests pass the same stages as those
    /// from the network.
    pub fn in_process(&self, client_certificate: Option<Bytes>) -> InProcess {
        InProcess::new(self.router(), client_certificate)
    }

    /// The one registry.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.core.registry
    }

    /// What is published.
    #[cfg(test)]
    pub(crate) fn documents(&self) -> &Arc<Documents> {
        &self.core.documents
    }

    /// Waits until bootstrap objects exist and the server answers everything.
    pub async fn ready(&self) {
        let mut stage = self.core.stage.subscribe();
        let _ready = stage.wait_for(|stage| *stage >= Stage::Bootstrapped).await;
    }

    /// Feeds the watch cache and creates the bootstrap objects, until shutdown. Exactly one caller runs it.
    pub async fn run(&self) -> Result<(), Error> {
        let Some(feed) = self.feed.lock().await.take() else {
            return Err(Error::Bootstrap("the server already runs".into()));
        };
        if let Some(at_rest) = &self.core.at_rest {
            self.core.tasks.spawn(at_rest.clone().run(self.core.shutdown.clone()));
        }
        if let Some(audit) = &self.core.audit {
            audit.start();
        }
        let core = self.core.clone();
        self.core.tasks.spawn(async move {
            core.authorizers.follow(&core.config.authorization, &core.authz, &core.shutdown).await;
        });
        if let Some(jwt) = self.core.jwt.clone() {
            let shutdown = self.core.shutdown.clone();
            self.core.tasks.spawn(async move { jwt.run(&shutdown).await });
        }
        let (filled, is_filled) = oneshot::channel();
        // The cache lives on while this server says good-bye to the others.
        let (shutdown, last) = (&self.core.shutdown, CancellationToken::new());
        let start = async {
            if shutdown.run_until_cancelled(is_filled).await.is_some_and(|filled| filled.is_ok()) {
                // A server that is told to stop while it starts has not failed.
                shutdown.run_until_cancelled(self.begin()).await.unwrap_or(Ok(()))?;
                bootstrap::meet(&self.core, shutdown).await;
            }
            shutdown.cancelled().await;
            last.cancel();
            Ok(())
        };
        let feed = async { feed.run(last.clone(), filled).await.map_err(Error::part("fill the watch cache")) };
        let outcome = tokio::try_join!(feed, start).map(|_| ());
        self.end(outcome.is_ok()).await;
        outcome
    }

    /// Sends the last audit events; after a clean end those of requests that are still answered, too.
    async fn end(&self, is_clean: bool) {
        let Some(audit) = &self.core.audit else { return };
        if is_clean {
            self.core.serving.close();
            self.core.serving.wait().await;
        }
        audit.finish().await;
    }

    /// Makes what must be there, and says that it is.
    async fn begin(&self) -> Result<(), Error> {
        self.serve_custom_resources().await?;
        self.core.stage.send_replace(Stage::Filled);
        self.follow_services()?;
        let made = bootstrap::ensure(&self.core).await?;
        let (core, shutdown) = (&self.core, &self.core.shutdown);
        core.tasks.spawn(bootstrap::keep(core.clone(), made, shutdown.clone()));
        core.tasks.spawn(bootstrap::identify(core.clone(), shutdown.clone()));
        if core.config.shares_store {
            let (registry, shutdown) = (core.registry.clone(), shutdown.clone());
            core.tasks.spawn(async move { registry.allocator().look_after(shutdown).await });
        }
        self.control_flow();
        self.core.stage.send_replace(Stage::Bootstrapped);
        self.process.ready.set();
        Ok(())
    }

    /// Sends on what belongs to other servers, and follows those.
    fn follow_services(&self) -> Result<(), Error> {
        let core = &self.core;
        let services = aggregator::Services::new(
            core.aggregator.clone(),
            core.registry.clone(),
            core.tasks.clone(),
            core.shutdown.clone(),
        );
        let mut services = services.map_err(|err| Error::Bootstrap(format!("aggregate APIs: {err}")))?;
        services.learn();
        services.start();
        Ok(())
    }

    /// Obeys what is configured of flow control, and cuts clients that do not read.
    fn control_flow(&self) {
        let core = &self.core;
        if let Some(follower) = flow_control::Follower::new(&core.flow_control, &core.registry) {
            follower.obey();
            core.tasks.spawn(follower.follow(core.shutdown.clone()));
        }
        core.tasks.spawn(core.sending.clone().watch(core.shutdown.clone()));
    }

    /// Serves what is defined already, and follows the definitions from then on.
    async fn serve_custom_resources(&self) -> Result<(), Error> {
        let core = &self.core;
        let failed = |err: ApiError| Error::Bootstrap(format!("serve custom resources: {err}"));
        let mut definitions =
            definitions::Definitions::new(core.registry.clone(), core.tasks.clone(), core.shutdown.clone())
                .map_err(failed)?;
        definitions.pass().await.map_err(failed)?;
        core.tasks.spawn(definitions.run(core.shutdown.clone()));
        core.tasks.spawn(core.documents.clone().follow(core.registry.clone(), core.shutdown.clone()));
        Ok(())
    }

    /// Serves TLS on a listener until shutdown, and drains.
    pub async fn serve(&self, listener: TcpListener) -> Result<(), Error> {
        let _serving = self.core.serving.token();
        crate::http::serve(listener, Arc::new(self.edge()?), self.router(), self.core.shutdown.clone()).await;
        Ok(())
    }

    fn edge(&self) -> Result<Edge, Error> {
        let (certificate, key) = self.serving_certificate()?;
        let config = &self.core.config;
        let handshake = Handshake {
            certificate: &certificate,
            key: &key,
            named: &config.named_certificates,
            options: &config.tls,
            client_ca: config.client_ca.as_deref(),
            front_proxy_ca: config.front_proxies.as_ref().map(|proxies| proxies.ca.as_path()),
        };
        let (mut tls, authorities) = handshake.read().map_err(Error::part("TLS"))?;
        if !config.http2 {
            tls.alpn_protocols.retain(|protocol| protocol != b"h2");
        }
        let plain = Edge::new(tls);
        let streams = config.http2_streams.unwrap_or(plain.streams);
        Ok(Edge { authorities, streams, goaway_chance: config.goaway_chance, ..plain })
    }

    /// Binds the configured address, or says why it cannot.
    pub async fn bind(&self) -> Result<TcpListener, Error> {
        let address = (self.core.config.bind_address, self.core.config.secure_port).into();
        TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
    }

    fn serving_certificate(&self) -> Result<(PathBuf, PathBuf), Error> {
        let config = &self.core.config;
        match (&config.tls_certificate, &config.tls_private_key) {
            (Some(certificate), Some(key)) => Ok((certificate.clone(), key.clone())),
            (None, None) => self.self_signed(),
            _ => {
                Err(Error::Flag { flag: "tls-cert-file", why: "needs --tls-private-key-file, and the reverse".into() })
            }
        }
    }

    /// A certificate of our own making, for a server that was given none.
    fn self_signed(&self) -> Result<(PathBuf, PathBuf), Error> {
        let config = &self.core.config;
        let first = config.service_cluster_ip_ranges.first().map(|range| range.nth(1));
        let addresses = [Some(config.bind_address), config.advertise_address, first];
        let directory = &config.certificate_directory;
        let doing = format!(
            "write the self-signed certificate to {} (give --tls-cert-file, or a --cert-dir that can be written)",
            directory.display()
        );
        crate::http::self_signed(directory, addresses.into_iter().flatten()).map_err(Error::part(doing))
    }
}

/// What one request has, and what it leaves behind when its answer is ready.
#[derive(Default)]
struct Course {
    /// As far as it was not read.
    body: Body,
    class: Option<Class>,
    seat: Option<Seat>,
}

/// Answers one request; a panic on the way is a 500 and a line in the log.
async fn handle(State(core): State<Arc<Core>>, request: Request<Body>) -> Answer {
    let began = Instant::now();
    let (mut parts, body) = request.into_parts();
    let id = AuditId::of(&parts.headers);
    parts.extensions.insert(id.clone());
    let mut course = Course { body, ..Course::default() };
    let query = Query::parse(parts.uri.query().unwrap_or(""));
    let info = RequestInfo::parse(&parts.method, parts.uri.path(), &query);
    let span = tracing::debug_span!("request", verb = %info.verb(), path = %info.path, user = tracing::field::Empty);
    core.metrics.began();
    let accept = Accept::encoding_of(&parts.headers, is_pretty(&query, &parts.headers));
    let work = in_time(&core, &parts, &mut course, &info, &query);
    let work = AssertUnwindSafe(work).catch_unwind().instrument(span.clone());
    let answer = match work.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(err)) => response::error(&err, accept),
        Err(panic) => {
            let why = panic_text(&*panic);
            tracing::error!(path = %info.path, verb = %info.verb(), %why, "a handler panicked");
            let err = ApiError::internal("this request caused apiserver to panic. Look in the logs for details");
            response::error(&err, accept)
        }
    };
    let took = began.elapsed();
    tracing::debug!(parent: &span, code = answer.status().as_u16(), ?took, "answered");
    core.metrics.ended(&info, answer.status().as_u16(), took);
    let mut answer = sent(&core, &parts, &info, course, answer).await;
    answer.headers_mut().insert(AUDIT_ID, id.0);
    answer
}

/// The answer as it is sent: with what it is classified as, and with its seat, which it keeps until it has been sent.
async fn sent(core: &Core, parts: &Parts, info: &RequestInfo, course: Course, mut answer: Answer) -> Answer {
    drop_unread(&parts.headers, course.body).await;
    if let Some(class) = course.class {
        answer.headers_mut().insert(FLOW_SCHEMA, class.schema_uid);
        answer.headers_mut().insert(PRIORITY_LEVEL, class.level_uid);
    }
    // What lasts by its nature is ended in other ways.
    if info.is_long_running() {
        return answer;
    }
    core.sending.send(answer, course.seat, parts.extensions.get::<Cut>().cloned())
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}

/// Answers a request before its deadline, which a client may set earlier.
async fn in_time(
    core: &Arc<Core>,
    parts: &Parts,
    course: &mut Course,
    info: &RequestInfo,
    query: &Query,
) -> Result<Answer, ApiError> {
    if info.is_long_running() {
        return pipeline(core, parts, course, info, query, None).await;
    }
    let asked = query.timeout()?.filter(|asked| !asked.is_zero());
    let most = core.config.request_timeout;
    let time = asked.map_or(most, |asked| asked.min(most));
    let late = |_elapsed| ApiError::timeout("Timeout: request did not complete within the allotted timeout", 0);
    let work = pipeline(core, parts, course, info, query, Some(time));
    tokio::time::timeout(time, work).await.map_err(late)?
}

async fn pipeline(
    core: &Arc<Core>,
    parts: &Parts,
    course: &mut Course,
    info: &RequestInfo,
    query: &Query,
    time: Option<Duration>,
) -> Result<Answer, ApiError> {
    if info.is_resource {
        core.filled().await;
    }
    let user = core.authn.authenticate(parts).await?;
    let Some(audit) = &core.audit else {
        let user = user.ok_or_else(ApiError::unauthorized)?;
        return permitted(core, parts, course, info, query, &user, time).await;
    };
    let Some(user) = user else {
        Box::pin(audit.unauthenticated(parts, info)).await;
        return Err(ApiError::unauthorized());
    };
    // Most requests are not recorded: their future has no room for what a record needs.
    Box::pin(audit.follow(parts, info, &user, || permitted(core, parts, course, info, query, &user, time))).await
}

/// Answers a request if its user may make it, when it has been read and there are seats for it.
async fn permitted(
    core: &Arc<Core>,
    parts: &Parts,
    course: &mut Course,
    info: &RequestInfo,
    query: &Query,
    user: &User,
    time: Option<Duration>,
) -> Result<Answer, ApiError> {
    tracing::Span::current().record("user", &user.name);
    let mut attributes = authz::Attributes::new(user, info);
    for (slot, name) in
        [(&mut attributes.field_selector, "fieldSelector"), (&mut attributes.label_selector, "labelSelector")]
    {
        query.get(name).unwrap_or("").clone_into(slot);
    }
    if let Some(wanted) = impersonate::wanted(&parts.headers)? {
        attributes.user = Box::pin(impersonate::permit(&core.authz, &attributes, wanted)).await?;
        audit::impersonated(&attributes.user);
    }
    let user = &attributes.user;
    let claim = core.aggregator.claim(info);
    let cache = cache_of(core, info).filter(|_| claim.is_none());
    course.class = core.flow_control.classify(user, info, query, cache.as_deref());
    let decision = core.authz.decide(&attributes).await;
    audit::decided(&decision);
    if let authz::Decision::Deny(why) | authz::Decision::NoOpinion(why) = &decision {
        return Err(attributes.forbidden(why));
    }
    // The body is read before a seat is taken: who sends slowly holds up nobody.
    let (incoming, _room) = read(core, parts, course, info, user, claim.as_deref()).await?;
    let seat = core.flow_control.seat(course.class.as_ref(), user, info, time).await?;
    let seat = Lock::new(seat);
    let call = Call::new(core, parts, info, query, user, &seat);
    let answer = match claim {
        Some(claim) => Box::pin(proxy::aggregated::answer(&call, &claim, incoming)).await,
        None if info.is_resource => handler::resource(&call, incoming).await,
        None => Box::pin(non_resource(&call)).await,
    };
    course.seat = seat.into_inner().unwrap_or_else(PoisonError::into_inner);
    answer
}

/// The cache of the resource that a request is for.
fn cache_of(core: &Core, info: &RequestInfo) -> Option<Arc<ResourceCache>> {
    if !info.is_resource {
        return None;
    }
    let catalog = core.registry.catalog();
    let row = catalog.resource(&info.group, &info.version, &info.resource)?;
    core.registry.resource(catalog.storage_row(row)).ok()
}

/// Reads the body, if it is for this server, and returns what keeps its part of the allowance.
async fn read(
    core: &Core,
    parts: &Parts,
    course: &mut Course,
    info: &RequestInfo,
    user: &User,
    claim: Option<&Claim>,
) -> Result<(Incoming, Option<crate::request::intake::Payload>), ApiError> {
    if subresources::is_connect(info) {
        return Ok((Incoming::Stream(std::mem::take(&mut course.body)), None));
    }
    if info.is_read() || (!info.is_resource && claim.is_none()) {
        return Ok((Incoming::Read(Bytes::new()), None));
    }
    let payload = core.intake.read(&mut course.body, &user.name).await?;
    audit::received(&parts.headers, &payload.bytes);
    Ok((Incoming::Read(payload.bytes.clone()), Some(payload)))
}

async fn non_resource(call: &Call<'_>) -> Result<Answer, ApiError> {
    let path = call.info.path.as_str();
    // What was authorised is this very path, not one that means the same.
    if path.contains("//") {
        return Ok(response::page_not_found());
    }
    if let Some(answer) = health::answer(call.core, path, call.query).await {
        return Ok(answer);
    }
    if let "/metrics" | "/metrics/slis" = path {
        if !call.info.is_read() {
            return Err(handler::method_not_allowed());
        }
        let kind = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
        let text = if path == "/metrics" { call.core.metrics.encode() } else { call.core.slis.encode() };
        return Ok(response::with_type(StatusCode::OK, kind, text.into()));
    }
    if let Some(answer) = pages::answer(call) {
        return answer;
    }
    if let Some(answer) = flow_control::dumped(&call.core.flow_control, path) {
        return Ok(answer);
    }
    if let Some(answer) = subresources::token_discovery(call.core, path) {
        return Ok(answer);
    }
    if path.starts_with("/openapi/") {
        return Box::pin(openapi::answer(call)).await;
    }
    discovery::answer(call)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_future_of_a_request_is_small() {
        fn size<F>(_handler: impl Fn(State<Arc<Core>>, Request<Body>) -> F) -> usize {
            size_of::<F>()
        }
        let size = size(handle);
        assert!(size <= 10 << 10, "{size} bytes are moved several times for each request");
    }
}
