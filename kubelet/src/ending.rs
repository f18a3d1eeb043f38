//! The end of a node's pods with the process that runs their kubelet (upstream: pkg/kubelet/nodeshutdown).
//!
//! Pods end as a deletion ends them: preStop hooks, their own grace, sidecars last; all at once, the critical ones after the
//! others, so that what is ordinary can use them to its end. Unlike upstream's they do not fail: the next kubelet on this
//! node starts them again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::pod;
use crate::pods::Pods;

/// How often the pods are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Beyond the time of pods: what is killed at its end has so long to be gone, and its sandbox to be taken down.
const SLACK: Duration = Duration::from_secs(10);

/// How long pods may take to end, whatever they ask for (upstream: `shutdownGracePeriod` and
/// `shutdownGracePeriodCriticalPods`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For all of them.
    pub all: Duration,
    /// The part of it that is kept for critical pods, which end after the others.
    pub critical: Duration,
}

impl Limits {
    /// The longest that an end within these limits lasts.
    #[must_use]
    pub fn bound(&self) -> Duration {
        self.all.max(self.critical) + 2 * SLACK
    }

    /// That of pods that are critical, or of the others.
    fn of(&self, critical: bool) -> Duration {
        if critical { self.critical } else { self.all.saturating_sub(self.critical) }
    }
}

/// How far the end of the pods is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// How many there are that had not ended before.
    pub total: usize,
    /// `namespace/name` of those that have not ended.
    pub waiting: BTreeSet<String>,
    /// All have ended, or had their time.
    pub is_over: bool,
}

/// By which whoever runs a kubelet ends its pods, and hears how far that is.
#[derive(Clone, Debug, Default)]
pub struct Ending(Arc<State>);

#[derive(Debug, Default)]
struct State {
    asked: watch::Sender<Option<Limits>>,
    progress: watch::Sender<Progress>,
}

impl Ending {
    /// Asks for the end of all pods; [`Self::progress`] says when it is over. From now on no pod begins.
    pub fn begin(&self, limits: Limits) {
        self.0.asked.send_replace(Some(limits));
    }

    /// Whether it was asked for, and within which limits.
    pub(crate) fn asked(&self) -> watch::Receiver<Option<Limits>> {
        self.0.asked.subscribe()
    }

    /// How far it is.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.0.progress.subscribe()
    }

    /// Ends the pods when it is asked to, and goes on with those that come, until `shutdown`.
    pub(crate) async fn run(self, pods: Pods, shutdown: CancellationToken) {
        let mut asked = self.0.asked.subscribe();
        let work = async {
            let Ok(Some(limits)) = asked.wait_for(Option::is_some).await.map(|asked| *asked) else { return };
            for critical in [false, true] {
                self.end(&pods, critical, limits.of(critical)).await;
            }
            self.0.progress.send_modify(|progress| progress.is_over = true);
            loop {
                pods.end(|_| true, Duration::ZERO);
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = work => shutdown.cancelled().await,
        }
    }

    /// Ends the pods that are critical, or the others; waits until they have ended, or have had their time.
    async fn end(&self, pods: &Pods, critical: bool, limit: Duration) {
        let late = Instant::now() + limit + SLACK;
        loop {
            let left = late.saturating_duration_since(Instant::now()).saturating_sub(SLACK);
            let concerns = |pod: &Pod| pod::is_critical(pod) == critical;
            let ending = pods.end(concerns, left);
            self.0.progress.send_if_modified(|progress| {
                let waiting = pods.not_ended();
                let now = Progress { total: progress.total.max(waiting.len()), waiting, is_over: false };
                let is_news = *progress != now;
                *progress = now;
                is_news
            });
            if ending == 0 || Instant::now() >= late {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn critical_pods_have_a_part_of_the_time_of_all() {
        let limits = |all, critical| Limits { all: Duration::from_secs(all), critical: Duration::from_secs(critical) };
        assert_eq!(limits(30, 10).of(false), Duration::from_secs(20));
        assert_eq!(limits(30, 10).of(true), Duration::from_secs(10));
        assert_eq!(limits(30, 10).bound(), Duration::from_secs(50));
        assert_eq!(limits(0, 0).of(false), Duration::ZERO);
    }
}
