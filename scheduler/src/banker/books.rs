//! The bank's books: what is free, held and may still be claimed, from a snapshot.
//!
//! A pod that grows in place can do so on its own node only, so what pods may claim for themselves counts on each node, and
//! what gangs may claim in the whole cluster, too. Who claims nothing is taken to keep for ever what it has.

use std::collections::{BTreeSet, HashMap};

use super::safety::{Outcome, Process, finish};
use crate::framework::{Claim, NodeInfo, PodInfo, Resources, Shown, Snapshot};

/// How many of those who could wait for each other a text names.
const NAMED: usize = 3;

/// A resource of one node, by its position, or of the whole cluster.
type Account<'a> = (Option<usize>, &'a str);

/// A pod, and the position of the node where it is to be.
type Coming<'a> = (&'a PodInfo, usize);

/// What is open in each account, and who may claim it.
#[derive(Debug)]
struct Books<'a> {
    snapshot: &'a Snapshot,
    numbers: HashMap<Account<'a>, usize>,
    accounts: Vec<Account<'a>>,
    processes: Vec<Process>,
    who: Vec<&'a str>,
    /// What the gang of each claims, by account of the whole cluster.
    gangs: Vec<Vec<(usize, i64)>>,
    /// Of the accounts that nobody needs, as much as anybody could want.
    available: Vec<i64>,
}

impl<'a> Books<'a> {
    /// The books of a snapshot, with a pod that is not on it yet.
    fn new(snapshot: &'a Snapshot, coming: Option<Coming<'a>>) -> Self {
        let mut books = Self {
            snapshot,
            numbers: HashMap::new(),
            accounts: Vec::new(),
            processes: Vec::new(),
            who: Vec::new(),
            gangs: Vec::new(),
            available: Vec::new(),
        };
        let mut known: HashMap<&str, usize> = HashMap::new();
        let nodes = snapshot.nodes().iter().enumerate();
        let pods = nodes.flat_map(|(at, node)| node.with_claims.iter().map(move |pod| (&**pod, at)));
        for (pod, at) in pods.chain(coming) {
            if let Some(claim) = pod.claim() {
                let process = *known.entry(&claim.who).or_insert_with(|| books.open(&claim.who));
                books.enter(process, pod, claim, at);
            }
        }
        books.settle(coming);
        books
    }

    fn open(&mut self, who: &'a str) -> usize {
        self.who.push(who);
        self.gangs.push(Vec::new());
        self.processes.push(Process::default());
        self.who.len() - 1
    }

    fn number(&mut self, account: Account<'a>) -> usize {
        *self.numbers.entry(account).or_insert_with(|| {
            self.accounts.push(account);
            self.accounts.len() - 1
        })
    }

    fn enter(&mut self, process: usize, pod: &PodInfo, claim: &'a Claim, at: usize) {
        for (name, most) in claim.own.amounts().filter(|(_, most)| *most > 0) {
            let held = pod.requests.amount(name);
            for place in [Some(at), None] {
                let account = self.number((place, name));
                self.processes[process].needs.push((account, most.saturating_sub(held).max(0)));
                self.processes[process].holds.push((account, held));
            }
        }
        for (name, most) in claim.group.iter().flat_map(Resources::amounts) {
            let account = self.number((None, name));
            self.gangs[process].push((account, most));
        }
    }

    /// Adds up what was entered. A gang may claim as much as it says, if that is more than its pods may.
    fn settle(&mut self, coming: Option<Coming<'_>>) {
        let mut is_needed = vec![false; self.accounts.len()];
        for (process, gang) in self.processes.iter_mut().zip(&mut self.gangs) {
            merge(&mut process.holds, i64::saturating_add);
            merge(&mut process.needs, i64::saturating_add);
            merge(gang, i64::max);
            for (account, most) in gang {
                process.needs.push((*account, most.saturating_sub(of(&process.holds, *account))));
            }
            merge(&mut process.needs, i64::max);
            process.needs.retain(|(_, need)| *need > 0);
            process.needs.iter().for_each(|(account, _)| is_needed[*account] = true);
        }
        let accounts = self.accounts.iter().zip(is_needed);
        let open = |(account, is_needed): (&Account<'_>, bool)| match is_needed {
            true => available(self.snapshot, *account, coming),
            false => i64::MAX,
        };
        self.available = accounts.map(open).collect();
    }

