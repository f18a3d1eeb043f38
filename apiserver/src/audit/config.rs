//! What the flags say of the audit log.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// What is recorded, and where it goes; the defaults are those of the flags.
#[derive(Clone, Debug, Default)]
pub struct AuditConfig {
    pub policy: Option<PathBuf>,
    pub log: AuditLogConfig,
    pub webhook: AuditWebhookConfig,
}

/// Events in a file.
#[derive(Clone, Debug)]
pub struct AuditLogConfig {
    /// `-` for the standard output.
    pub path: Option<PathBuf>,
    pub format: Format,
    pub rotation: Rotation,
    pub delivery: Delivery,
}

impl Default for AuditLogConfig {
    fn default() -> Self {
        let batch = Batch { buffer_size: 10_000, max_size: 1, max_wait: Duration::ZERO, throttle: None };
        let delivery = Delivery { mode: Mode::Blocking, batch, truncate: None };
        Self { path: None, format: Format::Json, rotation: Rotation::default(), delivery }
    }
}

/// Events that are sent to somebody.
#[derive(Clone, Debug)]
pub struct AuditWebhookConfig {
    /// A kubeconfig file.
    pub file: Option<PathBuf>,
    /// The pause before the second try; those after it are longer.
    pub initial_backoff: Duration,
    pub delivery: Delivery,
}

impl Default for AuditWebhookConfig {
    fn default() -> Self {
        let throttle = Some(Throttle { qps: 10.0, burst: 15 });
        let batch = Batch { buffer_size: 10_000, max_size: 400, max_wait: Duration::from_secs(30), throttle };
        let delivery = Delivery { mode: Mode::Batch, batch, truncate: None };
        Self { file: None, initial_backoff: Duration::from_secs(10), delivery }
    }
}

/// The form of events in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The event as JSON.
    Json,
    /// The most important fields as text.
    Legacy,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "legacy" => Ok(Self::Legacy),
            _ => Err(format!("invalid log format {text:?}, allowed formats are \"legacy\", \"json\"")),
        }
    }
}

/// When a new file is begun, and how long old ones are kept; 0 for never and for ever.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rotation {
    pub max_days: u32,
    pub max_backups: u32,
    pub max_megabytes: u32,
}

/// How events are handed over.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub mode: Mode,
    /// In mode [`Mode::Batch`].
    pub batch: Batch,
    /// What is too large; `None` for nothing.
    pub truncate: Option<Truncate>,
}

/// Who waits for an event to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nobody: events go through a buffer, and what does not fit is dropped.
    Batch,
    /// The request, which goes on if it fails.
    Blocking,
    /// The request, which is refused if it fails.
    BlockingStrict,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "batch" => Ok(Self::Batch),
            "blocking" => Ok(Self::Blocking),
            "blocking-strict" => Ok(Self::BlockingStrict),
            _ => Err(format!("invalid audit mode {text:?}, allowed modes are \"batch,blocking,blocking-strict\"")),
        }
    }
}

/// The buffer, and when it is emptied.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Events that may wait.
    pub buffer_size: usize,
    /// Events that are sent together.
    pub max_size: usize,
    /// An event waits no longer for others to be sent with.
    pub max_wait: Duration,
    pub throttle: Option<Throttle>,
}

/// How many batches are sent.
#[derive(Clone, Copy, Debug)]
pub struct Throttle {
    /// Batches a second in the long run.
    pub qps: f32,
    /// Batches at once after a quiet time.
    pub burst: u32,
}

/// What is too large.
#[derive(Clone, Copy, Debug)]
pub struct Truncate {
    /// Bytes of events that are sent together.
    pub max_batch_size: usize,
    /// Bytes of one event: a larger one goes without the objects of request and response, or not at all.
    pub max_event_size: usize,
}
