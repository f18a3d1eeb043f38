//! Kinds of the group `batch`: what runs pods to their end (upstream: `pkg/apis/batch`, `pkg/registry/batch`).

mod cron_job;
mod job;

use super::kind::Group;

pub(crate) const GROUP: Group = Group { name: "batch", versions: &[("v1", &[cron_job::KIND, job::KIND])] };
