//! One cycle for all pods of a gang: each gets its place, or all give theirs back (upstream: `schedule_one_podgroup.go`).
//!
//! ```text
//!  each pod: placed and held | room could be made | refused
//!  enough are placed:                   the held ones were let go by Permit; the others go their own ways
//!  enough, once room is made:           the placed ones give back, all are nominated, victims are evicted
//!  not enough:                          the placed ones give back, nobody is evicted
//! ```
//!
//! Places that are given back were taken in the same cycle: nobody else has seen them, so nobody is woken by that.

use std::cmp::Reverse;
use std::sync::Arc;

use super::{Next, Shared, Task};
use crate::binding;
use crate::cycle::Scheduler;
use crate::framework::{Gang, Profile};
use crate::queue::Attempt;
use crate::report::{Failed, GroupReport, Nomination};

/// Upstream's word for a gang that waits for those whom it evicts.
const WAITS_FOR_ROOM: &str = "pod group is waiting for preemption to complete";
/// The same for one that does not fit.
const UNSCHEDULABLE: &str = "pod group is unschedulable";

impl Shared {
    /// Decides for the pod and its mates. What is to be done for each is no longer tied to that of the others.
    pub(super) fn decide_gang(
        &self,
        scheduler: &mut Scheduler,
        profile: &Profile,
        first: Attempt,
        mates: &[String],
    ) -> Vec<Task> {
        let mut attempts = self.queue.take_these(mates);
        attempts.push(first);
        attempts.sort_by_key(|attempt| (Reverse(attempt.pod.priority), attempt.queued_at));
        let mut decided = Vec::with_capacity(attempts.len());
        for attempt in attempts {
            let next = self.judge(scheduler, profile, &attempt);
            decided.push((attempt, next));
        }
        let Some((pod, gang)) = decided.first().map(|(one, _)| Arc::clone(&one.pod)).zip(profile.gang.as_ref()) else {
            return Vec::new();
        };
        let rooms = decided.iter().filter(|(attempt, next)| self.waits_for_room(attempt, next)).count();
        let (unschedulable, decided) = match (gang.missing(&pod, 0), gang.missing(&pod, rooms)) {
            (None, _) => (None, decided),
            (Some(_), None) => {
                let wait = |(attempt, next)| self.wait_for_room(profile, attempt, next);
                (Some(WAITS_FOR_ROOM), decided.into_iter().map(wait).collect())
            }
            (Some(why), Some(_)) => {
                let give_up = |(attempt, next)| self.give_up(profile, &**gang, attempt, next, &why);
                (Some(UNSCHEDULABLE), decided.into_iter().map(give_up).collect::<Vec<_>>())
            }
        };
        let report = gang.pod_group(&pod).map(|group| Task::Group(GroupReport { group, unschedulable }));
        decided.into_iter().map(|(attempt, next)| Task::Pod(attempt, next)).chain(report).collect()
    }

    /// Whether the pod would have a place if it were not for those that are evicted for it, now or before.
    fn waits_for_room(&self, attempt: &Attempt, next: &Next) -> bool {
        match next {
            Next::MakeRoom(_) => true,
            Next::Report(failed) => {
                failed.nomination == Nomination::Keep && self.cache().nominated_node(&attempt.pod.uid).is_some()
            }
            Next::Bind(..) => false,
        }
    }

    /// A pod of a gang that fits once room is made for others of it: its place is kept by a nomination.
    fn wait_for_room(&self, profile: &Profile, attempt: Attempt, next: Next) -> (Attempt, Next) {
        let Next::Bind(node, _held) = next else { return (attempt, next) };
        self.give_back(profile, &attempt, &node);
        self.cache().nominate(Arc::clone(&attempt.pod), &node);
        let failed = Failed::unschedulable(WAITS_FOR_ROOM.to_owned(), Nomination::Is(node));
        (attempt, Next::Report(failed))
    }

    /// A pod of a gang that does not fit as a whole.
    fn give_up(&self, profile: &Profile, gang: &dyn Gang, attempt: Attempt, next: Next, why: &str) -> (Attempt, Next) {
        let failed = || Failed::unschedulable(why.to_owned(), Nomination::End);
        let next = match next {
            Next::Bind(node, _held) => {
                self.give_back(profile, &attempt, &node);
                Next::Report(failed())
            }
            Next::MakeRoom(room) => {
                self.cache().end_nomination(&attempt.pod.uid);
                self.queue.reject(&attempt, room.plugins.into_iter().chain([gang.name()]).collect());
                Next::Report(failed())
            }
            refused @ Next::Report(_) => refused,
        };
        (attempt, next)
    }

    fn give_back(&self, profile: &Profile, attempt: &Attempt, node: &str) {
        let pod = &attempt.pod;
        self.waiting.forget(&pod.uid);
        binding::unreserve(profile, pod, node);
        self.cache().forget(&pod.uid);
        let name = profile.gang.iter().map(|gang| gang.name());
        self.queue.reject(attempt, name.collect());
    }
}
