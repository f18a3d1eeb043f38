//! The socket by which `coracle image` reaches the runtime of a running cluster.
//!
//! One request a connection: a line of JSON, and lines of JSON as answer, the last of which ends it. The socket lies in the
//! data directory, which only root may enter.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use runtime::{ContainerStatus, Image, PullProgress, Runtime, SandboxStatus};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The longest request: two paths and their frame.
const LONGEST: u64 = 16 * 1024;
/// Requests at a time; others wait.
const AT_ONCE: usize = 16;
/// Wait after a connection could not be accepted: out of file descriptors, mostly.
const BACK_OFF: Duration = Duration::from_millis(200);
/// How often one hears of the progress of a pull.
const TELL: Duration = Duration::from_millis(500);
/// The longest line of an answer: a node has no more images than that.
const LONGEST_ANSWER: u64 = 64 * 1024 * 1024;
/// How long a process may take to say how long its end may take.
const ANSWER: Duration = Duration::from_secs(60);
/// The users of an image that a refusal names.
const NAMED: usize = 5;

/// What can be asked of a runtime.
#[derive(Debug, Serialize, Deserialize)]
pub enum ImageRequest {
    /// Imports an archive, by absolute path.
    Load(PathBuf),
    List,
    /// Pulls an image from its registry, by the way that pods' images take.
    Pull(String),
    /// Removes an image, and only with `force` one that containers use.
    Remove {
        image: String,
        force: bool,
    },
}

/// What the process itself is asked.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    /// Ends as on SIGTERM; the connection ends with the process.
    End,
    #[serde(untagged)]
    Images(ImageRequest),
}

/// A line of an answer: all but [`Self::Progress`] are the last.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Progress(PullProgress),
    Images(Vec<Image>),
    Error(String),
    /// The process ends, within so many seconds.
    Ends(u64),
}

/// How the process is asked to end.
#[derive(Clone)]
pub(crate) struct End {
    /// Cancelled when somebody asks.
    pub(crate) asked: CancellationToken,
    /// How long that may take.
    pub(crate) within: Duration,
}

/// Where the socket of a cluster is.
fn socket(data_dir: &Path) -> PathBuf {
    data_dir.join("coracle.sock")
}

/// Who hears how far a pull is.
trait Audience: Send {
    /// An error ends the pull.
    fn hear(&mut self, progress: PullProgress) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// At the other end of the socket. Whoever goes away ends a pull by that.
impl Audience for BufReader<UnixStream> {
    async fn hear(&mut self, progress: PullProgress) -> anyhow::Result<()> {
        write_line(self, &Reply::Progress(progress)).await
    }
}

/// In this process.
struct Here<Tell>(Tell);

impl<Tell: Fn(PullProgress) + Send> Audience for Here<Tell> {
    async fn hear(&mut self, progress: PullProgress) -> anyhow::Result<()> {
        (self.0)(progress);
        Ok(())
    }
}

/// Asks the running cluster with this data directory, or its runtime itself when none runs; `tell` hears how far a pull is.
pub async fn images(
    data_dir: &Path,
    request: ImageRequest,
    tell: impl Fn(PullProgress) + Send,
) -> anyhow::Result<Vec<Image>> {
    ensure!(data_dir.is_dir(), "no cluster has been in {}: give its --data-dir", data_dir.display());
    ensure!(rustix::process::geteuid().is_root(), "the images of a cluster are root's: run this with sudo");
    let path = socket(data_dir);
    match UnixStream::connect(&path).await {
        Ok(stream) => ask(stream, &request, tell).await,
        Err(err) if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            let config = runtime::local::Config { root: data_dir.join("runtime"), ..runtime::local::Config::new()? };
            let runtime = runtime::local::LocalRuntime::open_for_images(config).await?;
            telling(&runtime, request, &mut Here(tell)).await
        }
        Err(err) => Err(err).with_context(|| format!("connect to {}", path.display())),
    }
}

