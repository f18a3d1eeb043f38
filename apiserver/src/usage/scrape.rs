//! One question to a kubelet: `GET /metrics/resource`, with bounds on time, connections and length.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::sample::{Reader, Refused, Sample};
use crate::outbound::dial::DialError;
use crate::outbound::kubelets::{Backend, Kubelets};

/// So many kubelets are asked at once.
const AT_ONCE: usize = 64;
/// A kubelet answers by then, or is left out.
const PATIENCE: Duration = Duration::from_secs(3);
/// More of an answer is not read.
const BYTES: usize = 16 << 20;

/// Why a kubelet told nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("http")]
    Http(#[from] hyper::Error),
    #[error("its address makes no request")]
    Request(#[from] http::Error),
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("more than {BYTES} bytes")]
    Long,
    #[error("no answer in {PATIENCE:?}")]
    Timeout,
    #[error("this server ends")]
    Shutdown,
}

/// Asks kubelets.
pub(super) struct Scraper {
    kubelets: Arc<Kubelets>,
    connections: TaskTracker,
    shutdown: CancellationToken,
    seats: Semaphore,
}

impl Scraper {
    pub(super) fn new(kubelets: Arc<Kubelets>, connections: TaskTracker, shutdown: CancellationToken) -> Self {
        Self { kubelets, connections, shutdown, seats: Semaphore::new(AT_ONCE) }
    }

    /// Asks one kubelet. The connection is closed when it has answered.
    pub(super) async fn scrape(&self, backend: &Backend) -> Result<Sample, Error> {
        let _seat = self.seats.acquire().await.map_err(|_| Error::Shutdown)?;
        timeout(PATIENCE, self.ask(backend)).await.unwrap_or(Err(Error::Timeout))
    }

    async fn ask(&self, backend: &Backend) -> Result<Sample, Error> {
        let mut sender = self.kubelets.connect(backend, &self.connections, &self.shutdown).await?;
        let request = Request::get("/metrics/resource").header(HOST, backend.to_string()).body(Body::empty())?;
        let answer = sender.send_request(request).await?;
        match answer.status() {
            StatusCode::OK => read(answer.into_body()).await,
            other => Err(Error::Status(other)),
        }
    }
}

async fn read(mut body: Incoming) -> Result<Sample, Error> {
    let (mut reader, mut left) = (Reader::new(Timestamp::now()), BYTES);
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame?.into_data() else { continue };
        left = left.checked_sub(piece.len()).ok_or(Error::Long)?;
        reader.take(&piece)?;
    }
    Ok(reader.finish())
}
