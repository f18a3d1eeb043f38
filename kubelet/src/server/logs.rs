//! Container logs: files of lines `<time> <stream> <F|P> <text>`, perhaps rotated, perhaps still growing (upstream:
//! ReadLogs of k8s.io/cri-client/pkg/logs).
use std::collections::HashMap;
use std::io::SeekFrom;
use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use notify::RecursiveMode;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt as _, AsyncSeekExt as _, BufReader};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Shared;
use super::handlers::{Refusal, is_set, query};
use crate::changes::Changes;
use crate::containers::log_files;
use crate::pod;

/// Lines that wait for a slow reader; then reading the file waits too.
const WAITING: usize = 64;
/// A followed file is looked at this often even if nobody told of a change.
const LOOK: Duration = Duration::from_secs(1);
const MAX_LINE: usize = 256 * 1024;

#[derive(Clone, Debug, Default)]
struct Options {
    follow: bool,
    tail: Option<usize>,
    since: Option<Timestamp>,
    timestamps: bool,
    limit: Option<usize>,
    /// `stdout` or `stderr`; both if absent.
    stream: Option<String>,
}

impl Options {
    fn parse(query: &HashMap<String, Vec<String>>) -> Result<Self, Refusal> {
        let first = |name: &str| query.get(name).and_then(|values| values.first()).filter(|value| !value.is_empty());
        let number = |name: &str| match first(name) {
            None => Ok(None),
            Some(text) => match text.parse::<usize>() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(Refusal(
                    StatusCode::BAD_REQUEST,
                    format!("{name} must be a number of at least 0, not {text:?}"),
                )),
            },
        };
        let mut since = None;
        if let Some(seconds) = number("sinceSeconds")? {
            let back = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
            since = client::clock::now().checked_sub(back).ok();
        } else if let Some(text) = first("sinceTime") {
            let wrong = |_| Refusal(StatusCode::BAD_REQUEST, format!("sinceTime must be a time, not {text:?}"));
            since = Some(text.parse().map_err(wrong)?);
        }
        let stream = first("stream").map(|stream| stream.to_lowercase()).filter(|stream| stream != "all");
        Ok(Self {
            follow: is_set(query, "follow"),
            tail: number("tailLines")?,
            since,
            timestamps: is_set(query, "timestamps"),
            limit: number("limitBytes")?,
            stream,
        })
    }
}

/// `GET /containerLogs/<namespace>/<pod>/<container>`.
pub(super) async fn container_logs(
    State(shared): State<Shared>,
    Path(path): Path<HashMap<String, String>>,
    RawQuery(raw): RawQuery,
) -> Result<Response, Refusal> {
    let query = query(raw);
    let options = Options::parse(&query)?;
    let known = shared.pod(&path)?;
    let name = path.get("container").cloned().unwrap_or_default();
    let bad = |text: String| Refusal(StatusCode::BAD_REQUEST, text);
    let pod_name = pod::name(&known.pod).to_owned();
    if pod::container(&known.pod, &name).is_none() {
        return Err(bad(format!("container {name} is not valid for pod {pod_name}")));
    }
    let seen = &known.report.seen;
    let record = if is_set(&query, "previous") {
        let missing = || bad(format!("previous terminated container \"{name}\" in pod \"{pod_name}\" not found"));
        let latest = seen.latest(&name);
        // A container that waits for its restart is itself the previous one.
        let waits = latest.is_some_and(|latest| crate::pods::observed::exit(latest).is_some())
            && seen.previous(&name).is_none();
        if waits { latest.cloned().ok_or_else(missing)? } else { seen.previous(&name).cloned().ok_or_else(missing)? }
    } else {
        let waiting = || {
            let reason = "ContainerCreating";
            bad(format!("container \"{name}\" in pod \"{pod_name}\" is waiting to start: {reason}"))
        };
        seen.latest(&name).cloned().ok_or_else(waiting)?
    };
    let (sender, receiver) = mpsc::channel(WAITING);
    let reader = Reader { shared: shared.clone(), id: record.id, path: record.log_path, options, sender, sent: 0 };
    let task = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(reader.run()));
    let stream = ReceiverStream::new(receiver);
    // The reader lives as long as the response body.
    let body = futures::StreamExt::map(stream, move |line| {
        let _reader = &task;
        line
    });
    let response = Response::builder().header(http::header::CONTENT_TYPE, "text/plain").body(Body::from_stream(body));
    response.map_err(|err| Refusal(StatusCode::INTERNAL_SERVER_ERROR, err.to_string()))
}

struct Reader {
    shared: Shared,
    id: String,
    path: PathBuf,
    options: Options,
    sender: mpsc::Sender<std::io::Result<Bytes>>,
    sent: usize,
}

impl Reader {
    async fn run(mut self) {
        if let Err(err) = self.read().await {
            let _reader_gone = self.sender.send(Err(err)).await;
        }
    }

