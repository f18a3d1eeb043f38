//! What must be true when nothing has gone wrong for a while: what was asked for is there, nothing is left over, and
//! nobody writes any more.

mod leftovers;
mod services;
#[cfg(test)]
mod tests;
mod workloads;

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::history::History;
use crate::objects::Objects;
use crate::recorded::Recorded;

/// How long the cluster may take to come to rest. Upstream's longest pauses: five minutes until expectations are given up,
/// 1000 s between attempts of what fails.
const PATIENCE: Duration = Duration::from_secs(1_800);
/// So long without a write is rest.
const REST: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_secs(5);

/// Waits until the cluster is at rest and all is well, and says what is wrong if that takes too long.
pub(crate) async fn rest(store: &Recorded, history: &History) {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        sleep(LOOK).await;
        let writes = store.writes();
        if writes.last.elapsed() >= REST && store.look(complaints).is_empty() {
            history.note(|| format!("at rest after {:?}", writes.last - begin));
            return;
        }
    }
    let (complaints, writes) = (store.look(complaints), store.writes());
    if complaints.is_empty() {
        return history.wrong(format!("there is no rest: {} {:?} ago", writes.what, writes.last.elapsed()));
    }
    complaints.into_iter().take(8).for_each(|complaint| history.wrong(complaint));
}

/// What is not as it should be.
pub(crate) fn complaints(objects: &Objects) -> Vec<String> {
    [leftovers::complaints(objects), workloads::complaints(objects), services::complaints(objects)].concat()
}
