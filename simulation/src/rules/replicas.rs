//! ReplicaSets and Jobs never have more pods at work than somebody wanted lately, unless an answer got lost: upstream, too,
//! then makes another pod. A Job never counts more successes than it has to have.

use serde_json::Value;

use super::Rule;
use super::lately::Lately;
use crate::objects::{self, Change};
use crate::plan::Plan;

pub(super) struct Replicas {
    /// By the uid of the owner.
    wanted: Lately<i64>,
    answers_arrive: bool,
}

impl Replicas {
    pub(super) fn new(plan: &Plan) -> Self {
        let answers_arrive = plan.faults.lose_answer == 0.0 && !plan.disasters.servers;
        Self { wanted: Lately::default(), answers_arrive }
    }
}

impl Rule for Replicas {
    fn name(&self) -> &'static str {
        "replicas"
    }

    fn see(&mut self, change: &Change<'_>) -> Result<(), String> {
        let Some(new) = change.new else { return Ok(()) };
        let wanted = match change.kind() {
            "replicasets" => "/spec/replicas",
            "jobs" => "/spec/parallelism",
            "pods" => return self.made(change, new),
            _ => return Ok(()),
        };
        self.wanted.set(objects::uid(new), change.at, objects::number(new, wanted).unwrap_or(1));
        let succeeded = objects::number(new, "/status/succeeded").unwrap_or(0);
        match objects::number(new, "/spec/completions") {
            Some(completions) if succeeded > completions && self.answers_arrive => {
                Err(format!("{} has {succeeded} of {completions} successes", change.key))
            }
            _ => Ok(()),
        }
    }
}

impl Replicas {
    fn made(&self, change: &Change<'_>, pod: &Value) -> Result<(), String> {
        if change.old.is_some() || !self.answers_arrive {
            return Ok(());
        }
        let Some(owner) = objects::controller(pod) else { return Ok(()) };
        let Some(most) = self.wanted.of(owner, change.at).max() else { return Ok(()) };
        let place = format!("pods/{}", objects::namespace(pod));
        let is_at_work =
            |pod: &Value| objects::controller(pod) == Some(owner) && !objects::is_over(pod) && !objects::is_going(pod);
        let at_work = objects::of(change.objects, &place).filter(|(_, pod)| is_at_work(pod)).count() as i64;
        if at_work > most {
            Err(format!("{} is one of {at_work}, at most {most} are wanted", change.key))
        } else {
            Ok(())
        }
    }
}
