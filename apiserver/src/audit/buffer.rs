//! Events that wait until they are sent, and who sends them. What does not fit is dropped and counted. Upstream:
//! `plugin/pkg/audit/buffered`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::config::{Batch, Throttle};
use super::courier::Courier;
use super::metrics::Metrics;

/// Kibibytes of events that wait or are on their way. Upstream limits their number only.
const MAX_KIBIBYTES: usize = 128 * 1024;
/// What upstream calls this part in its metrics.
const PLUGIN: &str = "buffered";

/// An event that waits or is on its way, and its part of the allowance.
pub(super) struct Waiting {
    pub(super) text: Bytes,
    _room: OwnedSemaphorePermit,
    _counted: Arc<()>,
}

/// Where events wait.
pub(super) struct Buffer {
    sender: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    /// As many clones as events that wait or are on their way.
    counted: Arc<()>,
    is_dropping: AtomicBool,
    metrics: Metrics,
}

/// Takes events from a [`Buffer`] and hands them to a courier.
pub(super) struct Worker {
    receiver: mpsc::Receiver<Waiting>,
    batch: Batch,
    courier: Arc<Courier>,
    closing: CancellationToken,
}

/// A buffer, and the worker that empties it. From `closing` on no event is taken, and none waits for others.
pub(super) fn buffer(
    batch: Batch,
    courier: Arc<Courier>,
    metrics: Metrics,
    closing: CancellationToken,
) -> (Buffer, Worker) {
    let (sender, receiver) = mpsc::channel(batch.buffer_size.max(1));
    let room = Arc::new(Semaphore::new(MAX_KIBIBYTES));
    let buffer = Buffer { sender, room, counted: Arc::default(), is_dropping: AtomicBool::new(false), metrics };
    (buffer, Worker { receiver, batch, courier, closing })
}

impl Buffer {
    /// Puts an event where it waits. It is lost if there is no room for it.
    pub(super) fn put(&self, text: Bytes) {
        match self.try_put(text) {
            Ok(()) => self.is_dropping.store(false, Ordering::Relaxed),
            Err(why) => {
                self.metrics.lost(PLUGIN, 1);
                if !self.is_dropping.swap(true, Ordering::Relaxed) {
                    tracing::error!(why, "audit events are lost");
                }
            }
        }
    }

    fn try_put(&self, text: Bytes) -> Result<(), &'static str> {
        let kibibytes = u32::try_from(text.len() / 1024 + 1).unwrap_or(u32::MAX);
        let room = self.room.clone().try_acquire_many_owned(kibibytes).map_err(|_| "the audit buffer has no room")?;
        let waiting = Waiting { text, _room: room, _counted: self.counted.clone() };
        self.sender.try_send(waiting).map_err(|err| match err {
            mpsc::error::TrySendError::Full(_) => "the audit buffer is full",
            mpsc::error::TrySendError::Closed(_) => "the audit buffer is closed",
        })
    }

    /// Events that wait or are on their way.
    pub(super) fn waiting(&self) -> usize {
        Arc::strong_count(&self.counted) - 1
    }
}

impl Worker {
    /// Sends events until the buffer is closed and empty, and everything has arrived or failed.
    pub(super) async fn run(mut self) {
        let most = self.courier.most_at_once();
        let mut bucket = self.batch.throttle.map(Bucket::new);
        let mut sending = JoinSet::new();
        while let Some(batch) = self.collect().await {
            if let Some(bucket) = &mut bucket {
                // At the end there is no time to lose.
                let _closing = self.closing.run_until_cancelled(bucket.take()).await;
            }
            while sending.len() >= most {
                told(sending.join_next().await);
            }
            while let Some(ended) = sending.try_join_next() {
                told(Some(ended));
            }
            let courier = self.courier.clone();
            sending.spawn(async move {
                let texts: Vec<Bytes> = batch.iter().map(|event| event.text.clone()).collect();
                courier.deliver(&texts).await;
            });
        }
        while !sending.is_empty() {
            told(sending.join_next().await);
        }
    }

    /// The next events to be sent together; `None` at the end.
    async fn collect(&mut self) -> Option<Vec<Waiting>> {
        let mut batch = vec![self.next().await?];
        let patience = tokio::time::sleep(self.batch.max_wait);
        tokio::pin!(patience);
        while batch.len() < self.batch.max_size {
            tokio::select! {
                biased;
                event = self.next() => match event {
                    Some(event) => batch.push(event),
                    None => break,
                },
                () = &mut patience => break,
            }
        }
        Some(batch)
    }

