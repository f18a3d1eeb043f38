//! Where events go: into a file, or to a webhook, which gets lists and is asked again when it fails.

use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::config::{Format, Truncate};
use super::file::LogFile;
use super::metrics::Metrics;
use super::text::{Event, list};
use crate::blocking::blocking;
use crate::outbound::webhooks::{CallError, Webhook};

/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A list is sent so often before it is lost, with longer and longer pauses. Upstream repeats whatever the error is.
const TRIES: u32 = 5;
/// No pause is longer when the server is about to end.
const LAST_PAUSE: Duration = Duration::from_millis(500);
/// Lists that are on their way to a webhook at a time.
const MOST_LISTS: usize = 16;

/// Brings events to one place.
pub(super) struct Courier {
    target: Target,
    truncate: Option<Truncate>,
    metrics: Metrics,
}

enum Target {
    Log(LogFile, Format),
    Webhook(Receiver),
}

/// A webhook.
struct Receiver {
    client: Webhook,
    backoff: Duration,
    /// Cancelled when the server is about to end.
    closing: CancellationToken,
}

impl Courier {
    pub(super) fn to_file(file: LogFile, format: Format, truncate: Option<Truncate>, metrics: Metrics) -> Self {
        Self { target: Target::Log(file, format), truncate, metrics }
    }

    /// From `closing` on it does not wait for long before it tries again.
    pub(super) fn to_webhook(
        client: Webhook,
        backoff: Duration,
        truncate: Option<Truncate>,
        metrics: Metrics,
        closing: CancellationToken,
    ) -> Self {
        Self { target: Target::Webhook(Receiver { client, backoff, closing }), truncate, metrics }
    }

    /// Calls of [`Self::deliver`] that make sense at a time. Lines of a file keep their order.
    pub(super) fn most_at_once(&self) -> usize {
        match self.target {
            Target::Log(..) => 1,
            Target::Webhook(_) => MOST_LISTS,
        }
    }

    /// An event as it is delivered; `None` if it is lost because it is too large.
    pub(super) fn text(&self, event: &Event) -> Option<Bytes> {
        let format = match self.target {
            Target::Log(_, format) => format,
            Target::Webhook(_) => Format::Json,
        };
        let text = event.text(format, self.truncate);
        if text.is_none() {
            self.metrics.lost("truncate", 1);
            tracing::error!("an audit event is too large even after truncating");
        }
        text
    }

    /// Brings events there; `false` if some are lost, which is counted and logged.
    pub(super) async fn deliver(&self, events: &[Bytes]) -> bool {
        match &self.target {
            Target::Log(..) => blocking(|| self.write(events)),
            Target::Webhook(receiver) => {
                let mut arrived = true;
                for part in parts(events, self.truncate.map_or(usize::MAX, |most| most.max_batch_size)) {
                    let sent = receiver.send(part).await;
                    arrived &= self.settled("webhook", part.len(), sent);
                }
                arrived
            }
        }
    }

    /// Writes events if this is for a file; `false` if some are lost.
    pub(super) fn write(&self, events: &[Bytes]) -> bool {
        let Target::Log(file, _) = &self.target else { return true };
        events.iter().fold(true, |written, event| written & self.settled("log", 1, file.write(event)))
    }

    fn settled<E: std::error::Error + 'static>(
        &self,
        plugin: &'static str,
        events: usize,
        outcome: Result<(), E>,
    ) -> bool {
        let Err(err) = outcome else { return true };
        self.metrics.lost(plugin, events);
        tracing::error!(plugin, events, error = &err as &dyn std::error::Error, "audit events are lost");
        false
    }
}

impl Receiver {
    async fn send(&self, events: &[Bytes]) -> Result<(), CallError> {
        let body = list(events);
        let mut pause = self.backoff;
        for _ in 1..TRIES {
            match self.client.post(body.clone(), TIMEOUT).await {
                Ok(_) => return Ok(()),
                Err(err) => tracing::debug!(error = &err as &dyn std::error::Error, "audit events are sent again"),
            }
            let jitter = pause / 1000 * rand::random_range(0..=200);
            self.rest(pause.saturating_add(jitter)).await;
            pause = pause.saturating_mul(3) / 2;
        }
        self.client.post(body, TIMEOUT).await.map(|_| ())
    }

    async fn rest(&self, pause: Duration) {
        if self.closing.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            tokio::time::sleep(pause.min(LAST_PAUSE)).await;
        }
    }
}

/// Events that are sent together: as many as there is room for, and one in any case.
fn parts(events: &[Bytes], most: usize) -> Vec<&[Bytes]> {
    let mut parts = Vec::new();
    let (mut begin, mut size) = (0, 0);
    for (at, event) in events.iter().enumerate() {
        if at > begin && size + event.len() > most {
            parts.push(&events[begin..at]);
            (begin, size) = (at, 0);
        }
        size += event.len();
    }
    if begin < events.len() {
        parts.push(&events[begin..]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_no_larger_than_allowed() {
        let events: Vec<Bytes> =
            ["aaa", "bb", "c", "dddddd", "e"].map(|text| Bytes::from_static(text.as_bytes())).into();
        let lengths = |most| parts(&events, most).iter().map(|part| part.len()).collect::<Vec<_>>();
        assert_eq!(lengths(5), [2, 1, 1, 1]);
        assert_eq!(lengths(6), [3, 1, 1]);
        assert_eq!(lengths(usize::MAX), [5]);
        assert!(parts(&[], 5).is_empty());
    }
}
