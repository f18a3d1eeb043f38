//! Can all finish? Dijkstra's safety algorithm, in the time that sorting the needs takes.
//!
//! Whoever can get the rest of what it may claim can finish, and then gives back all that it holds. The order does not
//! matter: giving back never makes it harder for another. So each resource keeps its open needs sorted, and is looked at
//! again only when some of it was given back.

/// Somebody who may claim more, and gives everything back in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Process {
    /// What it may still claim, as resources (by number) and amounts; a resource at most once.
    pub needs: Vec<(usize, i64)>,
    /// What it holds.
    pub holds: Vec<(usize, i64)>,
}

/// What is left when all who can have finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// What is then available of each resource.
    pub available: Vec<i64>,
    /// Those who cannot finish for certain, in the order given. None of them: the state is safe.
    pub stuck: Vec<usize>,
}

/// Lets everybody finish who can. Resources that are not in `available` are plentiful.
pub(super) fn finish(available: &[i64], processes: &[Process]) -> Outcome {
    let mut available = available.to_vec();
    // By resource, those whose need is not met, the greatest need first; and how many such needs each process has.
    let mut open: Vec<Vec<(i64, usize)>> = vec![Vec::new(); available.len()];
    let mut unmet = vec![0_usize; processes.len()];
    for (at, process) in processes.iter().enumerate() {
        for (resource, need) in &process.needs {
            if available.get(*resource).is_some_and(|amount| need > amount) {
                open[*resource].push((*need, at));
                unmet[at] += 1;
            }
        }
    }
    for needs in &mut open {
        needs.sort_unstable_by(|a, b| b.cmp(a));
    }
    let mut able: Vec<usize> = (0..processes.len()).filter(|at| unmet[*at] == 0).collect();
    while let Some(at) = able.pop() {
        for (resource, amount) in &processes[at].holds {
            let Some(total) = available.get_mut(*resource) else { continue };
            *total = total.saturating_add(*amount);
            while let Some((_, met)) = open[*resource].pop_if(|(need, _)| *need <= *total) {
                unmet[met] -= 1;
                if unmet[met] == 0 {
                    able.push(met);
                }
            }
        }
    }
    let stuck = (0..processes.len()).filter(|at| unmet[*at] > 0).collect();
    Outcome { available, stuck }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    /// Whether some order lets all finish, by trying them all.
    fn some_order_works(available: &[i64], processes: &[Process], left: &[usize]) -> bool {
        left.is_empty()
            || left.iter().any(|at| {
                let process = &processes[*at];
                let fits = process.needs.iter().all(|(resource, need)| *need <= available[*resource]);
                fits && {
                    let mut after = available.to_vec();
                    process.holds.iter().for_each(|(resource, amount)| after[*resource] += amount);
                    let rest: Vec<usize> = left.iter().copied().filter(|other| other != at).collect();
                    some_order_works(&after, processes, &rest)
                }
            })
    }

    fn random_process(random: &mut SmallRng, resources: usize) -> Process {
        let mut amounts = |most: i64| -> Vec<(usize, i64)> {
            (0..resources)
                .filter(|_| random.random_bool(0.7))
                .collect::<Vec<_>>()
                .into_iter()
                .map(|resource| (resource, random.random_range(0..=most)))
                .collect()
        };
        Process { needs: amounts(6), holds: amounts(4) }
    }

    #[test]
    fn a_state_is_safe_exactly_if_some_order_works() {
        let mut random = SmallRng::seed_from_u64(1965);
        let mut seen = [0, 0];
        for _ in 0..20_000 {
            let resources = random.random_range(1..=3);
            let count = random.random_range(0..=5);
            let processes: Vec<Process> = (0..count).map(|_| random_process(&mut random, resources)).collect();
            let available: Vec<i64> = (0..resources).map(|_| random.random_range(0..=5)).collect();
            let all: Vec<usize> = (0..processes.len()).collect();
            let want = some_order_works(&available, &processes, &all);
            let got = finish(&available, &processes);
            assert_eq!(got.stuck.is_empty(), want, "{available:?} {processes:?}");
            seen[usize::from(want)] += 1;
        }
        assert!(seen.iter().all(|count| *count > 1000), "both happen: {seen:?}");
    }

    /// Everybody asks for a bit more at a time, and is granted it if the state stays safe.
    #[test]
    fn whoever_only_grants_what_is_safe_is_never_stuck() {
        let mut random = SmallRng::seed_from_u64(7);
        let (mut finished, mut refused) = (0, 0);
        for _ in 0..500 {
            let capacity = random.random_range(4..=12);
            let claims: Vec<i64> = (0..random.random_range(2..=6)).map(|_| random.random_range(1..=capacity)).collect();
            let mut held = vec![0; claims.len()];
            let mut left: Vec<usize> = (0..claims.len()).collect();
            let mut patience = 0;
            while !left.is_empty() {
                patience += 1;
                assert!(patience < 10_000, "nobody can go on: {claims:?} {held:?}");
                let at = left[random.random_range(0..left.len())];
                let step = random.random_range(1..=claims[at] - held[at]);
                let free = capacity - held.iter().sum::<i64>();
                if step > free {
                    continue;
                }
                held[at] += step;
                let processes: Vec<Process> = (0..claims.len())
                    .map(|at| Process { needs: vec![(0, claims[at] - held[at])], holds: vec![(0, held[at])] })
                    .collect();
                let all = left.clone();
                let safe = finish(&[free - step], &left.iter().map(|at| processes[*at].clone()).collect::<Vec<_>>());
                assert_eq!(safe.stuck.is_empty(), some_order_works(&[free - step], &processes, &all));
                if !safe.stuck.is_empty() {
                    held[at] -= step;
                    refused += 1;
                } else if held[at] == claims[at] {
                    (held[at], finished) = (0, finished + 1);
                    left.retain(|other| *other != at);
                }
            }
        }
        assert!(finished > 1000 && refused > 500, "{finished} finished, {refused} refused");
    }

    #[test]
    fn those_who_wait_for_each_other_are_named() {
        let process = |need, hold| Process { needs: vec![(0, need)], holds: vec![(0, hold)] };
        let outcome = finish(&[1], &[process(1, 1), process(5, 2), process(5, 3), process(0, 0)]);
        assert_eq!(outcome, Outcome { available: vec![2], stuck: vec![1, 2] });
        assert!(finish(&[i64::MAX], &[process(i64::MAX, i64::MAX)]).stuck.is_empty());
        assert_eq!(finish(&[-1], &[process(0, 0)]).stuck, [0], "what is owed already is not there");
    }
}
