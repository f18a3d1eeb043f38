//! Numbers that an administrator may change, with upstream's defaults.
use std::time::Duration;

use super::evictions::Rules;
use crate::backoff;

/// How the kubelet looks after its node.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuning {
    /// How often the lease is renewed and the status looked at.
    pub heartbeat: Duration,
    /// An unchanged status is repeated this often.
    pub report: Duration,
    /// How long the lease holds.
    pub lease_seconds: i32,
    /// The status lists this many images; `None` for all.
    pub max_images: Option<usize>,
    /// Image collection starts with so many percent of the disk used, and ends with fewer than the other.
    pub image_gc: (u64, u64),
    /// The largest log in bytes before it is rotated.
    pub max_log: u64,
    /// How many logs of a container are kept.
    pub log_files: u32,
    /// The longest wait before a container that ended is started again; at most five minutes.
    pub restart_backoff: Duration,
    /// When pods must leave the node.
    pub evictions: Rules,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(10),
            report: Duration::from_secs(300),
            lease_seconds: 40,
            max_images: Some(50),
            image_gc: (85, 80),
            max_log: 10 << 20,
            log_files: 5,
            restart_backoff: backoff::LAST,
            evictions: Rules::default(),
        }
    }
}
