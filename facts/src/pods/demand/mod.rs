//! What a pod asks of its node (upstream: `PodRequests` and `PodLimits` of k8s.io/component-helpers/resource, whose
//! computation is part of the API): sidecars (KEP-753), overhead (KEP-688), resizes (KEP-1287), and resources of the pod
//! as a whole (KEP-2837, KEP-5419).

use k8s_openapi::api::core::v1::{self, Pod, ResourceRequirements};
use serde_json::{Map, Value};

use crate::amounts::{Amounts, List, add, raise};
use crate::conditions;

const PENDING: &str = "PodResizePending";
const INFEASIBLE: &str = "Infeasible";

/// What a pod and its containers ask for, were promised and have. The API server reads it of a tree, others of a type.
#[derive(Clone, Debug, Default)]
pub struct Demand<'a> {
    containers: Vec<Share<'a>>,
    /// With those that run beside all that start after them marked.
    init_containers: Vec<(Share<'a>, bool)>,
    /// Of the pod as a whole.
    pub(in crate::pods) own: Share<'a>,
    overhead: Option<List<'a>>,
    /// The node has refused a resize: what the spec asks for will not come.
    is_infeasible: bool,
}

/// The sizes of a container, or of the pod as a whole, in spec and status.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::pods) struct Share<'a> {
    pub(in crate::pods) asked: Sizes<'a>,
    promised: Option<List<'a>>,
    given: Sizes<'a>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(in crate::pods) struct Sizes<'a> {
    pub(in crate::pods) requests: Option<List<'a>>,
    pub(in crate::pods) limits: Option<List<'a>>,
}

/// Which sizes count; where the status does not say some, those before them.
#[derive(Clone, Copy)]
enum View {
    Asked,
    Promised,
    Given,
}

const ALL: [View; 3] = [View::Asked, View::Promised, View::Given];

/// Chooses a list of a share; what is asked for does not count where the node refused it.
type Choose<'a> = fn(&Share<'a>, View, is_refused: bool) -> Option<List<'a>>;

/// Whether a pod may set this resource for all its containers together.
pub fn is_pod_level(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory") || resource.starts_with("hugepages-")
}

