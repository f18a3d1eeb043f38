//! The stages of a pod's life on this node, and the moves from one to the next; there is no way back (upstream:
//! podSyncStatus of pkg/kubelet/pod_workers.go: syncing, terminating, terminated).
//!
//! ```text
//!   Syncing --stop--> Stopping --stopped--> Stopped: Reached(Nothing) --begin--> Running --end--> Reached(more)
//!                                                          ^---------- or as before ---'
//! ```
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Where a pod's life is.
pub(super) enum Stage {
    /// What the pod asks for is brought to run.
    Syncing(Syncing),
    /// What runs is stopped.
    Stopping(Stopping),
    /// Nothing runs any more, nor will again.
    Stopped(Cleanup),
}

impl Stage {
    /// Whether nothing of the pod that counts runs, nor will again: sidecars may still be stopping.
    pub(super) fn has_ended(&self) -> bool {
        match self {
            Self::Syncing(_) => false,
            Self::Stopping(stopping) => stopping.cause == Cause::Finished,
            Self::Stopped(_) => true,
        }
    }

    /// Whether everything of the pod is removed from the node.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Stopped(Cleanup::Reached(Extent::Records)))
    }
}

/// The stage in which containers are started.
#[derive(Default)]
pub(super) struct Syncing {
    starts: CancellationToken,
}

impl Syncing {
    /// Cancelled when the pod begins to stop: what is not created by then must not be.
    pub(super) fn starts(&self) -> CancellationToken {
        self.starts.clone()
    }

    /// Ends the stage: starts in flight notice.
    pub(super) fn stop(&self, cause: Cause) -> Stopping {
        self.starts.cancel();
        Stopping { since: Instant::now(), cause }
    }
}

/// Why a pod stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It is deleted, failed, refused or out of time: what runs is interrupted.
    Told,
    /// Its containers have done what they were to do.
    Finished,
}

/// The stage in which containers are stopped.
#[derive(Clone, Copy)]
pub(super) struct Stopping {
    /// When it began: the pod's grace counts from then.
    pub(super) since: Instant,
    cause: Cause,
}

impl Stopping {
    /// Nothing runs any more.
    pub(super) fn stopped(self) -> Cleanup {
        Cleanup::Reached(Extent::Nothing)
    }
}

/// How much of a pod that is over has been taken down; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Extent {
    Nothing,
    /// Its sandbox has stopped, and storage drivers have unmounted its volumes.
    Sandbox,
    /// Its volumes are unmounted and its directory is removed.
    Directories,
    /// The object is deleted.
    Object,
    /// The runtime's records of it and its logs are removed.
    Records,
}

/// The stage in which the pod is taken down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cleanup {
    Reached(Extent),
    Running { from: Extent, to: Extent },
}

impl Cleanup {
    /// Begins to take down so much, unless that is done, or something is under way.
    pub(super) fn begin(self, to: Extent) -> Option<Self> {
        match self {
            Self::Reached(from) if from < to => Some(Self::Running { from, to }),
            _ => None,
        }
    }

    /// What was begun is done; or it failed, and is due again.
    pub(super) fn end(self, succeeded: bool) -> Self {
        match self {
            Self::Running { to, .. } if succeeded => Self::Reached(to),
            Self::Running { from, .. } => Self::Reached(from),
            reached => reached,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopped() -> Cleanup {
        Syncing::default().stop(Cause::Told).stopped()
    }

    /// A clean-up that ended.
    fn ended(cleanup: Cleanup, to: Extent, succeeded: bool) -> Cleanup {
        let running = cleanup.begin(to).unwrap();
        assert!(running.begin(Extent::Records).is_none(), "one runs at a time");
        assert!(!Stage::Stopped(running).is_gone());
        running.end(succeeded)
    }

    #[test]
    fn starts_are_cancelled_when_the_pod_begins_to_stop() {
        let syncing = Syncing::default();
        let starts = syncing.starts();
        assert!(!starts.is_cancelled());
        syncing.stop(Cause::Told);
        assert!(starts.is_cancelled() && syncing.starts().is_cancelled());
    }

    #[test]
    fn a_pod_has_ended_when_its_work_is_done_or_nothing_of_it_runs() {
        let stopping = |cause| Stage::Stopping(Syncing::default().stop(cause));
        assert!(!Stage::Syncing(Syncing::default()).has_ended());
        assert!(!stopping(Cause::Told).has_ended());
        assert!(stopping(Cause::Finished).has_ended());
        assert!(Stage::Stopped(stopped()).has_ended());
    }

    #[test]
    fn a_clean_up_goes_as_far_as_is_asked_and_never_back() {
        assert_eq!(stopped().begin(Extent::Nothing), None);
        let mut cleanup = stopped();
        for to in [Extent::Sandbox, Extent::Directories, Extent::Object, Extent::Records] {
            assert!(!Stage::Stopped(cleanup).is_gone());
            cleanup = ended(cleanup, to, true);
            assert_eq!(cleanup.begin(to), None);
        }
        assert!(Stage::Stopped(cleanup).is_gone());
        assert_eq!(ended(stopped(), Extent::Records, true), cleanup, "at once or step by step");
    }

    #[test]
    fn a_failed_clean_up_is_due_again_and_what_was_done_before_stays_done() {
        assert_eq!(ended(stopped(), Extent::Records, false), stopped());
        let sandbox = ended(stopped(), Extent::Sandbox, true);
        assert_eq!(ended(sandbox, Extent::Records, false), sandbox);
    }
}
