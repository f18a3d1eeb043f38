//! Watch streams: events of the cache as frames of a response body. Upstream: `handlers.WatchServer`.

use std::sync::Arc;
use std::time::Duration;

use api::codec::{self, protobuf};
use api::{ApiError, Object, Resource};
use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::encode::Shaper;
use super::{LateFields, selection};
use crate::call::Routed;
use crate::call::websocket::{self, Form};
use crate::core::Core;
use crate::flow_control::sending::Kept;
use crate::registry::WatchStart;
use crate::request::headers::asks_for_websocket;
use crate::request::negotiate::Encoding;
use crate::request::options::ListOptions;
use crate::response::Answer;
use crate::watch_cache::{
    Cached, Event, EventType, Initial, ResourceCache, Selection, Subscription, frame, frame_around,
};

/// How often a watch that asked for bookmarks gets one.
const BOOKMARKS: Duration = Duration::from_secs(60);
/// A client that reads nothing for so long while something waits for it is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Frames that wait are sent together up to about this size.
const CHUNK: usize = 32 * 1024;
/// Marks the bookmark after the initial events.
const INITIAL_END: &str = "k8s.io/initial-events-end";

/// Answers a watch.
pub(crate) async fn watch(routed: &Routed<'_>) -> Result<Answer, ApiError> {
    if routed.accept.encoding == Encoding::Yaml {
        return Err(ApiError::not_acceptable("watches are served as JSON and protobuf"));
    }
    let options = ListOptions::read(routed.call.query, true)?;
    let shaper = Shaper::of(routed)?;
    let mut selection = selection(routed)?;
    let late = LateFields::take(routed, &mut selection);
    let started = routed.registry().watch(&routed.cache, &selection, &options).await?;
    let seat = routed.call.take_seat().map(|seat| routed.call.core.sending.keep(seat));
    let counted = routed.call.core.metrics.watch_opened(&routed.call.place(&routed.client_row));
    let frames = match started {
        Err(err) => stream::iter([Ok(shaper.failure(&err))]).left_stream(),
        Ok(start) => frames(routed, shaper, (selection, late), &options, start, seat).right_stream(),
    };
    // The watch is open as long as its frames are.
    let frames = frames.inspect(move |_frame| _ = &counted);
    if asks_for_websocket(routed.call.headers()) {
        let form = if routed.accept.encoding == Encoding::Protobuf { Form::Lengths } else { Form::Lines };
        return websocket::answer(routed.call, form, frames).await;
    }
    let mut answer = Answer::new(Body::from_stream(frames));
    *answer.status_mut() = StatusCode::OK;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(routed.accept.encoding.stream_type()));
    answer.headers_mut().insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    Ok(answer)
}

/// The frames of a watch until it ends: by its timeout, by shutdown, or because it fell behind.
fn frames(
    routed: &Routed<'_>,
    shaper: Shaper,
    (selection, late): (Selection, Option<LateFields>),
    options: &ListOptions,
    start: WatchStart,
    seat: Option<Kept>,
) -> impl futures::Stream<Item = Result<Bytes, std::convert::Infallible>> + Send + 'static {
    let core = routed.call.core.clone();
    let timeout = options.timeout_seconds.map_or_else(|| default_timeout(&core), Duration::from_secs);
    start.subscription.begin(start.beginning, PATIENCE);
    let watcher = Watcher {
        shaper,
        cache: routed.cache.clone(),
        client_row: routed.client_row.clone(),
        selection,
        late,
        seat,
        subscription: start.subscription,
        marks_initial_end: start.marks_initial_end,
        sent: start.revision,
        bookmarks: options.bookmarks.then(|| Box::pin(tokio::time::sleep(BOOKMARKS))),
        deadline: Box::pin(tokio::time::sleep(timeout)),
        shutdown: Box::pin(core.shutdown.clone().cancelled_owned()),
        core,
        done: false,
    };
    stream::unfold(watcher, |mut watcher| async move { watcher.next().await.map(|bytes| (Ok(bytes), watcher)) })
}

