//! The socket by which `coracle image` reaches the runtime of a running cluster.
//!
//! One request a connection: a line of JSON each way. The socket lies in the data directory, which only root may enter.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use runtime::{Image, Runtime};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The longest request: two paths and their frame.
const LONGEST: u64 = 16 * 1024;

/// What can be asked of a runtime.
#[derive(Debug, Serialize, Deserialize)]
pub enum ImageRequest {
    /// Imports an archive, by absolute path.
    Load(PathBuf),
    List,
    Remove(String),
}

#[derive(Debug, Serialize, Deserialize)]
struct Reply {
    images: Vec<Image>,
    error: Option<String>,
}

/// Where the socket of a cluster is.
fn socket(data_dir: &Path) -> PathBuf {
    data_dir.join("coracle.sock")
}

/// Asks the running cluster with this data directory, or its runtime itself when none runs.
pub async fn images(data_dir: &Path, request: ImageRequest) -> anyhow::Result<Vec<Image>> {
    let path = socket(data_dir);
    match UnixStream::connect(&path).await {
        Ok(stream) => ask(stream, &request).await.with_context(|| format!("ask the cluster at {}", path.display())),
        Err(err) if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            let config = runtime::local::Config { root: data_dir.join("runtime"), ..runtime::local::Config::new()? };
            perform(&runtime::local::LocalRuntime::open_for_images(config).await?, request).await.map_err(Into::into)
        }
        Err(err) => Err(err).with_context(|| format!("connect to {}", path.display())),
    }
}

async fn ask(stream: UnixStream, request: &ImageRequest) -> anyhow::Result<Vec<Image>> {
    let mut stream = BufReader::new(stream);
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut answer = String::new();
    stream.read_line(&mut answer).await?;
    let reply: Reply = serde_json::from_str(&answer)?;
    match reply.error {
        Some(error) => anyhow::bail!(error),
        None => Ok(reply.images),
    }
}

async fn perform(runtime: &dyn Runtime, request: ImageRequest) -> Result<Vec<Image>, runtime::Error> {
    match request {
        ImageRequest::Load(path) => runtime.import_images(path).await,
        ImageRequest::List => runtime.images().await,
        ImageRequest::Remove(name) => runtime.remove_image(&name).await.map(|()| Vec::new()),
    }
}

/// Serves the socket until shutdown.
pub(crate) async fn serve(
    data_dir: PathBuf,
    runtime: Arc<dyn Runtime>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let path = socket(&data_dir);
    // The store's lock says that no other cluster uses this directory: what lies here is from a crash.
    if let Err(err) = std::fs::remove_file(&path)
        && err.kind() != ErrorKind::NotFound
    {
        return Err(err).with_context(|| format!("remove {}", path.display()));
    }
    let listener = UnixListener::bind(&path).with_context(|| format!("listen on {}", path.display()))?;
    let mut requests = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = requests.join_next() => {}
            accepted = listener.accept() => {
                let (stream, _) = accepted.with_context(|| format!("accept on {}", path.display()))?;
                let runtime = Arc::clone(&runtime);
                requests.spawn(async move {
                    if let Err(err) = answer(stream, &*runtime).await {
                        tracing::debug!(error = %format!("{err:#}"), "control request broken off");
                    }
                });
            }
        }
    }
    std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))
}

async fn answer(stream: UnixStream, runtime: &dyn Runtime) -> anyhow::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    (&mut stream).take(LONGEST).read_line(&mut line).await?;
    let result = match serde_json::from_str(&line) {
        Ok(request) => perform(runtime, request).await.map_err(|err| report(&err)),
        Err(err) => Err(format!("not a request: {err}")),
    };
    let reply = match result {
        Ok(images) => Reply { images, error: None },
        Err(error) => Reply { images: Vec::new(), error: Some(error) },
    };
    let mut text = serde_json::to_vec(&reply)?;
    text.push(b'\n');
    Ok(stream.write_all(&text).await?)
}

fn report(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        text.push_str(&format!(": {err}"));
        cause = err.source();
    }
    text
}