    fn outcome(&self) -> Outcome {
        finish(&self.available, &self.processes)
    }

    fn stuck(&self, outcome: &Outcome) -> BTreeSet<&'a str> {
        outcome.stuck.iter().map(|at| self.who[*at]).collect()
    }

    /// Who may wait for what, and how much of that there can be.
    fn wants(&self, at: usize, outcome: &Outcome) -> Option<String> {
        let (account, need) = self.processes[at].needs.iter().find(|(at, need)| *need > outcome.available[*at])?;
        let ((node, name), free) = (self.accounts[*account], outcome.available[*account].max(0));
        let node = node.and_then(|at| self.snapshot.nodes().get(at)).map(|node| format!(" on node {}", node.name));
        let (who, place) = (self.who[at], node.unwrap_or_default());
        Some(format!(
            "{who} may still claim {} {name}{place} where {} can be free",
            Shown(name, *need),
            Shown(name, free)
        ))
    }

    /// Whether the pods of a gang hold more than it said they ever would.
    fn exceeds(&self, who: &str) -> Option<String> {
        let at = self.who.iter().position(|known| *known == who)?;
        let held = |account: usize| of(&self.processes[at].holds, account);
        let (account, most) = self.gangs[at].iter().find(|(account, most)| held(*account) > *most)?;
        let name = self.accounts[*account].1;
        let (held, most) = (Shown(name, held(*account)), Shown(name, *most));
        Some(format!("{who} would hold {held} {name}, more than the {most} that it claims"))
    }
}

/// Sorts amounts by account, and makes one of those of the same account.
fn merge(amounts: &mut Vec<(usize, i64)>, join: fn(i64, i64) -> i64) {
    amounts.sort_unstable_by_key(|(account, _)| *account);
    amounts.dedup_by(|next, kept| {
        let is_same = next.0 == kept.0;
        if is_same {
            kept.1 = join(kept.1, next.1);
        }
        is_same
    });
}

/// The amount of an account among merged ones.
fn of(amounts: &[(usize, i64)], account: usize) -> i64 {
    amounts.binary_search_by_key(&account, |(account, _)| *account).map_or(0, |at| amounts[at].1)
}

/// What nobody holds of an account. What a node owes already is not taken from the others.
fn available(snapshot: &Snapshot, (at, name): Account<'_>, coming: Option<Coming<'_>>) -> i64 {
    let free = |at: usize, node: &NodeInfo| {
        let taken = coming.filter(|(_, target)| *target == at).map_or(0, |(pod, _)| pod.requests.amount(name));
        node.allocatable.amount(name).saturating_sub(node.requested.amount(name)).saturating_sub(taken)
    };
    let nodes = snapshot.nodes();
    match at {
        Some(at) => nodes.get(at).map_or(0, |node| free(at, node)),
        None => nodes.iter().enumerate().fold(0, |sum: i64, (at, node)| sum.saturating_add(free(at, node).max(0))),
    }
}

/// Why a pod must not go to a node: some could then wait for each other for ever. Nobody who could finish before may be
/// unable to afterwards, so a state that is unsafe already, since a node is gone, gets no worse.
pub fn refusal(snapshot: &Snapshot, pod: &PodInfo, node: &str) -> Option<String> {
    let coming = (pod, snapshot.position(node)?);
    let books = Books::new(snapshot, Some(coming));
    if let Some(why) = pod.claim().and_then(|claim| books.exceeds(&claim.who)) {
        return Some(why);
    }
    let outcome = books.outcome();
    if outcome.stuck.is_empty() {
        return None;
    }
    let before = Books::new(snapshot, None);
    if books.stuck(&outcome).is_subset(&before.stuck(&before.outcome())) {
        return None;
    }
    let waits = outcome.stuck.iter().filter_map(|at| books.wants(*at, &outcome)).take(NAMED);
    let waits: Vec<String> = waits.collect();
    let others = outcome.stuck.len() - waits.len();
    let and = if others > 0 { format!(", and {others} more") } else { String::new() };
    Some(format!("{} could not finish for certain: {}{and}", outcome.stuck.len(), waits.join(", ")))
}