fn default_timeout(core: &Core) -> Duration {
    core.config.min_request_timeout.mul_f64(1.0 + rand::rng().random::<f64>())
}

struct Watcher {
    core: Arc<Core>,
    shaper: Shaper,
    cache: Arc<ResourceCache>,
    client_row: Arc<Resource>,
    selection: Selection,
    late: Option<LateFields>,
    /// Until what the watch begins with was read.
    seat: Option<Kept>,
    subscription: Subscription,
    marks_initial_end: bool,
    /// The newest revision that the client has been told of.
    sent: u64,
    bookmarks: Option<std::pin::Pin<Box<Sleep>>>,
    deadline: std::pin::Pin<Box<Sleep>>,
    shutdown: std::pin::Pin<Box<WaitForCancellationFutureOwned>>,
    done: bool,
}

/// What woke a watcher.
enum Wake {
    Event(Option<Arc<Event>>),
    Bookmark,
    End,
}

impl Watcher {
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over() {
            return None;
        }
        let first = match self.next_initial().await {
            Some(frame) => frame,
            None => self.next_live().await?,
        };
        Some(self.with_waiting(first).await)
    }

    /// After an object that could not be shown, a client must not take the next one for all that happened.
    fn is_over(&self) -> bool {
        self.done || self.shaper.failed
    }

    /// The frame together with those that are there already: a chunk costs as much as a frame.
    async fn with_waiting(&mut self, first: Bytes) -> Bytes {
        let Some(second) = self.next_waiting().await else { return first };
        let mut chunk = Vec::with_capacity(CHUNK.max(first.len() + second.len()));
        chunk.extend_from_slice(&first);
        let mut next = Some(second);
        while let Some(frame) = next {
            chunk.extend_from_slice(&frame);
            next = if chunk.len() < CHUNK { self.next_waiting().await } else { None };
        }
        chunk.into()
    }

    async fn next_waiting(&mut self) -> Option<Bytes> {
        if self.is_over() {
            return None;
        }
        if let Some(frame) = self.next_initial().await {
            return Some(frame);
        }
        // That the subscription is closed is for the next chunk to say.
        while let Ok(Some(event)) = self.subscription.try_next() {
            if let Some(frame) = self.event(&event).await {
                return Some(frame);
            }
        }
        None
    }

    async fn next_live(&mut self) -> Option<Bytes> {
        loop {
            match self.wake().await {
                Wake::Event(Some(event)) => {
                    if let Some(bytes) = self.event(&event).await {
                        return Some(bytes);
                    }
                }
                Wake::Event(None) => {
                    self.done = true;
                    // What replaces a cache knows all that the old one has told, so the client can go on there.
                    return (!self.is_replaced()).then(|| self.fell_behind());
                }
                Wake::Bookmark => return Some(self.bookmark(false)),
                Wake::End => {
                    self.done = true;
                    // A last bookmark, so that the client can come back to where it was.
                    return self.bookmarks.is_some().then(|| self.bookmark(false));
                }
            }
        }
    }

    async fn wake(&mut self) -> Wake {
        let bookmark = async {
            match &mut self.bookmarks {
                Some(timer) => timer.as_mut().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.shutdown.as_mut() => Wake::End,
            () = self.deadline.as_mut() => Wake::End,
            event = self.subscription.next() => Wake::Event(event),
            () = bookmark => {
                if let Some(timer) = &mut self.bookmarks {
                    timer.as_mut().reset(Instant::now() + BOOKMARKS);
                }
                Wake::Bookmark
            }
        }
    }

    /// The next frame of what the watch begins with, at its end the bookmark that marks it.
    async fn next_initial(&mut self) -> Option<Bytes> {
        // That the subscription is cut is for the live events to say.
        while let Some(initial) = self.subscription.next_initial().ok()? {
            let frame = match initial {
                Initial::Event(event) => self.event(&event).await,
                Initial::Object(object) if self.selects(Some(&object)).await => {
                    Some(self.shaper.frame(EventType::Added, &object).await)
                }
                Initial::Object(_) => None,
            };
            if frame.is_some() {
                return frame;
            }
        }
        self.seat = None;
        std::mem::take(&mut self.marks_initial_end).then(|| self.bookmark(true))
    }

    async fn event(&mut self, event: &Event) -> Option<Bytes> {
        // A watch may begin at a version that another answer told before the cache hears of it.
        if event.revision <= self.sent {
            return None;
        }
        self.sent = event.revision;
        let kind = if self.late.is_some() {
            Event::transition(self.selects(event.previous.as_ref()).await, self.selects(event.current.as_ref()).await)?
        } else {
            event.seen_by(|object| self.selection.matches(&self.cache, object))?
        };
        let object = event.object(kind)?;
        if self.shaper.is_plain(&object) {
            return event.frame(kind);
        }
        if self.shaper.is_shared_protobuf() {
            return event.protobuf_frame(kind, |object| self.shaper.encoded(kind, &object.object().into_value()));
        }
        Some(self.shaper.frame(kind, &object).await)
    }

    /// Whether an object is selected. One that cannot be converted is: then the client is told why.
    async fn selects(&self, object: Option<&Arc<Cached>>) -> bool {
        let Some(object) = object.filter(|object| self.selection.matches(&self.cache, object)) else { return false };
        match &self.late {
            Some(late) => late.select(vec![object.object()]).await.map_or(true, |selected| selected.contains(&true)),
            None => true,
        }
    }

    /// Everything up to the bookmark's version has been sent: the queue was filled before the cache moved on.
    fn bookmark(&mut self, initial_end: bool) -> Bytes {
        if !initial_end {
            let reached = self.core.registry.cache().revision();
            // Events that came in meanwhile are still in the queue and will follow; then they decide.
            if self.subscription.is_idle() {
                self.sent = self.sent.max(reached);
            }
        }
        let mut metadata = json!({"resourceVersion": self.sent.to_string()});
        if initial_end {
            metadata["annotations"] = json!({INITIAL_END: "true"});
        }
        let mut object = Object::default();
        object.set(&["apiVersion"], self.client_row.api_version());
        object.set(&["kind"], self.client_row.kind.as_ref());
        object.set(&["metadata"], metadata);
        // What objects of the kind always have, a bookmark has, too.
        codec::canonicalize(&mut object, self.client_row.schema());
        self.shaper.bookmark(&object)
    }

    fn is_replaced(&self) -> bool {
        let now = self.core.registry.cache().resource(&self.cache.row().storage_prefix);
        now.is_none_or(|now| !Arc::ptr_eq(&now, &self.cache))
    }

    fn fell_behind(&self) -> Bytes {
        let err = crate::registry::too_old(self.sent, self.core.registry.cache().revision());
        self.shaper.failure(&err)
    }
}

