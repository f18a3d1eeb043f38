//! Who waits until an event has arrived: nobody, or the request that it is about.

use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::buffer::{Buffer, Worker, buffer};
use super::config::{AuditLogConfig, AuditWebhookConfig, Batch, Mode};
use super::courier::Courier;
use super::file::LogFile;
use super::metrics::Metrics;
use super::text::Event;
use crate::error::Error;
use crate::outbound::kubeconfig::Remote;
use crate::outbound::webhooks::Webhooks;

/// A place that events are brought to, and how.
pub(super) struct Backend {
    mode: Mode,
    courier: Arc<Courier>,
    /// For events that nobody waits for: all of them in mode batch, else those whose request is gone already.
    buffer: Option<Buffer>,
}

impl Backend {
    /// The file, if there is one, and who empties its buffer.
    pub(super) fn log(
        config: &AuditLogConfig,
        metrics: &Metrics,
        closing: &CancellationToken,
    ) -> Result<Option<(Self, Option<Worker>)>, Error> {
        let Some(path) = &config.path else { return Ok(None) };
        let file = LogFile::open(path, config.rotation)
            .map_err(|err| Error::Flag { flag: "audit-log-path", why: format!("{}: {err}", path.display()) })?;
        let delivery = &config.delivery;
        let courier = Arc::new(Courier::to_file(file, config.format, delivery.truncate, metrics.clone()));
        if delivery.mode != Mode::Batch {
            return Ok(Some((Self { mode: delivery.mode, courier, buffer: None }, None)));
        }
        let (buffer, worker) = buffer(delivery.batch.clone(), courier.clone(), metrics.clone(), closing.clone());
        Ok(Some((Self { mode: Mode::Batch, courier, buffer: Some(buffer) }, Some(worker))))
    }

    /// The webhook, if there is one, and who empties its buffer.
    pub(super) fn webhook(
        config: &AuditWebhookConfig,
        webhooks: &Webhooks,
        metrics: &Metrics,
        closing: &CancellationToken,
    ) -> Result<Option<(Self, Worker)>, Error> {
        let Some(path) = &config.file else { return Ok(None) };
        let flag = |why: String| Error::Flag { flag: "audit-webhook-config-file", why };
        let remote = Remote::read(path).map_err(|err| flag(crate::error::with_causes(&err)))?;
        let client = webhooks.reviewer(&remote).map_err(|err| flag(format!("{}: {err}", path.display())))?;
        let delivery = &config.delivery;
        let (metrics, closing) = (metrics.clone(), closing.clone());
        let courier =
            Courier::to_webhook(client, config.initial_backoff, delivery.truncate, metrics.clone(), closing.clone());
        let courier = Arc::new(courier);
        let batch = match delivery.mode {
            Mode::Batch => delivery.batch.clone(),
            // What was said of batches is for batches only.
            Mode::Blocking | Mode::BlockingStrict => late_events(),
        };
        let (buffer, worker) = buffer(batch, courier.clone(), metrics, closing);
        Ok(Some((Self { mode: delivery.mode, courier, buffer: Some(buffer) }, worker)))
    }

    /// Takes an event; `false` if its request must not go on without it. An event whose request goes away meanwhile is
    /// brought there nevertheless.
    pub(super) async fn take(&self, event: &Event) -> bool {
        let Some(text) = self.courier.text(event) else { return true };
        let arrived = match &self.buffer {
            Some(buffer) if self.mode == Mode::Batch => {
                buffer.put(text);
                true
            }
            Some(buffer) => {
                let mut held = Held { buffer, text: Some(text.clone()) };
                let arrived = self.courier.deliver(&[text]).await;
                held.text = None;
                arrived
            }
            None => self.courier.write(&[text]),
        };
        arrived || self.mode != Mode::BlockingStrict
    }

    /// Takes an event that nobody waits for any more.
    pub(super) fn take_late(&self, event: &Event) {
        let Some(text) = self.courier.text(event) else { return };
        match &self.buffer {
            Some(buffer) => buffer.put(text),
            None => {
                self.courier.write(&[text]);
            }
        }
    }

    /// Events that have neither arrived nor been given up.
    pub(super) fn waiting(&self) -> usize {
        self.buffer.as_ref().map_or(0, Buffer::waiting)
    }
}

/// How events are sent whose request is gone, where the others are waited for.
fn late_events() -> Batch {
    Batch { max_wait: std::time::Duration::from_secs(1), ..AuditWebhookConfig::default().delivery.batch }
}

/// An event that a request waits for. If the request goes away it is sent all the same.
struct Held<'a> {
    buffer: &'a Buffer,
    text: Option<Bytes>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(text) = self.text.take() {
            self.buffer.put(text);
        }
    }
}