/// Asks the process with this data directory to end, and waits until it has, for as long as it says that this may take.
/// Answers whether there was one.
pub(crate) async fn end(data_dir: &Path) -> anyhow::Result<bool> {
    let Ok(stream) = UnixStream::connect(socket(data_dir)).await else { return Ok(false) };
    ended(stream).await?;
    Ok(true)
}

async fn ended(stream: UnixStream) -> anyhow::Result<()> {
    let mut stream = BufReader::new(stream);
    write_line(&mut stream, &Request::End).await?;
    let mut answer = stream.take(LONGEST);
    let mut line = String::new();
    let answered = tokio::time::timeout(ANSWER, answer.read_line(&mut line)).await;
    answered.context("it has neither ended nor said how long that takes")??;
    if line.is_empty() {
        return Ok(());
    }
    let Ok(Reply::Ends(seconds)) = serde_json::from_str(&line) else {
        anyhow::bail!("the cluster is of another version of coracle")
    };
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(seconds), answer.read_to_end(&mut rest)).await;
    ended.with_context(|| format!("it has not ended within {seconds} s"))??;
    Ok(())
}

async fn ask(stream: UnixStream, request: &ImageRequest, tell: impl Fn(PullProgress)) -> anyhow::Result<Vec<Image>> {
    let mut stream = BufReader::new(stream);
    write_line(&mut stream, request).await?;
    loop {
        let mut answer = String::new();
        (&mut stream).take(LONGEST_ANSWER).read_line(&mut answer).await?;
        ensure!(answer.ends_with('\n'), "the cluster ended before it had answered");
        match serde_json::from_str(&answer).context("the cluster is of another version of coracle")? {
            Reply::Progress(progress) => tell(progress),
            Reply::Images(images) => return Ok(images),
            Reply::Error(error) => anyhow::bail!(error),
            Reply::Ends(_) => anyhow::bail!("the cluster ended before it had answered"),
        }
    }
}

async fn write_line(stream: &mut BufReader<UnixStream>, line: &(impl Serialize + Sync)) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    Ok(stream.write_all(&text).await?)
}

/// Performs a request; the audience hears meanwhile how far a pull is.
async fn telling(
    runtime: &dyn Runtime,
    request: ImageRequest,
    audience: &mut impl Audience,
) -> anyhow::Result<Vec<Image>> {
    let name = if let ImageRequest::Pull(name) = &request { name.clone() } else { String::new() };
    let performed = perform(runtime, request);
    tokio::pin!(performed);
    let mut ticks = tokio::time::interval(TELL);
    loop {
        tokio::select! {
            done = &mut performed => return done,
            _ = ticks.tick(), if !name.is_empty() => {
                if let Some(progress) = runtime.pull_progress(&name) {
                    audience.hear(progress).await?;
                }
            }
        }
    }
}

async fn perform(runtime: &dyn Runtime, request: ImageRequest) -> anyhow::Result<Vec<Image>> {
    match request {
        ImageRequest::Load(path) => {
            let images = runtime.import_images(path).await?;
            ensure!(!images.is_empty(), "the archive has no image for linux on {}", std::env::consts::ARCH);
            Ok(images)
        }
        ImageRequest::List => Ok(runtime.images().await?),
        ImageRequest::Pull(name) => Ok(vec![runtime.pull_image(&name, None).await?]),
        ImageRequest::Remove { image, force } => {
            let found = runtime
                .image_status(&image)
                .await?
                .with_context(|| format!("no image {image:?} is here: `coracle image list` shows those that are"))?;
            let users = users(&found, &runtime.containers(None).await?, &runtime.sandboxes().await?);
            ensure!(
                force || users.is_empty(),
                "image {image} is in use by {}: stop what uses it, or give --force",
                named(&users)
            );
            runtime.remove_image(&found.id).await?;
            Ok(Vec::new())
        }
    }
}

