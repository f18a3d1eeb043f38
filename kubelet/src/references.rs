//! The ConfigMaps and Secrets that pods refer to. Each is watched by name while a pod holds it, and only then: a node
//! may read what its pods use and nothing else, so there is no informer over all of them (upstream: the watching
//! manager of pkg/kubelet/util/manager).
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::watcher;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;

/// First and longest pause after a failed watch. The first is short: the authorizer may learn of the pod a moment later.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How long a container start waits for a referenced object to be read.
const WAIT: Duration = Duration::from_secs(10);

/// A referenced object as last seen.
#[derive(Clone, Debug)]
enum State<K> {
    Unknown,
    Failed(String),
    Absent,
    Present(Arc<K>),
}

/// Why a referenced object is not to be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Missing {
    /// The API says that there is none.
    #[error("{resource} \"{name}\" not found")]
    NotFound {
        /// Plural name of its kind.
        resource: &'static str,
        /// Its name.
        name: String,
    },
    /// The API does not answer, or refuses.
    #[error("failed to fetch {resource} \"{namespace}/{name}\": {reason}")]
    Unreadable {
        /// Plural name of its kind.
        resource: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What the API said.
        reason: String,
    },
}

struct Entry<K> {
    state: watch::Receiver<State<K>>,
    listeners: Mutex<Vec<Weak<Notify>>>,
    _watch: AbortOnDropHandle<()>,
}

type Entries<K> = Mutex<HashMap<(String, String), Weak<Entry<K>>>>;

/// All referenced objects of this node.
pub(crate) struct Objects {
    client: kube::Client,
    config_maps: Entries<ConfigMap>,
    secrets: Entries<Secret>,
}

impl Objects {
    /// Nothing is watched yet.
    pub(crate) fn new(client: kube::Client) -> Self {
        Self { client, config_maps: Mutex::default(), secrets: Mutex::default() }
    }

    /// One pod's view, which wakes `wake` when something it refers to changes.
    pub(crate) fn view(self: &Arc<Self>, namespace: &str, wake: Arc<Notify>) -> References {
        References {
            objects: Arc::clone(self),
            namespace: namespace.to_owned(),
            wake,
            config_maps: Mutex::default(),
            secrets: Mutex::default(),
        }
    }
}

/// The objects that one pod refers to; they are watched until it is dropped.
pub(crate) struct References {
    objects: Arc<Objects>,
    namespace: String,
    wake: Arc<Notify>,
    config_maps: Mutex<HashMap<String, Arc<Entry<ConfigMap>>>>,
    secrets: Mutex<HashMap<String, Arc<Entry<Secret>>>>,
}

impl References {
    /// A ConfigMap of the pod's namespace.
    pub(crate) async fn config_map(&self, name: &str) -> Result<Arc<ConfigMap>, Missing> {
        self.get("configmaps", name, &self.config_maps, &self.objects.config_maps).await
    }

    /// A Secret of the pod's namespace.
    pub(crate) async fn secret(&self, name: &str) -> Result<Arc<Secret>, Missing> {
        self.get("secrets", name, &self.secrets, &self.objects.secrets).await
    }

    async fn get<K>(
        &self,
        resource: &'static str,
        name: &str,
        held: &Mutex<HashMap<String, Arc<Entry<K>>>>,
        all: &Entries<K>,
    ) -> Result<Arc<K>, Missing>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + DeserializeOwned
            + Clone
            + Debug
            + Send
            + Sync
            + 'static,
    {
        let entry = Arc::clone(lock(held).entry(name.to_owned()).or_insert_with(|| self.subscribe(name, all)));
        let mut state = entry.state.clone();
        let known =
            tokio::time::timeout(WAIT, state.wait_for(|state| !matches!(state, State::Unknown | State::Failed(_))));
        let unreadable = |reason: String| Missing::Unreadable {
            resource,
            namespace: self.namespace.clone(),
            name: name.to_owned(),
            reason,
        };
        let state = match known.await {
            Ok(Ok(state)) => state.clone(),
            _ => entry.state.borrow().clone(),
        };
        match state {
            State::Present(object) => Ok(object),
            State::Absent => Err(Missing::NotFound { resource, name: name.to_owned() }),
            State::Failed(reason) => Err(unreadable(reason)),
            State::Unknown => Err(unreadable("timed out waiting for the API server".to_owned())),
        }
    }

    fn subscribe<K>(&self, name: &str, all: &Entries<K>) -> Arc<Entry<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + DeserializeOwned
            + Clone
            + Debug
            + Send
            + Sync
            + 'static,
    {
        let mut all = lock(all);
        all.retain(|_, entry| entry.strong_count() > 0);
        let key = (self.namespace.clone(), name.to_owned());
        let entry = all.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
            let api: Api<K> = Api::namespaced(self.objects.client.clone(), &self.namespace);
            let entry = Entry::start(api, name.to_owned());
            all.insert(key, Arc::downgrade(&entry));
            entry
        });
        lock(&entry.listeners).push(Arc::downgrade(&self.wake));
        entry
    }
}

impl<K> Entry<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + Sync
        + 'static,
{
    fn start(api: Api<K>, name: String) -> Arc<Self> {
        let (sender, state) = watch::channel(State::Unknown);
        Arc::new_cyclic(|entry: &Weak<Self>| {
            let entry = Weak::clone(entry);
            let task = follow(api, name, sender, move || {
                if let Some(entry) = entry.upgrade() {
                    entry.wake();
                }
            });
            Self { state, listeners: Mutex::default(), _watch: AbortOnDropHandle::new(tokio::spawn(task)) }
        })
    }
}

impl<K> Entry<K> {
    fn wake(&self) {
        let mut listeners = lock(&self.listeners);
        listeners.retain(|listener| listener.upgrade().inspect(|wake| wake.notify_one()).is_some());
    }
}

async fn follow<K>(api: Api<K>, name: String, state: watch::Sender<State<K>>, changed: impl Fn())
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static,
{
    let mut pause = RETRY.0;
    let mut versions = watcher::watch_object(api, &name).boxed();
    while let Some(version) = versions.next().await {
        match version {
            Ok(object) => {
                pause = RETRY.0;
                state.send_replace(object.map_or(State::Absent, |object| State::Present(Arc::new(object))));
                changed();
            }
            Err(err) => {
                // What was read before the connection was lost stays valid.
                state.send_if_modified(|state| {
                    let never_read = matches!(state, State::Unknown | State::Failed(_));
                    if never_read {
                        *state = State::Failed(err.to_string());
                    }
                    never_read
                });
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY.1);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
