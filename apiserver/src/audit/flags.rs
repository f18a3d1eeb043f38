//! Flags of the audit log: the policy, the file and the webhook.

use std::path::PathBuf;
use std::time::Duration;

use super::config::{
    AuditConfig, AuditLogConfig, AuditWebhookConfig, Batch, Delivery, Format, Mode, Rotation, Throttle, Truncate,
};
use crate::error::Error;

/// The audit log.
#[derive(Clone, Debug, clap::Args)]
pub struct AuditArgs {
    /// What is recorded of which requests: an audit.k8s.io/v1 Policy. Without it nothing is recorded.
    #[arg(long)]
    pub audit_policy_file: Option<PathBuf>,
    #[command(flatten)]
    pub log: AuditLogArgs,
    #[command(flatten)]
    pub webhook: AuditWebhookArgs,
}

/// Events in a file.
#[derive(Clone, Debug, clap::Args)]
pub struct AuditLogArgs {
    /// Where events are appended to; - for the standard output.
    #[arg(long)]
    pub audit_log_path: Option<PathBuf>,
    /// The form of events: json, or legacy for one line of text.
    #[arg(long, default_value = "json")]
    pub audit_log_format: Format,
    /// The version of events.
    #[arg(long, default_value = "audit.k8s.io/v1", value_parser = ["audit.k8s.io/v1"])]
    pub audit_log_version: String,
    /// Whether requests wait until their events are written: not (batch), or they do, and go on (blocking) or are
    /// refused (blocking-strict) if that fails.
    #[arg(long, default_value = "blocking")]
    pub audit_log_mode: Mode,
    /// For how many days old files are kept; 0 for ever.
    #[arg(long, default_value_t = 0)]
    pub audit_log_maxage: u32,
    /// How many old files are kept; 0 for all.
    #[arg(long, default_value_t = 0)]
    pub audit_log_maxbackup: u32,
    /// How many megabytes a file may have; 0 for 100.
    #[arg(long, default_value_t = 0)]
    pub audit_log_maxsize: u32,
    /// Events that may wait to be written in mode batch; more are dropped.
    #[arg(long, default_value_t = 10_000)]
    pub audit_log_batch_buffer_size: u32,
    /// Events that are written together in mode batch.
    #[arg(long, default_value_t = 1)]
    pub audit_log_batch_max_size: u32,
    /// How long an event waits for others in mode batch.
    #[arg(long, default_value = "0s", value_parser = daemon::pflag::duration)]
    pub audit_log_batch_max_wait: Duration,
    /// Whether the rate of batches is limited.
    #[arg(long)]
    pub audit_log_batch_throttle_enable: bool,
    /// Batches a second in the long run.
    #[arg(long, default_value_t = 0.0)]
    pub audit_log_batch_throttle_qps: f32,
    /// Batches at once after a quiet time.
    #[arg(long, default_value_t = 0)]
    pub audit_log_batch_throttle_burst: u32,
    /// Whether large events and batches are cut down.
    #[arg(long)]
    pub audit_log_truncate_enabled: bool,
    /// Bytes that a batch may have.
    #[arg(long, default_value_t = 10 * 1024 * 1024)]
    pub audit_log_truncate_max_batch_size: u64,
    /// Bytes that an event may have: a larger one goes without the objects of request and response, or not at all.
    #[arg(long, default_value_t = 100 * 1024)]
    pub audit_log_truncate_max_event_size: u64,
}

/// Events that are sent to a webhook.
#[derive(Clone, Debug, clap::Args)]
pub struct AuditWebhookArgs {
    /// Where the webhook is that events are sent to: a kubeconfig file.
    #[arg(long)]
    pub audit_webhook_config_file: Option<PathBuf>,
    /// The pause before events that did not arrive are sent again; it grows from try to try.
    #[arg(long, default_value = "10s", value_parser = daemon::pflag::duration)]
    pub audit_webhook_initial_backoff: Duration,
    /// The version of events.
    #[arg(long, default_value = "audit.k8s.io/v1", value_parser = ["audit.k8s.io/v1"])]
    pub audit_webhook_version: String,
    /// Whether requests wait until their events have arrived: not (batch), or they do, and go on (blocking) or are
    /// refused (blocking-strict) if that fails.
    #[arg(long, default_value = "batch")]
    pub audit_webhook_mode: Mode,
    /// Events that may wait to be sent in mode batch; more are dropped.
    #[arg(long, default_value_t = 10_000)]
    pub audit_webhook_batch_buffer_size: u32,
    /// Events that are sent together in mode batch.
    #[arg(long, default_value_t = 400)]
    pub audit_webhook_batch_max_size: u32,
    /// How long an event waits for others in mode batch.
    #[arg(long, default_value = "30s", value_parser = daemon::pflag::duration)]
    pub audit_webhook_batch_max_wait: Duration,
    /// Whether the rate of batches is limited.
    #[arg(long, default_value_t = true)]
    pub audit_webhook_batch_throttle_enable: bool,
    /// Batches a second in the long run.
    #[arg(long, default_value_t = 10.0)]
    pub audit_webhook_batch_throttle_qps: f32,
    /// Batches at once after a quiet time.
    #[arg(long, default_value_t = 15)]
    pub audit_webhook_batch_throttle_burst: u32,
    /// Whether large events and batches are cut down.
    #[arg(long)]
    pub audit_webhook_truncate_enabled: bool,
    /// Bytes that a batch may have; a larger one is sent in parts.
    #[arg(long, default_value_t = 10 * 1024 * 1024)]
    pub audit_webhook_truncate_max_batch_size: u64,
    /// Bytes that an event may have: a larger one goes without the objects of request and response, or not at all.
    #[arg(long, default_value_t = 100 * 1024)]
    pub audit_webhook_truncate_max_event_size: u64,
}