/// The containers of pods that are up and were made from an image, also those that ended: the next one needs it again.
fn users(image: &Image, containers: &[ContainerStatus], sandboxes: &[SandboxStatus]) -> Vec<String> {
    let mut users = Vec::new();
    for container in containers.iter().filter(|one| one.image_ref == image.id || image.digests.contains(&one.image_ref))
    {
        let pod = sandboxes.iter().find(|sandbox| sandbox.id == container.sandbox && sandbox.ready);
        users.extend(pod.map(|pod| format!("{}/{} ({})", pod.config.namespace, pod.config.name, container.name)));
    }
    users.sort();
    users.dedup();
    users
}

fn named(users: &[String]) -> String {
    let more = users.len().saturating_sub(NAMED);
    let named = users[..users.len() - more].join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}

/// Serves the socket until shutdown; `end` is told when somebody asks the process to end.
pub(crate) async fn serve(
    data_dir: PathBuf,
    runtime: Arc<dyn Runtime>,
    end: End,
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
            accepted = listener.accept(), if requests.len() < AT_ONCE => {
                let stream = match accepted {
                    Ok((stream, _)) => stream,
                    Err(err) => {
                        tracing::warn!(error = &err as &dyn std::error::Error, "control request not accepted");
                        tokio::time::sleep(BACK_OFF).await;
                        continue;
                    }
                };
                let (runtime, end) = (Arc::clone(&runtime), end.clone());
                requests.spawn(async move {
                    if let Err(err) = answer(stream, &*runtime, &end).await {
                        tracing::debug!(error = %format!("{err:#}"), "control request broken off");
                    }
                });
            }
        }
    }
    std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))
}

