//! How many requests are worked on at a time, and which of them next: API priority and fairness (KEP-1040).
//!
//! ```text
//! FlowSchemas: the first that matches ─▶ flow (schema + user or namespace) ─▶ its priority level
//!   level: seats free? ─▶ go     else a queue of the flow's hand ─▶ fair turn ─▶ seats      or 429
//! ```
//!
//! Each level has seats by its shares, lends what it does not use and borrows what others do not. A request takes as many
//! seats as it is wide, and keeps them until its answer has been sent. Requests that last by their nature take none; a
//! watch does until what it begins with was read.

mod apart;
mod borrowing;
mod config;
mod deal;
mod demand;
mod dump;
mod fair;
mod follow;
mod level;
mod matching;
mod metrics;
mod queues;
mod retry;
pub(crate) mod sending;
#[cfg(test)]
mod tests;
mod width;

use std::sync::Arc;
use std::time::Duration;

use api::ApiError;
use api::strategy::User;
use http::HeaderValue;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::TaskTracker;

use crate::authz::MASTERS;
use crate::request::info::RequestInfo;
use crate::request::query::Query;
use crate::watch_cache::ResourceCache;

use apart::Apart;
use fair::Fair;
use queues::Work;

pub(crate) use dump::answer as dumped;
pub(crate) use follow::Follower;

/// The headers that tell a client how its request was classified: by UID, as names may tell more than it should know.
pub(crate) const FLOW_SCHEMA: &str = "x-kubernetes-pf-flowschema-uid";
pub(crate) const PRIORITY_LEVEL: &str = "x-kubernetes-pf-prioritylevel-uid";
/// No request waits longer for its seats.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Those who are turned away without priority and fairness come back after so many seconds.
const RETRY_AFTER: u32 = 1;

/// How much the server takes on.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Limits {
    /// Reads at a time; with writes the number of requests at a time. 0 for no limit.
    #[arg(long, default_value_t = 400)]
    pub max_requests_inflight: usize,
    /// Writes at a time; with reads the number of requests at a time. 0 for no limit.
    #[arg(long, default_value_t = 200)]
    pub max_mutating_requests_inflight: usize,
    /// Whether requests beyond the limit wait in order; else they are turned away.
    #[arg(id = "enable-priority-and-fairness", long, default_value_t = true)]
    pub fair: bool,
}

impl Default for Limits {
    fn default() -> Self {
        daemon::pflag::defaults()
    }
}

/// The seats for requests.
#[derive(Debug)]
pub(crate) struct FlowControl {
    way: Way,
}

#[derive(Debug)]
enum Way {
    Fair(Arc<Fair>),
    Apart(Apart),
}

/// The seats of one request; dropping this gives them back.
#[derive(Debug)]
pub(crate) struct Seat {
    #[expect(dead_code, reason = "taken while it lives")]
    seat: Either,
}

#[derive(Debug)]
#[expect(dead_code, reason = "taken while they live")]
enum Either {
    Fair(level::Seat),
    Apart(OwnedSemaphorePermit),
}

/// How a request was classified.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    flow: Arc<level::Flow>,
    hash: u64,
    work: Work,
    pub(crate) schema_uid: HeaderValue,
    pub(crate) level_uid: HeaderValue,
}

impl FlowControl {
    /// The timers of levels are tasks of `tasks`.
    pub(crate) fn new(limits: &Limits, process: &daemon::Metrics, tasks: &TaskTracker) -> Self {
        let (reads, writes) = (limits.max_requests_inflight, limits.max_mutating_requests_inflight);
        let seats = u32::try_from(reads.saturating_add(writes)).unwrap_or(u32::MAX);
        let way = if limits.fair && seats > 0 {
            let fair = Fair::new(seats, tasks.clone());
            process.register(|registry| fair.register(registry));
            Way::Fair(Arc::new(fair))
        } else {
            Way::Apart(Apart::new(reads, writes))
        };
        Self { way }
    }

    /// Levels and schemas, unless these are not used.
    fn fair(&self) -> Option<&Arc<Fair>> {
        match &self.way {
            Way::Fair(fair) => Some(fair),
            Way::Apart(_) => None,
        }
    }

    /// Classifies a request; `None` for those that last by their nature, and if nothing is classified.
    pub(crate) fn classify(
        &self,
        user: &User,
        info: &RequestInfo,
        query: &Query,
        cache: Option<&ResourceCache>,
    ) -> Option<Class> {
        if info.is_long_running() && info.verb() != "watch" {
            return None;
        }
        Some(self.fair()?.classify(user, info, query, cache))
    }

    /// Takes the seats of a request, or waits for them: a quarter of the time that it may take at the longest.
    pub(crate) async fn seat(
        &self,
        class: Option<&Class>,
        user: &User,
        info: &RequestInfo,
        time: Option<Duration>,
    ) -> Result<Option<Seat>, ApiError> {
        match (&self.way, class) {
            (Way::Fair(_), None) => Ok(None),
            (Way::Fair(fair), Some(class)) => {
                fair.note_load();
                let patience = time.map_or(LONGEST_WAIT, |time| (time / 4).min(LONGEST_WAIT));
                let seat = class.flow.seat(class.hash, class.work, patience).await;
                let seat = seat.map_err(|turned_away| too_many(turned_away.retry_after))?;
                Ok(Some(Seat { seat: Either::Fair(seat) }))
            }
            (Way::Apart(apart), _) => {
                if info.is_long_running() || user.groups.iter().any(|group| group == MASTERS) {
                    return Ok(None);
                }
                let seat = apart.seat(info).map_err(|()| too_many(RETRY_AFTER))?;
                Ok(seat.map(|seat| Seat { seat: Either::Apart(seat) }))
            }
        }
    }
}

fn too_many(retry_after: u32) -> ApiError {
    ApiError::too_many_requests("Too many requests, please try again later.", retry_after)
}