impl AuditArgs {
    /// The configuration that the flags say. As upstream's, those of a file or webhook that there is not are not looked
    /// at.
    pub(crate) fn into_config(self) -> Result<AuditConfig, Error> {
        Ok(AuditConfig {
            policy: self.audit_policy_file,
            log: self.log.into_config()?,
            webhook: self.webhook.into_config()?,
        })
    }
}

impl AuditLogArgs {
    fn into_config(self) -> Result<AuditLogConfig, Error> {
        let Some(path) = self.audit_log_path else { return Ok(AuditLogConfig::default()) };
        let said = Said {
            mode: self.audit_log_mode,
            buffer_size: ("audit-log-batch-buffer-size", self.audit_log_batch_buffer_size),
            max_size: ("audit-log-batch-max-size", self.audit_log_batch_max_size),
            max_wait: self.audit_log_batch_max_wait,
            is_throttled: self.audit_log_batch_throttle_enable,
            qps: ("audit-log-batch-throttle-qps", self.audit_log_batch_throttle_qps),
            burst: ("audit-log-batch-throttle-burst", self.audit_log_batch_throttle_burst),
            is_truncated: self.audit_log_truncate_enabled,
            max_batch_size: ("audit-log-truncate-max-batch-size", self.audit_log_truncate_max_batch_size),
            max_event_size: ("audit-log-truncate-max-event-size", self.audit_log_truncate_max_event_size),
        };
        let rotation = Rotation {
            max_days: self.audit_log_maxage,
            max_backups: self.audit_log_maxbackup,
            max_megabytes: self.audit_log_maxsize,
        };
        Ok(AuditLogConfig { path: Some(path), format: self.audit_log_format, rotation, delivery: said.delivery()? })
    }
}

impl AuditWebhookArgs {
    fn into_config(self) -> Result<AuditWebhookConfig, Error> {
        let Some(file) = self.audit_webhook_config_file else { return Ok(AuditWebhookConfig::default()) };
        let said = Said {
            mode: self.audit_webhook_mode,
            buffer_size: ("audit-webhook-batch-buffer-size", self.audit_webhook_batch_buffer_size),
            max_size: ("audit-webhook-batch-max-size", self.audit_webhook_batch_max_size),
            max_wait: self.audit_webhook_batch_max_wait,
            is_throttled: self.audit_webhook_batch_throttle_enable,
            qps: ("audit-webhook-batch-throttle-qps", self.audit_webhook_batch_throttle_qps),
            burst: ("audit-webhook-batch-throttle-burst", self.audit_webhook_batch_throttle_burst),
            is_truncated: self.audit_webhook_truncate_enabled,
            max_batch_size: ("audit-webhook-truncate-max-batch-size", self.audit_webhook_truncate_max_batch_size),
            max_event_size: ("audit-webhook-truncate-max-event-size", self.audit_webhook_truncate_max_event_size),
        };
        let initial_backoff = self.audit_webhook_initial_backoff;
        Ok(AuditWebhookConfig { file: Some(file), initial_backoff, delivery: said.delivery()? })
    }
}