impl Shaper {
    /// A frame around one object in the shape that the client asked for.
    async fn frame(&mut self, kind: EventType, object: &Cached) -> Bytes {
        if self.is_plain(object) {
            return frame(kind, object);
        }
        match self.event_object(object).await {
            Ok(tree) => self.encoded(kind, &tree),
            Err(err) => {
                self.failed = true;
                self.failure(&err)
            }
        }
    }

    fn bookmark(&mut self, object: &Object) -> Bytes {
        match self.shaped(object) {
            Ok(tree) => self.encoded(EventType::Bookmark, &tree),
            Err(err) => self.failure(&err),
        }
    }

    /// The frame that ends a watch which cannot go on.
    fn failure(&self, err: &ApiError) -> Bytes {
        self.encoded(EventType::Error, &err.to_value())
    }

    fn encoded(&self, kind: EventType, tree: &Value) -> Bytes {
        if self.encoding() != Encoding::Protobuf {
            return frame_around(kind, 0, |out| {
                serde_json::to_writer(out, tree).expect("JSON trees with string keys always serialise");
            });
        }
        let (kind, object) = match protobuf::encode(tree) {
            Ok(object) => (kind, object),
            Err(err) => {
                let status = ApiError::internal(err.to_string()).to_value();
                (EventType::Error, protobuf::encode(&status).expect("a Status has a message, which its fields fit"))
            }
        };
        protobuf::watch_frame(kind.as_str(), &object).into()
    }
}
