//! Which pod goes first when a node runs short (upstream: rankMemoryPressure, rankDiskPressureFunc and rankPIDPressure).

use std::cmp::Reverse;
use std::time::Duration;

use facts::pods::demand::Demand;
use k8s_openapi::api::core::v1::Pod;

use super::state::Due;
use crate::pod;
use crate::pods::status::Verdict;
use crate::signals::Resource;

/// A pod that is evicted at once has this long, as upstream's.
const AT_ONCE: Duration = Duration::from_secs(1);

/// What a pod uses of what is short.
#[derive(Debug)]
pub(super) struct Use {
    pub(super) pod: Pod,
    /// Bytes, or processes, of the whole pod.
    pub(super) used: i128,
    /// The same by container.
    pub(super) containers: Vec<(String, i128)>,
}

impl Use {
    /// What the pod asked for; nobody asks for processes or files.
    fn requested(&self, resource: Resource) -> i128 {
        let requests = Demand::of(&self.pod).requests();
        amount_of(&requests, resource)
    }

    fn excess(&self, resource: Resource) -> i128 {
        self.used - self.requested(resource)
    }

    /// Why the pod goes, in upstream's words.
    pub(super) fn verdict(&self, due: &Due) -> Verdict {
        let resource = due.signal.resource();
        let mut message = format!("The node was low on resource: {}. ", resource.name());
        let unit = |amount: u64| quantity(amount.into(), resource);
        message += &format!("Threshold quantity: {}, available: {}. ", unit(due.least), unit(due.seen.available));
        for (name, used) in &self.containers {
            let Some((_, container)) = pod::container(&self.pod, name) else { continue };
            let asked = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
            let asked = asked.and_then(|asked| asked.get(resource.name()));
            let least = asked.and_then(crate::resources::value).unwrap_or(0);
            if *used > least && !matches!(resource, Resource::Inodes | Resource::Pids) {
                let asked = asked.map_or("0", |asked| &asked.0);
                message += &format!(
                    "Container {name} was using {}, request is {asked}, has larger consumption of {}. ",
                    quantity(*used, resource),
                    resource.name()
                );
            }
        }
        let grace = due.grace.map_or(AT_ONCE, |longest| longest.min(pod::grace(&self.pod)).max(AT_ONCE));
        Verdict::evicted(message, grace)
    }
}

fn amount_of(requests: &facts::amounts::Amounts<'_>, resource: Resource) -> i128 {
    let name = match resource {
        Resource::Memory | Resource::Disk => resource.name(),
        Resource::Inodes | Resource::Pids => return 0,
    };
    requests.get(name).map_or(0, |amount| amount.scaled(0).into())
}

/// As Go prints a quantity: the largest unit in which it is whole.
fn quantity(amount: i128, resource: Resource) -> String {
    if matches!(resource, Resource::Inodes | Resource::Pids) {
        return amount.to_string();
    }
    let units = ["", "Ki", "Mi", "Gi", "Ti", "Pi"];
    let (mut amount, mut unit) = (amount, 0);
    while amount != 0 && amount % 1024 == 0 && unit + 1 < units.len() {
        (amount, unit) = (amount / 1024, unit + 1);
    }
    format!("{amount}{}", units[unit])
}

/// Those that use more than they asked for go first, of them those of the lowest priority, of them those that use most
/// beyond that.
pub(super) fn first_to_go(mut uses: Vec<Use>, resource: Resource) -> Vec<Use> {
    let priority = |one: &Use| pod::spec(&one.pod).priority.unwrap_or(0);
    if matches!(resource, Resource::Memory | Resource::Disk) {
        uses.sort_by_cached_key(|one| {
            let excess = one.excess(resource);
            (excess <= 0, priority(one), Reverse(excess))
        });
    } else {
        uses.sort_by_cached_key(|one| (priority(one), Reverse(one.used)));
    }
    uses
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one(name: &str, request: &str, priority: i32, used: i128) -> Use {
        let pod = json!({"metadata": {"name": name}, "spec": {"priority": priority, "terminationGracePeriodSeconds": 9,
            "containers": [{"name": "c", "resources": {"requests": {"memory": request}}}]}});
        Use { pod: serde_json::from_value(pod).unwrap(), used, containers: vec![("c".to_owned(), used)] }
    }

    fn names(uses: Vec<Use>, resource: Resource) -> Vec<String> {
        first_to_go(uses, resource).iter().map(|one| pod::name(&one.pod).to_owned()).collect()
    }

    #[test]
    fn who_uses_more_than_was_asked_for_goes_first() {
        let uses = || {
            vec![
                one("modest", "1000", 0, 900),
                one("important", "100", 10, 5000),
                one("greedy", "100", 0, 800),
                one("greedier", "10", 0, 800),
            ]
        };
        assert_eq!(names(uses(), Resource::Memory), ["greedier", "greedy", "important", "modest"]);
        assert_eq!(names(uses(), Resource::Pids), ["modest", "greedy", "greedier", "important"]);
    }

    #[test]
    fn quantities_print_as_in_go() {
        for (amount, expected) in
            [(0, "0"), (1023, "1023"), (1024, "1Ki"), (3 << 30, "3Gi"), ((3 << 30) + 1024, "3145729Ki")]
        {
            assert_eq!(quantity(amount, Resource::Memory), expected);
        }
        assert_eq!(quantity(2048, Resource::Pids), "2048");
    }
}
