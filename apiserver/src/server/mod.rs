//! The server as a whole: how it is put together, how it lives, where it listens, and the course of a request.
//! Upstream: `server.GenericAPIServer`.

mod assemble;
mod listen;
mod pipeline;
mod run;

use std::sync::Arc;

use axum::Router;
use bytes::Bytes;
use daemon::Process;
use store::Store;
use tokio::sync::Mutex;

use crate::config::Config;
use crate::core::{Core, Stage};
#[cfg(test)]
use crate::documents::Documents;
use crate::error::Error;
use crate::http::InProcess;
use crate::registry::Registry;
use crate::watch_cache::Feed;

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
        let (core, feed) = assemble::assemble(config, store, &process)?;
        Ok(Self { core: Arc::new(core), process, feed: Arc::new(Mutex::new(Some(feed))) })
    }

    /// The router: all stages after the network edge. Requests wait until the cache is filled.
    pub fn router(&self) -> Router {
        Router::new().fallback(pipeline::handle).with_state(self.core.clone())
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
}
