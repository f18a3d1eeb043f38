//! Events: what `kubectl describe` shows at the bottom.
//!
//! Recording never waits and never fails: events are a help for people, and a component must not stop because nobody
//! takes them. One task per process sends them; repeated ones raise a count instead of making new objects.

mod correlate;
mod pace;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::correlate::{Correlator, Decision, Seen};
use self::pace::Pace;
use crate::{clock, write};

/// So many events wait before new ones are dropped (client-go: 1000, of which each may be on its way for itself).
const WAITING: usize = 4000;
/// A send that fails for want of a server is tried this often, this far apart (client-go: 12 times, 10 s).
const ATTEMPTS: u32 = 12;
const PAUSE: Duration = Duration::from_secs(10);
/// What is still waiting at shutdown gets this long.
const DRAIN: Duration = Duration::from_secs(2);

/// Records events about objects in the name of one component. Clones share the queue.
#[derive(Clone)]
pub struct Recorder {
    client: kube::Client,
    source: EventSource,
    queue: mpsc::Sender<Occurrence>,
    inbox: Arc<Mutex<Option<mpsc::Receiver<Occurrence>>>>,
}

/// Something that happened to an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Occurrence {
    pub(crate) source: EventSource,
    pub(crate) about: ObjectReference,
    pub(crate) kind: &'static str,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) at: jiff::Timestamp,
}

/// A reference to `object` for the recorder.
pub fn about<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    ObjectReference { resource_version: object.meta().resource_version.clone(), ..object.object_ref(&()) }
}

impl Recorder {
    /// A recorder for `component`, such as `deployment-controller`. Nothing is sent before [`Recorder::run`].
    pub fn new(client: kube::Client, component: &str) -> Self {
        let (queue, inbox) = mpsc::channel(WAITING);
        let source = EventSource { component: Some(component.to_owned()), host: None };
        Self { client, source, queue, inbox: Arc::new(Mutex::new(Some(inbox))) }
    }

    /// The same recorder in the name of another component of this process.
    pub fn for_component(&self, component: &str) -> Self {
        let source = EventSource { component: Some(component.to_owned()), ..self.source.clone() };
        Self { source, ..self.clone() }
    }

    /// Names the node the component runs on, as the kubelet does.
    pub fn on_host(mut self, host: &str) -> Self {
        self.source.host = Some(host.to_owned());
        self
    }

    /// Records that something went as it should.
    pub fn normal(&self, about: ObjectReference, reason: &str, message: impl Into<String>) {
        self.record(about, "Normal", reason, message.into());
    }

    /// Records that something went wrong.
    pub fn warning(&self, about: ObjectReference, reason: &str, message: impl Into<String>) {
        self.record(about, "Warning", reason, message.into());
    }

    fn record(&self, about: ObjectReference, kind: &'static str, reason: &str, message: String) {
        let source = self.source.clone();
        let occurrence = Occurrence { source, about, kind, reason: reason.to_owned(), message, at: clock::now() };
        if let Err(err) = self.queue.try_send(occurrence) {
            debug!(reason, error = &err as &dyn std::error::Error, "event dropped");
        }
    }

    /// Sends what is recorded, until `shutdown`; then gives what is left a moment. Run it once: later calls only wait.
    pub async fn run(&self, shutdown: CancellationToken) {
        let inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut inbox) = inbox else { return shutdown.cancelled().await };
        let (mut correlator, mut pace) = (Correlator::default(), Pace::new());
        let drained = async {
            shutdown.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        let mut drained = std::pin::pin!(drained);
        loop {
            let next = tokio::select! {
                biased;
                next = inbox.recv() => next,
                () = shutdown.cancelled() => None,
            };
            let Some(occurrence) = next else { return };
            tokio::select! {
                biased;
                () = self.send(&mut correlator, &mut pace, occurrence) => {}
                () = &mut drained => return,
            }
        }
    }

    async fn send(&self, correlator: &mut Correlator, pace: &mut Pace, occurrence: Occurrence) {
        let decision = correlator.decide(&occurrence);
        if decision != Decision::Drop {
            pace.turn().await;
        }
        for _ in 0..ATTEMPTS {
            let outcome = match &decision {
                Decision::Drop => return,
                Decision::Create { message } => self.create(&occurrence, message, 1).await,
                Decision::Raise(seen) => self.raise(&occurrence, seen).await,
            };
            match outcome {
                Ok(name) => return correlator.sent(&occurrence, &decision, name),
                // The server answered: it will not change its mind.
                Err(err @ kube::Error::Api(_)) => {
                    let is_expected = write::is_namespace_terminating(&err) || write::is_not_found(&err);
                    if !is_expected {
                        warn!(reason = occurrence.reason, error = &err as &dyn std::error::Error, "event refused");
                    }
                    return;
                }
                Err(err) => debug!(error = &err as &dyn std::error::Error, "event not sent, trying again"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn create(&self, occurrence: &Occurrence, message: &str, count: i32) -> kube::Result<String> {
        let event = new_event(occurrence, message, count);
        let created = self.api(occurrence).create(&PostParams::default(), &event).await?;
        Ok(created.metadata.name.unwrap_or_default())
    }

    /// An event that expired meanwhile is made anew, with the count it had.
    async fn raise(&self, occurrence: &Occurrence, seen: &Seen) -> kube::Result<String> {
        let change = json!({ "count": seen.count, "lastTimestamp": Time(occurrence.at), "message": seen.message });
        let patched = self.api(occurrence).patch(&seen.name, &PatchParams::default(), &Patch::Merge(change)).await;
        match patched {
            Ok(_) => Ok(seen.name.clone()),
            Err(err) if write::is_not_found(&err) => self.create(occurrence, &seen.message, seen.count).await,
            Err(err) => Err(err),
        }
    }

    fn api(&self, occurrence: &Occurrence) -> Api<Event> {
        Api::namespaced(self.client.clone(), namespace_of(&occurrence.about))
    }
}

/// Events about cluster-scoped objects live in `default`.
fn namespace_of(about: &ObjectReference) -> &str {
    about.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or("default")
}

fn new_event(occurrence: &Occurrence, message: &str, count: i32) -> Event {
    let (at, source) = (Time(occurrence.at), &occurrence.source);
    let name = occurrence.about.name.as_deref().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:x}", occurrence.at.as_nanosecond())),
            namespace: Some(namespace_of(&occurrence.about).to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: occurrence.about.clone(),
        type_: Some(occurrence.kind.to_owned()),
        reason: Some(occurrence.reason.clone()),
        message: Some(message.to_owned()),
        source: Some(source.clone()),
        reporting_component: source.component.clone(),
        reporting_instance: source.host.clone(),
        first_timestamp: Some(at.clone()),
        last_timestamp: Some(at),
        count: Some(count),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests;