    async fn read(&mut self) -> std::io::Result<()> {
        let mut file = match File::open(&self.path).await {
            Ok(file) => file,
            // A container that could not be started has no log.
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(err) => return Err(err),
        };
        if let Some(tail) = self.options.tail {
            let start = tail_start(&self.path, tail, self.options.stream.as_deref()).await?;
            file.seek(SeekFrom::Start(start)).await?;
        }
        let directory = self.path.parent();
        let mut changes = directory.and_then(|directory| Changes::of(directory, RecursiveMode::NonRecursive).ok());
        let mut lines = BufReader::new(file);
        let mut partial = Vec::new();
        loop {
            // Whether it runs is asked before reading to the end, so that its last words are not missed.
            let running = self.options.follow && self.is_running().await;
            if !self.send_rest(&mut lines, &mut partial).await? {
                return Ok(());
            }
            if self.options.follow
                && let Some(next) = log_files::after(&self.path, lines.get_ref()).await?
            {
                // Nobody writes to this file any more: what came since is the rest of it.
                if !self.send_rest(&mut lines, &mut partial).await? {
                    return Ok(());
                }
                lines = BufReader::new(next);
                continue;
            }
            if !running {
                if !partial.is_empty() {
                    self.send(&partial).await;
                }
                return Ok(());
            }
            tokio::select! {
                () = self.shared.streams.shutdown.cancelled() => return Ok(()),
                () = self.sender.closed() => return Ok(()),
                () = changed(&mut changes) => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Sends what there is of a file; says whether more is wanted.
    async fn send_rest(&mut self, lines: &mut BufReader<File>, partial: &mut Vec<u8>) -> std::io::Result<bool> {
        while lines.read_until(b'\n', partial).await? > 0 {
            if partial.last() != Some(&b'\n') && partial.len() < MAX_LINE {
                break;
            }
            if !self.send(partial).await {
                return Ok(false);
            }
            partial.clear();
        }
        Ok(true)
    }

    async fn is_running(&self) -> bool {
        let status = self.shared.context.runtime.container_status(&self.id).await;
        status.is_ok_and(|status| crate::pods::observed::exit(&status).is_none())
    }

    /// Sends one line of the file; says whether more is wanted.
    async fn send(&mut self, line: &[u8]) -> bool {
        let Some(mut text) = render(line, &self.options) else { return true };
        if let Some(limit) = self.options.limit {
            text.truncate(limit - self.sent.min(limit));
        }
        self.sent += text.len();
        let more = self.options.limit.is_none_or(|limit| self.sent < limit);
        self.sender.send(Ok(Bytes::from(text))).await.is_ok() && more
    }
}

/// What a reader sees of a line of the file, if anything.
fn render(line: &[u8], options: &Options) -> Option<Vec<u8>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let (time, stream, tag) = (parts.next()?, parts.next()?, parts.next()?);
    let text = parts.next().unwrap_or_default();
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    if options.stream.as_ref().is_some_and(|wanted| wanted.as_bytes() != stream) {
        return None;
    }
    if let Some(since) = options.since {
        let time: Timestamp = std::str::from_utf8(time).ok()?.parse().ok()?;
        if time < since {
            return None;
        }
    }
    let mut out = Vec::with_capacity(line.len());
    if options.timestamps {
        out.extend_from_slice(time);
        out.push(b' ');
    }
    out.extend_from_slice(text);
    if tag != b"P" {
        out.push(b'\n');
    }
    Some(out)
}

/// Where the last `count` lines begin.
async fn tail_start(path: &FilePath, count: usize, stream: Option<&str>) -> std::io::Result<u64> {
    let mut starts = std::collections::VecDeque::new();
    let mut lines = BufReader::new(File::open(path).await?);
    let (mut at, mut line, mut continued) = (0_u64, Vec::new(), false);
    loop {
        line.clear();
        let length = lines.read_until(b'\n', &mut line).await?;
        if length == 0 {
            break;
        }
        let mut parts = line.splitn(4, |byte| *byte == b' ').skip(1);
        let of_stream = parts.next().is_some_and(|found| stream.is_none_or(|stream| stream.as_bytes() == found));
        let is_partial = parts.next() == Some(b"P".as_slice());
        if of_stream && !continued {
            starts.push_back(at);
            if starts.len() > count {
                starts.pop_front();
            }
        }
        if of_stream {
            continued = is_partial;
        }
        at += length as u64;
    }
    Ok(if count == 0 { at } else { starts.front().copied().unwrap_or(at) })
}

/// Waits for a change in the log's directory: for ever where it cannot be watched, since the log is looked at now and then
/// anyway.
async fn changed(directory: &mut Option<Changes>) {
    match directory {
        Some(changes) => changes.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:01Z stderr P tw\n\
                       2026-01-01T00:00:02Z stderr F o\n2026-01-01T00:00:03Z stdout F three\n";

    fn check(options: &Options, expected: &str) {
        let lines = LOG.split_inclusive('\n').filter_map(|line| render(line.as_bytes(), options));
        let text: Vec<u8> = lines.flatten().collect();
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn lines_are_shown_as_asked() {
        check(&Options::default(), "one\ntwo\nthree\n");
        check(&Options { stream: Some("stdout".into()), ..Options::default() }, "one\nthree\n");
        check(&Options { since: Some("2026-01-01T00:00:03Z".parse().unwrap()), ..Options::default() }, "three\n");
        let with_time = Options { timestamps: true, stream: Some("stdout".into()), ..Options::default() };
        check(&with_time, "2026-01-01T00:00:00Z one\n2026-01-01T00:00:03Z three\n");
    }

    #[tokio::test]
    async fn the_tail_counts_whole_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let tail = |count| {
            let path = path.clone();
            async move { LOG[usize::try_from(tail_start(&path, count, None).await.unwrap()).unwrap()..].lines().count() }
        };
        assert_eq!(tail(0).await, 0);
        assert_eq!(tail(1).await, 1);
        assert_eq!(tail(2).await, 3);
        assert_eq!(tail(99).await, 4);
    }
}
