//! What is to be done about a claim or a volume. Pure: no clock, no client, no cache.

mod claim;
mod volume;

pub(super) use claim::{ClaimStep, Seen, plan as claim};
pub(super) use volume::{Reclaim, VolumeStep, plan as volume};

#[cfg(test)]
mod tests;

/// An event to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) is_warning: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Note {
    fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Self { is_warning: false, reason, message: message.into() }
    }

    fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Self { is_warning: true, reason, message: message.into() }
    }
}
