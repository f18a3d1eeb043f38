//! The network between components and the API server, with seeded trouble: requests and answers get lost or are late,
//! the server is busy, watches are cut, late, silent for a while or told that they begin too long ago.

mod fate;
mod watching;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use apiserver::http::InProcess;
use axum::body::Body;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use kube::client::retry::RetryPolicy;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tower::retry::RetryLayer;
use tower::{BoxError, Layer as _, Service};

use self::fate::Fate;
use crate::dice::Dice;
use crate::history::History;
use crate::plan::{Faults, Plan};

/// After so long a connection that leads nowhere is given up, as `client::connect` does.
const PATIENCE: Duration = Duration::from_secs(45);

/// The network. Clones are the same.
#[derive(Clone)]
pub(crate) struct Network {
    state: Arc<Mutex<State>>,
    /// Counts what breaks all connections.
    breaks: watch::Sender<u64>,
    /// Set when nothing goes wrong any more.
    is_calm: watch::Sender<bool>,
    history: History,
    retries: bool,
}

struct State {
    server: Option<InProcess>,
    dice: Dice,
    faults: Faults,
    /// Until when somebody reaches nothing.
    apart: BTreeMap<String, Instant>,
}

/// What clients see of a connection that fails.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("connection refused")]
    Refused,
    #[error("connection reset by peer")]
    Reset,
    #[error("connection timed out")]
    TimedOut,
}

impl Network {
    /// A network without a server yet.
    pub(crate) fn new(plan: &Plan, history: History) -> Self {
        let dice = Dice::new(plan.seed, "network");
        let state = State { server: None, dice, faults: plan.faults.clone(), apart: BTreeMap::new() };
        Self {
            state: Arc::new(Mutex::new(state)),
            breaks: watch::Sender::new(0),
            is_calm: watch::Sender::new(false),
            history,
            retries: plan.retries,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this server answers, or nobody. Whatever goes on with the one before is cut off.
    pub(crate) fn lead_to(&self, server: Option<InProcess>) {
        self.state().server = server;
        self.breaks.send_modify(|count| *count += 1);
    }

    /// Nothing goes wrong any more, and what is on its way arrives.
    pub(crate) fn calm(&self) {
        let mut state = self.state();
        (state.faults, state.apart) = (Faults::default(), BTreeMap::new());
        drop(state);
        self.is_calm.send_replace(true);
    }

    /// Waits for so long, or until nothing goes wrong any more.
    async fn pause_until(&self, at: Instant) {
        let mut is_calm = self.is_calm.subscribe();
        tokio::select! {
            biased;
            () = sleep_until(at) => {}
            // The sender lives in `self`.
            _is_calm = is_calm.wait_for(|is_calm| *is_calm) => {}
        }
    }

    /// Keeps somebody away for so long.
    pub(crate) fn part(&self, who: &str, lasts: Duration) {
        self.history.note(|| format!("{who} reaches nothing for {lasts:?}"));
        self.state().apart.insert(who.to_owned(), Instant::now() + lasts);
    }

    fn apart_until(&self, who: &str) -> Option<Instant> {
        self.state().apart.get(who).copied().filter(|until| Instant::now() < *until)
    }

    /// A client of the API server, with all rights.
    pub(crate) fn client(&self, who: &str) -> kube::Client {
        let wire = Wire { network: self.clone(), who: who.into() };
        if self.retries {
            return kube::Client::new(RetryLayer::new(RetryPolicy::server_retry()).layer(wire), "default");
        }
        kube::Client::new(wire, "default")
    }

    /// Brings a request to the server and the answer back, or not.
    async fn carry(self, who: Arc<str>, request: Request<kube::client::Body>) -> Result<Response<Body>, BoxError> {
        let mut breaks = self.breaks.subscribe();
        let (network, asker) = (self.clone(), who.clone());
        let exchange = async move { network.exchange(&asker, request).await };
        tokio::select! {
            biased;
            answer = exchange => answer,
            _broken = breaks.changed() => Err(Broken::Reset.into()),
        }
    }

    async fn exchange(&self, who: &Arc<str>, request: Request<kube::client::Body>) -> Result<Response<Body>, BoxError> {
        if let Some(until) = self.apart_until(who) {
            self.pause_until(until.min(Instant::now() + PATIENCE)).await;
            return Err(Broken::TimedOut.into());
        }
        let fate = self.fate(&request);
        if fate.is_notable() {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            self.history.note(|| format!("{who}: {method} {path}: {}", fate.what()));
        }
        sleep(fate.before).await;
        if let Some(refused) = fate.answered_at_once() {
            return refused;
        }
        let server = self.state().server.clone();
        let Some(mut server) = server else {
            sleep(Duration::from_millis(50)).await;
            return Err(Broken::Refused.into());
        };
        let is_watch = fate::is_watch(&request);
        let Ok(answer) = server.call(request.map(Body::new)).await;
        sleep(fate.after).await;
        if fate.loses_answer() {
            return Err(Broken::Reset.into());
        }
        Ok(if is_watch { answer.map(|body| watching::troubled(body, self.clone(), who.clone())) } else { answer })
    }

    fn fate(&self, request: &Request<kube::client::Body>) -> Fate {
        let State { dice, faults, .. } = &mut *self.state();
        Fate::of(request, faults, dice)
    }
}

/// Somebody's way to the server.
#[derive(Clone)]
struct Wire {
    network: Network,
    who: Arc<str>,
}

impl Service<Request<kube::client::Body>> for Wire {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        self.network.clone().carry(self.who.clone(), request).boxed()
    }
}
