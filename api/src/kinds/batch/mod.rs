//! Kinds of the group `batch`: what runs pods to their end (upstream: `pkg/apis/batch`, `pkg/registry/batch`).

pub(crate) mod cron_job;
pub(crate) mod job;