impl<'a> Demand<'a> {
    /// Reads a pod.
    pub fn of(pod: &'a Pod) -> Self {
        let Some(spec) = &pod.spec else { return Self::default() };
        let status = pod.status.as_ref();
        let lists = status.iter().flat_map(|status| [&status.container_statuses, &status.init_container_statuses]);
        let statuses: Vec<_> = lists.flatten().flatten().collect();
        let share = |container: &'a v1::Container| {
            let known = statuses.iter().find(|known| known.name == container.name);
            Share {
                asked: Sizes::of(container.resources.as_ref()),
                promised: known.and_then(|known| known.allocated_resources.as_ref()).map(List::Typed),
                given: Sizes::of(known.and_then(|known| known.resources.as_ref())),
            }
        };
        let own = Share {
            asked: Sizes::of(spec.resources.as_ref()),
            promised: status.and_then(|status| status.allocated_resources.as_ref()).map(List::Typed),
            given: Sizes::of(status.and_then(|status| status.resources.as_ref())),
        };
        let pending = crate::pods::condition(pod, PENDING);
        Self {
            containers: spec.containers.iter().map(share).collect(),
            init_containers: spec
                .init_containers
                .iter()
                .flatten()
                .map(|it| (share(it), crate::pods::is_sidecar(it)))
                .collect(),
            own,
            overhead: spec.overhead.as_ref().map(List::Typed),
            is_infeasible: pending.is_some_and(|pending| pending.reason.as_deref() == Some(INFEASIBLE)),
        }
    }

    /// Reads the trees of a pod's spec and status.
    pub fn of_tree(spec: &'a Map<String, Value>, status: Option<&'a Value>) -> Self {
        let of_spec = |name: &str| items(spec.get(name));
        let of_status = |name: &str| items(status.and_then(|status| status.get(name)));
        let statuses: Vec<_> = of_status("containerStatuses").chain(of_status("initContainerStatuses")).collect();
        let share = |container: &'a Value| {
            let known = statuses.iter().find(|known| known.get("name") == container.get("name"));
            Share::of_tree(container.get("resources"), known.copied())
        };
        let is_sidecar = |container: &Value| container.get("restartPolicy").and_then(Value::as_str) == Some("Always");
        let pending = conditions::find(status, PENDING).and_then(|pending| pending.get("reason")?.as_str());
        Self {
            containers: of_spec("containers").map(share).collect(),
            init_containers: of_spec("initContainers").map(|it| (share(it), is_sidecar(it))).collect(),
            own: Share::of_tree(spec.get("resources"), status),
            overhead: list(spec.get("overhead")),
            is_infeasible: pending == Some(INFEASIBLE),
        }
    }

    /// The same without what it costs to run a pod of its class.
    #[must_use]
    pub fn without_overhead(self) -> Self {
        Self { overhead: None, ..self }
    }

    /// What the spec requests.
    pub fn requests(&self) -> Amounts<'a> {
        self.with_overhead(self.most(&[View::Asked], false, Share::requests, &Amounts::new()))
    }

    /// What the spec's containers request: the sum of those that run together, or the largest moment of the start-up.
    pub fn requests_of_containers(&self) -> Amounts<'a> {
        self.together(|share| read(share.asked.requests))
    }

    /// The most that the pod requests, was promised and has: nobody else can have it.
    pub fn reserved(&self) -> Amounts<'a> {
        self.reserved_assuming(&Amounts::new())
    }

    /// As [`Demand::reserved`], where containers that do not say how much they request of a resource get what is assumed.
    pub fn reserved_assuming(&self, assumed: &Amounts<'a>) -> Amounts<'a> {
        self.with_overhead(self.most(self.views(), self.is_infeasible, Share::requests, assumed))
    }

    /// The limits that the spec sets. A pod's overhead raises those that there are.
    pub fn limits(&self) -> Amounts<'a> {
        self.raised(self.most(&[View::Asked], false, Share::limits, &Amounts::new()))
    }

    /// The most that the spec sets as limits and the pod has.
    pub fn reserved_limits(&self) -> Amounts<'a> {
        self.raised(self.most(self.views(), self.is_infeasible, Share::limits, &Amounts::new()))
    }

    /// Whether the pod as a whole requests something.
    pub fn has_own_requests(&self) -> bool {
        says_pod_level(self.own.asked.requests)
    }

    /// Whether the pod as a whole requests something or limits itself.
    pub fn is_sized(&self) -> bool {
        self.has_own_requests() || says_pod_level(self.own.asked.limits)
    }

    /// Whether a resource is limited for the pod as a whole, or for each container.
    pub fn is_limited(&self, resource: &str) -> bool {
        let limits = |share: &Share<'a>| read(share.asked.limits).get(resource).is_some_and(|limit| !limit.is_zero());
        limits(&self.own) || self.shares().all(limits)
    }

    /// Those views that can differ.
    fn views(&self) -> &'static [View] {
        let is_new = self.shares().chain([&self.own]).all(Share::is_new);
        if is_new { &ALL[..1] } else { &ALL }
    }

    pub(in crate::pods) fn shares(&self) -> impl Iterator<Item = &Share<'a>> {
        self.containers.iter().chain(self.init_containers.iter().map(|(share, _)| share))
    }

    fn most(&self, views: &[View], is_refused: bool, choose: Choose<'a>, assumed: &Amounts<'a>) -> Amounts<'a> {
        let (mut total, mut own) = (Amounts::new(), Amounts::new());
        for view in views {
            raise(&mut total, &self.together(|share| filled(read(choose(share, *view, is_refused)), assumed)));
            raise(&mut own, &read(choose(&self.own, *view, is_refused)));
        }
        if says_pod_level(choose(&self.own, View::Asked, false)) {
            total.extend(own.into_iter().filter(|(name, _)| is_pod_level(name)));
        }
        total
    }

    /// The sum over the containers that run together, or the most that is needed while an init container runs.
    fn together(&self, of: impl Fn(&Share<'a>) -> Amounts<'a>) -> Amounts<'a> {
        let (mut total, mut sidecars, mut peak) = (Amounts::new(), Amounts::new(), Amounts::new());
        self.containers.iter().for_each(|container| add(&mut total, &of(container)));
        for (container, is_sidecar) in &self.init_containers {
            let own = of(container);
            let mut moment = sidecars.clone();
            add(&mut moment, &own);
            raise(&mut peak, &moment);
            if *is_sidecar {
                sidecars = moment;
            }
        }
        add(&mut total, &sidecars);
        raise(&mut total, &peak);
        total
    }

    fn with_overhead(&self, mut total: Amounts<'a>) -> Amounts<'a> {
        add(&mut total, &read(self.overhead));
        total
    }

    fn raised(&self, mut limits: Amounts<'a>) -> Amounts<'a> {
        for (name, amount) in read(self.overhead) {
            if let Some(limit) = limits.get_mut(name).filter(|limit| !limit.is_zero()) {
                *limit += amount;
            }
        }
        limits
    }
}

impl<'a> Share<'a> {
    fn of_tree(resources: Option<&'a Value>, status: Option<&'a Value>) -> Self {
        Self {
            asked: Sizes::of_tree(resources),
            promised: list(status.and_then(|status| status.get("allocatedResources"))),
            given: Sizes::of_tree(status.and_then(|status| status.get("resources"))),
        }
    }

    /// Whether the status says nothing of it.
    fn is_new(&self) -> bool {
        self.promised.is_none() && self.given.requests.is_none() && self.given.limits.is_none()
    }

    fn requests(&self, view: View, is_refused: bool) -> Option<List<'a>> {
        let asked = self.asked.requests.filter(|_| !is_refused);
        match view {
            View::Asked => asked,
            View::Promised => self.promised.or(asked),
            View::Given => self.given.requests.or(self.promised).or(asked),
        }
    }

    fn limits(&self, view: View, is_refused: bool) -> Option<List<'a>> {
        let asked = self.asked.limits.filter(|_| !is_refused);
        match view {
            View::Asked | View::Promised => asked,
            View::Given => self.given.limits.or(asked),
        }
    }
}

