//! The OpenAPI v2 documents of other servers, for the one document of everything: asked for when somebody wants that,
//! not more often than once in a while, and kept compressed. Upstream: `controllers/openapi`, which asks once a minute.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use api::openapi::v2::Foreign;
use bytes::{Buf as _, Bytes};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::header::HeaderValue;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::backend::Backend;
use super::look::{Version, document_of_everything};

/// A server is asked once in this time at most.
const EVERY: Duration = Duration::from_secs(10);
/// Whoever wants the document waits no longer for one server.
const PATIENCE: Duration = Duration::from_secs(3);

/// What belongs to one version of another server's document.
#[derive(Debug)]
pub(crate) struct Part {
    group: String,
    version: String,
    /// Of what it says.
    pub(crate) hash: [u8; 32],
    zipped: Bytes,
}

impl Part {
    fn new(version: &Version, foreign: &Foreign) -> io::Result<Self> {
        let text = foreign.to_value().to_string();
        let mut zip = GzEncoder::new(Vec::new(), Compression::default());
        zip.write_all(text.as_bytes())?;
        let (group, name) = (version.group.clone(), version.version.clone());
        Ok(Self { group, version: name, hash: Sha256::digest(&text).into(), zipped: zip.finish()?.into() })
    }

    /// What was kept.
    pub(crate) fn read(&self) -> Option<Foreign> {
        let mut text = Vec::new();
        GzDecoder::new(self.zipped.clone().reader()).read_to_end(&mut text).ok()?;
        Foreign::read(serde_json::from_slice(&text).ok()?, &self.group, &self.version)
    }
}

/// What is remembered of one server.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    asked: Option<Instant>,
    etag: Option<HeaderValue>,
    part: Option<Arc<Part>>,
}

impl Memory {
    /// The part of the document that is about a version; the one of before when the server does not answer now.
    pub(super) async fn part(&self, backend: &Backend, version: &Version) -> Option<Arc<Part>> {
        let mut state = self.0.lock().await;
        if state.asked.is_none_or(|asked| asked.elapsed() >= EVERY) {
            state.asked = Some(Instant::now());
            match tokio::time::timeout(PATIENCE, state.ask(backend, version)).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => tracing::debug!(group = version.group, %why, "no OpenAPI v2 document"),
                Err(_late) => tracing::debug!(group = version.group, "no OpenAPI v2 document in time"),
            }
        }
        state.part.clone()
    }
}

impl State {
    async fn ask(&mut self, backend: &Backend, version: &Version) -> Result<(), String> {
        let known = self.etag.clone().filter(|_| self.part.is_some());
        let Some((etag, body)) = document_of_everything(backend, known).await? else { return Ok(()) };
        let of = version.clone();
        let read = move || {
            let document: Value = serde_json::from_slice(&body).map_err(|err| err.to_string())?;
            let foreign = Foreign::read(document, &of.group, &of.version);
            foreign.map(|foreign| Part::new(&of, &foreign)).transpose().map_err(|err| err.to_string())
        };
        let part = tokio::task::spawn_blocking(read).await.map_err(|err| err.to_string())??;
        (self.etag, self.part) = (etag, part.map(Arc::new));
        Ok(())
    }
}