/// What the flags of one backend say of how events are handed over, with the names of those that can be wrong.
struct Said {
    mode: Mode,
    buffer_size: (&'static str, u32),
    max_size: (&'static str, u32),
    max_wait: Duration,
    is_throttled: bool,
    qps: (&'static str, f32),
    burst: (&'static str, u32),
    is_truncated: bool,
    max_batch_size: (&'static str, u64),
    max_event_size: (&'static str, u64),
}

impl Said {
    /// Checks what counts in the mode, as upstream does.
    fn delivery(self) -> Result<Delivery, Error> {
        if self.mode == Mode::Batch {
            positive(self.buffer_size.0, self.buffer_size.1 > 0)?;
            positive(self.max_size.0, self.max_size.1 > 0)?;
            if self.is_throttled {
                positive(self.qps.0, self.qps.1.is_finite() && self.qps.1 > 0.0)?;
                positive(self.burst.0, self.burst.1 > 0)?;
            }
        }
        positive(self.max_event_size.0, self.max_event_size.1 > 0)?;
        if self.max_batch_size.1 < self.max_event_size.1 {
            let why = format!("must not be less than --{} ({})", self.max_event_size.0, self.max_event_size.1);
            return Err(Error::Flag { flag: self.max_batch_size.0, why });
        }
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let truncate =
            Truncate { max_batch_size: size(self.max_batch_size.1), max_event_size: size(self.max_event_size.1) };
        Ok(Delivery {
            mode: self.mode,
            batch: Batch {
                buffer_size: self.buffer_size.1 as usize,
                max_size: self.max_size.1 as usize,
                max_wait: self.max_wait,
                throttle: self.is_throttled.then_some(Throttle { qps: self.qps.1, burst: self.burst.1 }),
            },
            truncate: self.is_truncated.then_some(truncate),
        })
    }
}

fn positive(flag: &'static str, is_positive: bool) -> Result<(), Error> {
    if is_positive { Ok(()) } else { Err(Error::Flag { flag, why: "must be a positive number".to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        audit: AuditArgs,
    }

    fn read(flags: &[&str]) -> Result<AuditConfig, String> {
        let arguments = ["apiserver"].iter().chain(flags).map(Into::into);
        let line: Line = daemon::pflag::try_parse_from(arguments).map_err(|err| err.to_string())?;
        line.audit.into_config().map_err(|err| err.to_string())
    }

    #[test]
    fn without_flags_all_is_as_upstream_has_it() {
        let config = read(&["--audit-log-path=-", "--audit-webhook-config-file=f"]).unwrap();
        let defaults = AuditConfig::default();
        assert_eq!(format!("{:?}", config.log.delivery), format!("{:?}", defaults.log.delivery));
        assert_eq!(format!("{:?}", config.webhook.delivery), format!("{:?}", defaults.webhook.delivery));
        assert_eq!(config.webhook.initial_backoff, defaults.webhook.initial_backoff);
        let config = read(&["--audit-webhook-config-file=f", "--audit-webhook-truncate-enabled"]).unwrap();
        let truncate = config.webhook.delivery.truncate.unwrap();
        assert_eq!((truncate.max_batch_size, truncate.max_event_size), (10_485_760, 102_400));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_name() {
        for (flags, why) in [
            (
                vec!["--audit-webhook-batch-buffer-size=0"],
                "--audit-webhook-batch-buffer-size: must be a positive number",
            ),
            (vec!["--audit-webhook-batch-max-size=0"], "--audit-webhook-batch-max-size"),
            (vec!["--audit-webhook-batch-throttle-qps=0"], "--audit-webhook-batch-throttle-qps"),
            (vec!["--audit-webhook-batch-throttle-qps=NaN"], "--audit-webhook-batch-throttle-qps"),
            (vec!["--audit-webhook-batch-throttle-burst=0"], "--audit-webhook-batch-throttle-burst"),
            (vec!["--audit-webhook-truncate-max-event-size=0"], "--audit-webhook-truncate-max-event-size"),
            (vec!["--audit-webhook-truncate-max-batch-size=5"], "--audit-webhook-truncate-max-batch-size: must not be"),
            (vec!["--audit-webhook-mode=later"], "batch,blocking,blocking-strict"),
            (vec!["--audit-webhook-version=audit.k8s.io/v1beta1"], "audit.k8s.io/v1beta1"),
            (vec!["--audit-log-mode=batch", "--audit-log-batch-throttle-enable"], "--audit-log-batch-throttle-qps"),
            (vec!["--audit-log-format=xml"], "legacy"),
        ] {
            let flags: Vec<&str> =
                ["--audit-log-path=-", "--audit-webhook-config-file=f"].into_iter().chain(flags).collect();
            let err = read(&flags).unwrap_err();
            assert!(err.contains(why), "{flags:?}: {err}");
        }
        let unused = ["--audit-webhook-batch-buffer-size=0", "--audit-webhook-mode=blocking"];
        assert!(read(&["--audit-webhook-config-file=f", unused[0], unused[1]]).is_ok());
        assert!(read(&unused[..1]).is_ok());
    }
}