impl<'a> Sizes<'a> {
    fn of(resources: Option<&'a ResourceRequirements>) -> Self {
        let typed = |list: fn(&ResourceRequirements) -> Option<&_>| resources.and_then(list).map(List::Typed);
        Self { requests: typed(|it| it.requests.as_ref()), limits: typed(|it| it.limits.as_ref()) }
    }

    fn of_tree(resources: Option<&'a Value>) -> Self {
        let of = |name: &str| list(resources.and_then(|resources| resources.get(name)));
        Self { requests: of("requests"), limits: of("limits") }
    }
}

fn items(list: Option<&Value>) -> impl Iterator<Item = &Value> {
    list.and_then(Value::as_array).into_iter().flatten()
}

fn list(value: Option<&Value>) -> Option<List<'_>> {
    value.and_then(Value::as_object).map(List::Tree)
}

pub(in crate::pods) fn read(list: Option<List<'_>>) -> Amounts<'_> {
    list.map(List::amounts).unwrap_or_default()
}

fn filled<'a>(mut amounts: Amounts<'a>, assumed: &Amounts<'a>) -> Amounts<'a> {
    for (name, least) in assumed {
        amounts.entry(name).or_insert(*least);
    }
    amounts
}

fn says_pod_level(list: Option<List<'_>>) -> bool {
    list.is_some_and(|list| list.names().any(is_pod_level))
}

#[cfg(test)]
mod tests;
