//! Plugins that register themselves by a socket in `<root>/plugins_registry` (upstream: pkg/kubelet/pluginmanager).
//!
//! ```text
//!  socket appears --GetInfo--> known kind: its handler --ok--> NotifyRegistrationStatus(true)
//!                                    \--error------------> NotifyRegistrationStatus(false, why), again after a while
//!  socket is gone, or another one has its name: the handler forgets the plugin
//! ```
//! The directory says what there is: every change of it is answered by looking at all of it. A kubelet that starts finds
//! the sockets of plugins that run already.
mod messages;
mod sockets;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::RecursiveMode;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::changes::Changes;
use crate::csi::{Csi, Registered};
use crate::files::blocking;
use crate::rpc::Conversation;
use messages::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use sockets::Identity;

/// The directory of sockets below the kubelet's own.
pub(crate) const DIRECTORY: &str = "plugins_registry";
/// The storage drivers, which [`Csi`] handles.
const CSI: &str = "CSIPlugin";
/// How long a plugin may take to say who it is, or to hear how it went.
const PATIENCE: Duration = Duration::from_secs(10);
/// First and longest pause after a registration that failed, as upstream's.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(122));
/// Attempts to tell the API that a plugin is gone.
const FAREWELLS: u32 = 8;

/// Why plugins cannot register.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The directory is not as it must be.
    #[error("prepare the directory of plugins")]
    Directory(#[source] std::io::Error),
    /// It cannot be watched.
    #[error("watch {path}")]
    Watch {
        /// The directory.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: notify::Error,
    },
}

/// Registers plugins.
pub(crate) struct Registrar {
    directory: PathBuf,
    csi: Arc<Csi>,
    known: BTreeMap<PathBuf, Known>,
    tasks: JoinSet<Option<Done>>,
}

/// A socket that is being registered, or is.
struct Known {
    identity: Identity,
    task: AbortHandle,
    registered: Option<Registered>,
}

/// A registration that succeeded.
struct Done {
    socket: PathBuf,
    identity: Identity,
    registered: Registered,
}

impl Registrar {
    /// Nothing is looked at before [`Registrar::run`].
    pub(crate) fn new(root: &Path, csi: Arc<Csi>) -> Self {
        Self { directory: root.join(DIRECTORY), csi, known: BTreeMap::new(), tasks: JoinSet::new() }
    }

    /// Runs until `shutdown`, once the node is registered.
    pub(crate) async fn run(
        mut self,
        mut node_is_known: watch::Receiver<bool>,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            Ok(_) = node_is_known.wait_for(|known| *known) => {}
        }
        self.tasks.spawn(introduce(Arc::clone(&self.csi)));
        let directory = self.directory.clone();
        blocking(move || sockets::prepare(&directory)).await.map_err(Error::Directory)?;
        let failed = |source| Error::Watch { path: self.directory.clone(), source };
        let mut changes = Changes::of(&self.directory, RecursiveMode::Recursive).map_err(failed)?;
        self.look().await;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                Some(done) = self.tasks.join_next() => if let Ok(Some(done)) = done {
                    self.keep(done);
                },
                () = changes.next() => self.look().await,
            }
        }
    }

    /// Compares what is there with what is known.
    async fn look(&mut self) {
        let directory = self.directory.clone();
        let found = blocking(move || Ok(sockets::find(&directory))).await.unwrap_or_default();
        let stale = self.known.extract_if(.., |socket, known| found.get(socket) != Some(&known.identity));
        for (_, known) in stale.collect::<Vec<_>>() {
            self.forget(known);
        }
        for (socket, identity) in found {
            if !self.known.contains_key(&socket) {
                let task = self.tasks.spawn(register(Arc::clone(&self.csi), socket.clone(), identity));
                self.known.insert(socket, Known { identity, task, registered: None });
            }
        }
    }

    /// A registration has succeeded; the socket may have gone meanwhile.
    fn keep(&mut self, done: Done) {
        let known = self.known.get_mut(&done.socket).filter(|known| known.identity == done.identity);
        match known {
            Some(known) => known.registered = Some(done.registered),
            None => self.say_farewell(done.registered),
        }
    }

    fn forget(&mut self, known: Known) {
        known.task.abort();
        if let Some(registered) = known.registered {
            self.say_farewell(registered);
        }
    }

    fn say_farewell(&mut self, registered: Registered) {
        let csi = Arc::clone(&self.csi);
        csi.remove(&registered);
        self.tasks.spawn(async move {
            let mut pause = RETRY.0;
            for _ in 0..FAREWELLS {
                match csi.withdraw(&registered).await {
                    Ok(()) => break,
                    Err(err) => {
                        let (driver, error) = (&registered.driver, &err as &dyn std::error::Error);
                        warn!(driver, error, "cannot say that a storage driver is gone");
                    }
                }
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            None
        });
    }
}

/// Shows the node to those who look for drivers on it, though it has none yet.
async fn introduce(csi: Arc<Csi>) -> Option<Done> {
    let mut pause = RETRY.0;
    while let Err(err) = csi.introduce().await {
        warn!(error = &err as &dyn std::error::Error, "cannot make the node's CSINode");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
    }
    None
}

/// Registers the plugin behind a socket, however often it takes.
async fn register(csi: Arc<Csi>, socket: PathBuf, identity: Identity) -> Option<Done> {
    let mut pause = RETRY.0;
    loop {
        match attempt(&csi, &socket).await {
            Ok(registered) => {
                info!(driver = registered.driver, "registered a storage driver");
                return Some(Done { socket, identity, registered });
            }
            Err(why) => warn!(socket = %socket.display(), why, "cannot register a plugin"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
    }
}

/// Asks the plugin who it is, registers it, and tells it how that went. The error is for the log.
async fn attempt(csi: &Csi, socket: &Path) -> Result<Registered, String> {
    let plugin = Conversation::with(socket);
    let info: PluginInfo = plugin
        .call("/pluginregistration.Registration/GetInfo", InfoRequest {}, PATIENCE)
        .await
        .map_err(|err| format!("failed to get plugin info using RPC GetInfo at socket {}: {err}", socket.display()))?;
    let outcome = accept(csi, socket, &info).await;
    let status = RegistrationStatus {
        registered: outcome.is_ok(),
        error: outcome
            .as_ref()
            .err()
            .map(|why| format!("plugin registration failed with err: {why}"))
            .unwrap_or_default(),
    };
    let told = plugin
        .call::<_, RegistrationStatusResponse>(
            "/pluginregistration.Registration/NotifyRegistrationStatus",
            status,
            PATIENCE,
        )
        .await;
    match (outcome, told) {
        (Ok(registered), Err(err)) => {
            // A plugin that does not know that it is registered tries again.
            csi.remove(&registered);
            Err(format!("failed to send registration status at socket {}: {err}", socket.display()))
        }
        (outcome, _) => outcome,
    }
}

async fn accept(csi: &Csi, socket: &Path, info: &PluginInfo) -> Result<Registered, String> {
    if info.kind != CSI {
        let kind: String = info.kind.chars().take(64).collect();
        return Err(format!("no handler registered for plugin type: {kind} at socket {}", socket.display()));
    }
    let endpoint = if info.endpoint.is_empty() { socket.to_owned() } else { PathBuf::from(&info.endpoint) };
    csi.register(&info.name, endpoint, &info.versions).await.map_err(|err| crate::failure::chain(&err))
}
