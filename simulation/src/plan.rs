//! What a seed stands for: which faults and which work there are in it. Every seed leaves most of them out, since two
//! faults can hide each other, and work that is always done leaves no room for the rare ("swarm testing").

use std::time::Duration;

use crate::dice::Dice;

/// How often what goes wrong between components and the API server; chances are per request.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// A request never arrives.
    pub lose_request: f64,
    /// It is carried out, and the answer never arrives.
    pub lose_answer: f64,
    /// The server says that it is busy or broken, or, to a PUT, that somebody was quicker.
    pub refuse: f64,
    /// Most milliseconds that a request or an answer takes.
    pub delay: u64,
    /// A frame of a watch comes later than it could, and with it all after it.
    pub late: f64,
    /// A watch ends in front of a frame.
    pub cut: f64,
    /// A watch shows nothing for a while.
    pub stall: f64,
    /// A watch that would go on where it was is told that this is too long ago.
    pub gone: f64,
}

/// What happens to whole processes and machines.
#[derive(Clone, Debug, Default)]
pub struct Disasters {
    /// Components are killed and started anew.
    pub kills: bool,
    /// Components lose touch with the API server.
    pub partitions: bool,
    /// The API server is stopped and started on the same store.
    pub servers: bool,
    /// Nodes fall silent and come back.
    pub nodes: bool,
    /// The wall clock is set forward or back.
    pub clock: bool,
}

/// Which work a user gives the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Deployments,
    StatefulSets,
    DaemonSets,
    Jobs,
    CronJobs,
    Services,
    Budgets,
    Namespaces,
    Nodes,
    Gangs,
    Claims,
    Quotas,
}

const WORK: [Work; 12] = [
    Work::Deployments,
    Work::StatefulSets,
    Work::DaemonSets,
    Work::Jobs,
    Work::CronJobs,
    Work::Services,
    Work::Budgets,
    Work::Namespaces,
    Work::Nodes,
    Work::Gangs,
    Work::Claims,
    Work::Quotas,
];

/// Everything that a seed decides beforehand.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub faults: Faults,
    pub disasters: Disasters,
    pub work: Vec<Work>,
    pub nodes: usize,
    /// Whether each controller manager and scheduler has another that stands by.
    pub standby: bool,
    /// Whether clients try again by themselves what the server refuses for now, as client-go does.
    pub retries: bool,
    /// How often a pod fails that could have gone on.
    pub pod_failures: f64,
    /// How long the user works and faults happen.
    pub storm: Duration,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Self {
        let dice = &mut Dice::new(seed, "plan");
        let fair = dice.chance(0.15);
        let faults = if fair { Faults::default() } else { faults(dice) };
        let disasters = if fair { Disasters::default() } else { disasters(dice) };
        Self {
            seed,
            faults,
            work: work(dice),
            nodes: 2 + dice.index(3),
            standby: disasters.kills || disasters.partitions || dice.chance(0.2),
            retries: dice.chance(0.5),
            pod_failures: if dice.chance(0.3) { 0.1 } else { 0.0 },
            storm: Duration::from_secs(dice.number(60..180)),
            disasters,
        }
    }

    /// Whether nothing but the user's work happens.
    pub fn is_fair(&self) -> bool {
        let Faults { lose_request, lose_answer, refuse, late, cut, stall, gone, .. } = self.faults;
        let Disasters { kills, partitions, servers, nodes, clock } = self.disasters;
        [lose_request, lose_answer, refuse, late, cut, stall, gone].iter().all(|chance| *chance == 0.0)
            && ![kills, partitions, servers, nodes, clock].contains(&true)
    }
}

fn faults(dice: &mut Dice) -> Faults {
    let mut sometimes = |chance: f64| if dice.chance(0.35) { chance } else { 0.0 };
    Faults {
        lose_request: sometimes(0.05),
        lose_answer: sometimes(0.05),
        refuse: sometimes(0.08),
        late: sometimes(0.1),
        cut: sometimes(0.02),
        stall: sometimes(0.01),
        gone: sometimes(0.3),
        delay: if dice.chance(0.5) { *dice.pick(&[5, 50, 800]) } else { 0 },
    }
}

fn disasters(dice: &mut Dice) -> Disasters {
    let mut is = |often: f64| dice.chance(often);
    Disasters { kills: is(0.35), partitions: is(0.3), servers: is(0.2), nodes: is(0.25), clock: is(0.1) }
}

/// Up to four kinds of work, never none.
fn work(dice: &mut Dice) -> Vec<Work> {
    let mut work: Vec<Work> = Vec::new();
    for _ in 0..1 + dice.index(4) {
        let next = *dice.pick(&WORK);
        if !work.contains(&next) {
            work.push(next);
        }
    }
    if !work.iter().any(|work| matches!(work, Work::Deployments | Work::StatefulSets | Work::Jobs | Work::Gangs)) {
        work.push(*dice.pick(&[Work::Deployments, Work::StatefulSets, Work::Jobs]));
    }
    work
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_some_seeds_everything_is_there_and_left_out() {
        let plans: Vec<_> = (0..300).map(Plan::of).collect();
        for work in WORK {
            let count = plans.iter().filter(|plan| plan.work.contains(&work)).count();
            assert!((20..280).contains(&count), "{work:?} in {count} of 300");
        }
        assert!(plans.iter().any(Plan::is_fair) && !plans.iter().all(Plan::is_fair));
        let is =
            |check: fn(&Plan) -> bool| assert!((10..290).contains(&plans.iter().filter(|plan| check(plan)).count()));
        is(|plan| plan.faults.lose_answer > 0.0);
        is(|plan| plan.faults.gone > 0.0);
        is(|plan| plan.disasters.servers);
        is(|plan| plan.disasters.clock);
    }
}
