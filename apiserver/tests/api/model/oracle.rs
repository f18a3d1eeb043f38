//! What the store held at every revision, and so what a client must have been told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use serde_json::Value;
use store::{Range, Revision, Store, WatchEvent};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const ROOT: &str = "/registry/";
const PODS: &str = "/registry/pods/";

/// Objects by their key in the store.
pub(super) type Objects = BTreeMap<String, Arc<Value>>;

/// What a replica selects, told naively.
#[derive(Clone, Copy, Debug)]
pub(super) enum Selects {
    Everything,
    Namespace,
    Label,
    NotLabel,
    Node,
    NotNode,
    Phase,
    Name,
    LabelInNamespace,
    Crowded,
}

impl Selects {
    /// The first four see the most.
    pub(super) const ALL: [Self; 10] = [
        Self::Everything,
        Self::Crowded,
        Self::NotNode,
        Self::Label,
        Self::Node,
        Self::Phase,
        Self::Namespace,
        Self::NotLabel,
        Self::Name,
        Self::LabelInNamespace,
    ];

    /// The path and query of the collection.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Everything | Self::Crowded => "/api/v1/pods?",
            Self::Namespace => "/api/v1/namespaces/a/pods?",
            Self::Label => "/api/v1/pods?labelSelector=on%3Dyes&",
            Self::NotLabel => "/api/v1/pods?labelSelector=%21on&",
            Self::Node => "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1&",
            Self::NotNode => "/api/v1/pods?fieldSelector=spec.nodeName%21%3Dn1&",
            Self::Phase => "/api/v1/pods?fieldSelector=status.phase%3DRunning&",
            Self::Name => "/api/v1/namespaces/b/pods?fieldSelector=metadata.name%3Dp1&",
            Self::LabelInNamespace => "/api/v1/namespaces/b/pods?labelSelector=on+in+%28yes%2Cno%29&",
        }
    }

    fn matches(self, pod: &Value) -> bool {
        let label = pod["metadata"]["labels"]["on"].as_str();
        let namespace = pod["metadata"]["namespace"].as_str();
        match self {
            Self::Everything | Self::Crowded => true,
            Self::Namespace => namespace == Some("a"),
            Self::Label => label == Some("yes"),
            Self::NotLabel => label.is_none(),
            Self::Node => pod["spec"]["nodeName"] == "n1",
            Self::NotNode => pod["spec"]["nodeName"] != "n1",
            Self::Phase => pod["status"]["phase"] == "Running",
            Self::Name => namespace == Some("b") && pod["metadata"]["name"] == "p1",
            Self::LabelInNamespace => namespace == Some("b") && matches!(label, Some("yes" | "no")),
        }
    }
}

/// One change of a pod.
#[derive(Debug)]
struct Change {
    revision: Revision,
    key: String,
    before: Option<Arc<Value>>,
    after: Option<Arc<Value>>,
}

/// What a watch must say next.
#[derive(Debug, PartialEq)]
pub(super) struct Told {
    pub(super) kind: &'static str,
    pub(super) key: String,
    pub(super) revision: Revision,
    pub(super) object: Value,
}

/// The history of the store since the run began.
pub(super) struct Oracle {
    base: Objects,
    changes: Mutex<Vec<Change>>,
    reached: watch::Sender<Revision>,
    follower: Mutex<Option<JoinHandle<()>>>,
}

impl Oracle {
    /// Reads the store and follows it from there.
    pub(super) async fn follow(store: Arc<dyn Store>) -> Arc<Self> {
        let page = store.list(Range { prefix: PODS.into(), ..Range::default() }).await.unwrap();
        let base: Objects = page
            .entries
            .iter()
            .map(|entry| (entry.key.to_string(), served(&entry.value, entry.mod_revision)))
            .collect();
        // Every revision is a change of some key, so a watch of all keys tells how far it has come.
        let mut events = store.watch(ROOT, Some(page.revision)).await.unwrap();
        let mut now = base.clone();
        let oracle = Arc::new(Self {
            base,
            changes: Mutex::default(),
            reached: watch::Sender::new(page.revision),
            follower: Mutex::default(),
        });
        let following = Arc::downgrade(&oracle);
        let follower = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                let event = event.unwrap();
                let Some(oracle) = following.upgrade() else { return };
                oracle.take_in(&mut now, event);
            }
        });
        *oracle.follower.lock().unwrap() = Some(follower);
        oracle
    }

    fn take_in(&self, now: &mut Objects, event: WatchEvent) {
        let revision = event.revision();
        if let Some(key) = event.key().filter(|key| key.starts_with(PODS)) {
            let key = key.to_string();
            let (before, after) = match event {
                WatchEvent::Put { entry, .. } => {
                    let after = served(&entry.value, revision);
                    (now.insert(key.clone(), after.clone()), Some(after))
                }
                _ => (now.remove(&key), None),
            };
            self.changes.lock().unwrap().push(Change { revision, key, before, after });
        }
        self.reached.send_replace(revision);
    }

    /// Waits until everything up to `revision` is known.
    pub(super) async fn reach(&self, revision: Revision) {
        self.reached.subscribe().wait_for(|reached| *reached >= revision).await.unwrap();
    }

    /// What `selects` selects at a revision.
    pub(super) fn at(&self, revision: Revision, selects: Selects) -> Objects {
        let mut objects = self.base.clone();
        for change in self.changes.lock().unwrap().iter().take_while(|change| change.revision <= revision) {
            match &change.after {
                Some(after) => objects.insert(change.key.clone(), after.clone()),
                None => objects.remove(&change.key),
            };
        }
        objects.retain(|_, pod| selects.matches(pod));
        objects
    }

    /// The first thing that a watch of `selects` must say of what comes after a revision, as far as is known.
    pub(super) fn next(&self, after: Revision, selects: Selects) -> Option<Told> {
        let changes = self.changes.lock().unwrap();
        let from = changes.partition_point(|change| change.revision <= after);
        changes[from..].iter().find_map(|change| change.told(selects))
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        if let Some(follower) = self.follower.lock().unwrap().take() {
            follower.abort();
        }
    }
}

impl Change {
    fn told(&self, selects: Selects) -> Option<Told> {
        let before = self.before.as_ref().filter(|pod| selects.matches(pod));
        let after = self.after.as_ref().filter(|pod| selects.matches(pod));
        let (kind, object) = match (before, after) {
            (None, None) => return None,
            (None, Some(after)) => ("ADDED", (**after).clone()),
            (Some(_), Some(after)) => ("MODIFIED", (**after).clone()),
            (Some(before), None) => ("DELETED", versioned((**before).clone(), self.revision)),
        };
        Some(Told { kind, key: self.key.clone(), revision: self.revision, object })
    }
}

/// A stored value as clients see it.
fn served(value: &[u8], revision: Revision) -> Arc<Value> {
    Arc::new(versioned(serde_json::from_slice(value).unwrap(), revision))
}

fn versioned(mut object: Value, revision: Revision) -> Value {
    object["metadata"]["resourceVersion"] = revision.to_string().into();
    object
}

/// The key of a served pod.
pub(super) fn key(pod: &Value) -> String {
    let text =
        |name: &str| pod["metadata"][name].as_str().unwrap_or_else(|| panic!("a pod without {name}: {pod}")).to_owned();
    format!("{PODS}{}/{}", text("namespace"), text("name"))
}