    /// The next event; `None` when there will be no more.
    async fn next(&mut self) -> Option<Waiting> {
        let closing = self.closing.cancelled();
        tokio::select! {
            biased;
            event = self.receiver.recv() => return event,
            () = closing, if !self.receiver.is_closed() => {}
        }
        self.receiver.close();
        self.receiver.recv().await
    }
}

fn told(ended: Option<Result<(), tokio::task::JoinError>>) {
    if let Some(Err(err)) = ended {
        tracing::error!(error = &err as &dyn std::error::Error, "sending audit events ended early");
    }
}

/// Tokens that come at a steady rate, and are kept up to a number.
struct Bucket {
    throttle: Throttle,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn new(throttle: Throttle) -> Self {
        Self { throttle, tokens: f64::from(throttle.burst), at: Instant::now() }
    }

    /// Takes a token, when there is one.
    async fn take(&mut self) {
        let rate = f64::from(self.throttle.qps);
        let now = Instant::now();
        let gained = now.duration_since(self.at).as_secs_f64() * rate;
        self.tokens = (self.tokens + gained).min(f64::from(self.throttle.burst)) - 1.0;
        self.at = now;
        if self.tokens < 0.0 {
            let pause = Duration::try_from_secs_f64(-self.tokens / rate).unwrap_or(Duration::MAX);
            tokio::time::sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::{AuditLogConfig, Format, Rotation};
    use super::super::file::LogFile;
    use super::*;

    /// A buffer above a file.
    struct Stage {
        directory: tempfile::TempDir,
        buffer: Buffer,
        worker: Option<Worker>,
        metrics: Metrics,
        closing: CancellationToken,
    }

    impl Stage {
        fn new(buffer_size: usize, max_size: usize, max_wait: Duration) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let file = LogFile::open(&directory.path().join("log"), Rotation::default()).unwrap();
            let metrics = Metrics::default();
            let courier = Arc::new(Courier::to_file(file, Format::Json, None, metrics.clone()));
            let batch = Batch { buffer_size, max_size, max_wait, ..AuditLogConfig::default().delivery.batch };
            let closing = CancellationToken::new();
            let (buffer, worker) = buffer(batch, courier, metrics.clone(), closing.clone());
            Self { directory, buffer, worker: Some(worker), metrics, closing }
        }

        fn put(&self, events: &[&'static str]) {
            events.iter().for_each(|event| self.buffer.put(Bytes::from_static(event.as_bytes())));
        }

        fn written(&self) -> String {
            std::fs::read_to_string(self.directory.path().join("log")).unwrap()
        }
    }

    #[tokio::test]
    async fn what_does_not_fit_is_dropped_and_counted_and_the_rest_is_sent_at_the_end() {
        let mut stage = Stage::new(2, 1, Duration::ZERO);
        stage.put(&["a", "b", "c"]);
        assert_eq!((stage.buffer.waiting(), stage.metrics.lost_by(PLUGIN)), (2, 1));
        stage.closing.cancel();
        stage.worker.take().unwrap().run().await;
        assert_eq!(stage.written(), "a\nb\n");
        stage.put(&["d"]);
        assert_eq!((stage.buffer.waiting(), stage.metrics.lost_by(PLUGIN)), (0, 2));
    }

    #[tokio::test]
    async fn events_have_an_allowance_of_memory() {
        let stage = Stage::new(100, 1, Duration::ZERO);
        let half = Bytes::from(vec![b'x'; MAX_KIBIBYTES * 512]);
        for _ in 0..3 {
            stage.buffer.put(half.clone());
        }
        assert_eq!((stage.buffer.waiting(), stage.metrics.lost_by(PLUGIN)), (1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn events_wait_for_others_but_not_for_long() {
        let mut stage = Stage::new(100, 3, Duration::from_secs(30));
        let mut worker = stage.worker.take().unwrap();
        let began = Instant::now();
        stage.put(&["a", "b", "c", "d"]);
        assert_eq!(worker.collect().await.unwrap().len(), 3);
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(worker.collect().await.unwrap().len(), 1);
        assert_eq!(began.elapsed(), Duration::from_secs(30));
        stage.put(&["e"]);
        stage.closing.cancel();
        assert_eq!(worker.collect().await.unwrap().len(), 1);
        assert_eq!(began.elapsed(), Duration::from_secs(30));
        assert!(worker.collect().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn batches_have_a_rate_and_may_burst() {
        let mut bucket = Bucket::new(Throttle { qps: 2.0, burst: 3 });
        let began = Instant::now();
        for _ in 0..3 {
            bucket.take().await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        for _ in 0..4 {
            bucket.take().await;
        }
        assert!((1.9..2.1).contains(&began.elapsed().as_secs_f64()), "{:?}", began.elapsed());
    }
}