async fn answer(stream: UnixStream, runtime: &dyn Runtime, end: &End) -> anyhow::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    (&mut stream).take(LONGEST).read_line(&mut line).await?;
    let result = match serde_json::from_str(&line) {
        Ok(Request::End) => {
            end.asked.cancel();
            let told = write_line(&mut stream, &Reply::Ends(end.within.as_secs())).await;
            // Until the process has ended, whatever it does before.
            std::mem::forget(stream);
            return told;
        }
        Ok(Request::Images(request)) => telling(runtime, request, &mut stream).await,
        Err(err) => Err(anyhow::anyhow!("not a request: {err}")),
    };
    let reply = match result {
        Ok(images) => Reply::Images(images),
        Err(err) => Reply::Error(format!("{err:#}")),
    };
    write_line(&mut stream, &reply).await
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use runtime::fake::FakeRuntime;

    use super::*;

    fn image() -> Image {
        let digests = vec!["r.example/web@sha256:2".to_owned()];
        Image { id: "sha256:1".into(), tags: vec!["web:1".into()], digests, size: 1, user: String::new() }
    }

    fn container(name: &str, sandbox: &str, image_ref: &str) -> ContainerStatus {
        ContainerStatus {
            id: name.into(),
            sandbox: sandbox.into(),
            name: name.into(),
            attempt: 0,
            state: runtime::ContainerState::Created,
            created_at: SystemTime::UNIX_EPOCH,
            image: "web:1".into(),
            image_ref: image_ref.into(),
            labels: Default::default(),
            annotations: Default::default(),
            log_path: PathBuf::new(),
        }
    }

    fn sandbox(name: &str, ready: bool) -> SandboxStatus {
        let config =
            runtime::SandboxConfig { name: name.into(), namespace: "shop".into(), ..runtime::SandboxConfig::default() };
        SandboxStatus { id: name.into(), config, ready, created_at: SystemTime::UNIX_EPOCH, ips: Vec::new() }
    }

    #[test]
    fn an_image_is_used_by_the_containers_of_pods_that_are_up() {
        let containers = [
            container("by-id", "up", "sha256:1"),
            container("by-digest", "up", "r.example/web@sha256:2"),
            container("of-another", "up", "sha256:3"),
            container("in-a-dead-pod", "down", "sha256:1"),
        ];
        let sandboxes = [sandbox("up", true), sandbox("down", false)];
        assert_eq!(users(&image(), &containers, &sandboxes), ["shop/up (by-digest)", "shop/up (by-id)"]);
    }

    #[test]
    fn many_users_are_not_all_named() {
        let users: Vec<String> = (0..7).map(|number| format!("p{number}")).collect();
        assert_eq!(named(&users), "p0, p1, p2, p3, p4 and 2 more");
        assert_eq!(named(&users[..2]), "p0, p1");
    }

    #[tokio::test]
    async fn an_image_that_is_not_here_is_said_so() {
        let runtime = FakeRuntime::default();
        let request = ImageRequest::Remove { image: "nowhere:1".into(), force: false };
        let err = perform(&runtime, request).await.unwrap_err();
        assert!(err.to_string().contains("nowhere:1"), "{err}");
    }

    #[tokio::test]
    async fn a_pull_tells_how_far_it_is_and_then_what_it_brought() {
        let runtime = FakeRuntime::default();
        runtime.delay_pulls(3 * TELL);
        let (here, there) = UnixStream::pair().unwrap();
        let told = std::sync::Mutex::new(Vec::new());
        let request = ImageRequest::Pull("web:1".into());
        let end = End { asked: CancellationToken::new(), within: TELL };
        let (answered, images) = tokio::join!(
            answer(there, &runtime, &end),
            ask(here, &request, |progress| told.lock().unwrap().push(progress)),
        );
        answered.unwrap();
        assert_eq!(images.unwrap().len(), 1);
        let told = told.into_inner().unwrap();
        assert!(told.contains(&PullProgress { loaded: 1, total: 2 }), "{told:?}");
    }

    #[tokio::test]
    async fn the_registrys_words_reach_the_user() {
        let runtime = FakeRuntime::default();
        runtime.fail_pull("web:1", "manifest unknown");
        let (here, there) = UnixStream::pair().unwrap();
        let request = ImageRequest::Pull("web:1".into());
        let end = End { asked: CancellationToken::new(), within: TELL };
        let (answered, images) = tokio::join!(answer(there, &runtime, &end), ask(here, &request, |_| {}));
        answered.unwrap();
        assert_eq!(images.unwrap_err().to_string(), "failed to pull image \"web:1\": manifest unknown");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_process_is_waited_for_as_long_as_it_says_that_it_takes() {
        let runtime = FakeRuntime::default();
        let (here, there) = UnixStream::pair().unwrap();
        let end = End { asked: CancellationToken::new(), within: Duration::from_secs(400) };
        let begun = tokio::time::Instant::now();
        let (answered, waited) = tokio::join!(answer(there, &runtime, &end), ended(here));
        answered.unwrap();
        assert!(end.asked.is_cancelled());
        assert_eq!(waited.unwrap_err().to_string(), "it has not ended within 400 s");
        assert_eq!(begun.elapsed().as_secs(), 400);
    }

    #[tokio::test]
    async fn a_process_that_is_gone_has_ended() {
        let (here, there) = UnixStream::pair().unwrap();
        let (waited, ()) = tokio::join!(ended(here), async {
            let mut line = String::new();
            let mut there = BufReader::new(there);
            there.read_line(&mut line).await.unwrap();
            assert_eq!(line, "\"End\"\n");
        });
        waited.unwrap();
    }

    #[tokio::test]
    async fn a_cluster_that_ends_meanwhile_is_said_so() {
        let (here, there) = UnixStream::pair().unwrap();
        drop(there);
        let err = ask(here, &ImageRequest::List, |_| {}).await.unwrap_err();
        assert!(!err.to_string().contains("EOF"), "{err}");
    }

    #[tokio::test]
    async fn a_place_where_no_cluster_has_been_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("nowhere");
        let err = images(&place, ImageRequest::List, |_| {}).await.unwrap_err();
        assert!(err.to_string().contains("--data-dir"), "{err}");
        assert!(!place.exists());
    }
}
