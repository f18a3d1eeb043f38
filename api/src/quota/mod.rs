//! What objects cost by the names that ResourceQuotas limit, and which quotas they concern.
//!
//! Admission charges for what requests add, the quota controller counts what there is: both measure with this.

mod devices;
mod pod;
mod storage;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::Object;
use crate::quantity::{Format, Quantity};

/// Amounts by the names that quotas use.
pub type Amounts = BTreeMap<String, Quantity>;

/// Plain objects that quotas also count by their plural alone.
const ALIASES: [&str; 4] = ["configmaps", "replicationcontrollers", "resourcequotas", "secrets"];
/// What is not stored, and events.
const IGNORED: [(&str, &str); 10] = [
    ("", "bindings"),
    ("", "componentstatuses"),
    ("", "events"),
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
    ("events.k8s.io", "events"),
];
const SERVICES: [&str; 4] = ["count/services", "services", "services.loadbalancers", "services.nodeports"];

/// How the objects of a resource are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evaluator<'a> {
    /// What pods ask for, besides their number.
    Pods,
    /// Services, their load balancers and node ports.
    Services,
    /// Claims of volumes and what they ask for, in all and of each storage class.
    VolumeClaims,
    /// Claims of devices, and how many of each device class they ask for at most.
    DeviceClaims,
    /// Objects that are only counted.
    Objects {
        /// The resource's group.
        group: &'a str,
        /// The resource's plural.
        plural: &'a str,
    },
}

impl<'a> Evaluator<'a> {
    /// The evaluator of a resource; `None` if quotas never limit it.
    pub fn of(group: &'a str, plural: &'a str) -> Option<Self> {
        if IGNORED.contains(&(group, plural)) {
            return None;
        }
        Some(match (group, plural) {
            ("", "pods") => Self::Pods,
            ("", "services") => Self::Services,
            ("", "persistentvolumeclaims") => Self::VolumeClaims,
            ("resource.k8s.io", "resourceclaims") => Self::DeviceClaims,
            _ => Self::Objects { group, plural },
        })
    }

    /// The evaluator of the plain objects that a quota counts by this name; `None` if the name means something else.
    pub fn of_plain_name(name: &'a str) -> Option<Self> {
        let (group, plural) = match name.strip_prefix("count/") {
            Some(counted) => counted.split_once('.').map_or(("", counted), |(plural, group)| (group, plural)),
            None => ALIASES.iter().find(|alias| **alias == name).map(|alias| ("", *alias))?,
        };
        Self::of(group, plural).filter(|evaluator| matches!(evaluator, Self::Objects { .. }))
    }

    /// Whether objects of this resource use up what a quota limits by this name.
    pub fn counts(self, name: &str) -> bool {
        match self {
            Self::Pods => pod::counts(name),
            Self::Services => SERVICES.contains(&name),
            Self::VolumeClaims => storage::counts(name),
            Self::DeviceClaims => devices::counts(name),
            Self::Objects { group, plural } => {
                name == object_count(group, plural) || (group.is_empty() && plural == name && ALIASES.contains(&plural))
            }
        }
    }

    /// Whether a new object is charged for when it comes by this subresource.
    pub fn charges_create(self, subresource: &str) -> bool {
        subresource.is_empty()
    }

    /// Whether a change of an object by this subresource is charged for.
    pub fn charges_update(self, subresource: &str) -> bool {
        match self {
            Self::Pods => subresource == "resize",
            Self::Services | Self::DeviceClaims => subresource.is_empty(),
            Self::VolumeClaims => matches!(subresource, "" | "status"),
            Self::Objects { .. } => false,
        }
    }

    /// Measures an object.
    pub fn measure(self, object: &Object) -> Measure {
        match self {
            Self::Pods => pod::measure(object),
            Self::Services => Measure::of(services(object)),
            Self::VolumeClaims => storage::measure(object),
            Self::DeviceClaims => Measure::of(devices::usage(object)),
            Self::Objects { group, plural } => {
                let mut usage = Amounts::from([(object_count(group, plural), one())]);
                if group.is_empty() && ALIASES.contains(&plural) {
                    usage.insert(plural.to_owned(), one());
                }
                Measure::of(usage)
            }
        }
    }

    /// Whether a quota that limits `hard` concerns an object.
    pub fn concerns(self, quota: &Object, hard: &Amounts, measure: &Measure) -> bool {
        hard.keys().any(|name| self.counts(name)) && measure.is_in_scope(quota)
    }
}

/// What a pod must say since a quota limits it, but does not: `cpu for: a,b; memory for: b`.
pub fn unsaid(pod: &Object, hard: &Amounts) -> Option<String> {
    pod::unsaid(pod, hard)
}

/// What quotas need to know of an object.
#[derive(Clone, Debug, Default)]
pub struct Measure {
    /// What it costs as long as it is stored.
    stored: Amounts,
    /// What it costs until its end.
    living: Amounts,
    end: End,
    scopes: Scopes,
}

/// When an object costs nothing more but its storage.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum End {
    #[default]
    Never,
    Past,
    /// A pod that is not gone in time, since its node is lost, must not keep others from coming.
    After(Timestamp),
}

/// What decides on the scopes of quotas.
#[derive(Clone, Debug, Default)]
enum Scopes {
    /// No scope ever covers such objects.
    #[default]
    None,
    Pod(pod::Facts),
    /// The volume attribute classes that a claim has or shall have.
    VolumeClaim(Vec<String>),
}

impl Measure {
    fn of(stored: Amounts) -> Self {
        Self { stored, ..Self::default() }
    }

    /// What the object uses.
    pub fn usage(&self, now: Timestamp) -> Amounts {
        let mut usage = self.stored.clone();
        let is_over = match self.end {
            End::Never => false,
            End::Past => true,
            End::After(end) => now > end,
        };
        if !is_over {
            add_all(&mut usage, &self.living);
        }
        usage
    }

    /// When the usage will change by itself.
    pub fn ends(&self, now: Timestamp) -> Option<Timestamp> {
        match self.end {
            End::After(end) if end >= now => Some(end),
            _ => None,
        }
    }

    /// Whether all scopes of a quota cover the object.
    pub fn is_in_scope(&self, quota: &Object) -> bool {
        let list = |path: &[&str]| quota.get(path).and_then(Value::as_array).into_iter().flatten();
        let mut scopes = list(&["spec", "scopes"]).filter_map(Value::as_str);
        let mut expressions = list(&["spec", "scopeSelector", "matchExpressions"]);
        scopes.all(|scope| self.is_covered(scope, "Exists", &[]))
            && expressions.all(|expression| {
                let text = |field: &str| expression.get(field).and_then(Value::as_str).unwrap_or_default();
                let values = expression.get("values").and_then(Value::as_array).into_iter().flatten();
                let values: Vec<&str> = values.filter_map(Value::as_str).collect();
                self.is_covered(text("scopeName"), text("operator"), &values)
            })
    }

    fn is_covered(&self, scope: &str, operator: &str, values: &[&str]) -> bool {
        match &self.scopes {
            Scopes::None => false,
            Scopes::Pod(facts) => facts.are_covered(scope, operator, values),
            Scopes::VolumeClaim(classes) => {
                let classes: Vec<&str> = classes.iter().map(String::as_str).collect();
                scope == "VolumeAttributesClass" && selects(operator, values, &classes)
            }
        }
    }
}

/// Whether an operator with `values` selects what has these classes.
fn selects(operator: &str, values: &[&str], classes: &[&str]) -> bool {
    match operator {
        "In" => classes.iter().any(|class| values.contains(class)),
        "NotIn" => classes.is_empty() || classes.iter().any(|class| !values.contains(class)),
        "DoesNotExist" => classes.is_empty(),
        _ => !classes.is_empty(),
    }
}

/// The amounts that a map of quantities says; what is no quantity is left out.
pub fn amounts(map: Option<&Value>) -> Amounts {
    facts::amounts::read(map).into_iter().map(|(name, amount)| (name.to_owned(), amount)).collect()
}

/// Adds amounts to others.
pub fn add_all(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        *total.entry(name.clone()).or_default() += *amount;
    }
}

/// What `after` is above `before`, by name; nothing is below zero.
pub fn growth(after: &Amounts, before: &Amounts) -> Amounts {
    let left = after.iter().map(|(name, amount)| {
        let left = before.get(name).map_or(*amount, |before| *amount - *before);
        (name.clone(), left.max(Quantity::zero()))
    });
    left.collect()
}

fn object_count(group: &str, plural: &str) -> String {
    if group.is_empty() { format!("count/{plural}") } else { format!("count/{plural}.{group}") }
}

fn one() -> Quantity {
    number(1)
}

fn number(number: usize) -> Quantity {
    Quantity::new(i64::try_from(number).unwrap_or(i64::MAX), Format::DecimalSi)
}

/// Node ports are not allocated yet when a service is charged for: what counts is what it will get.
fn services(service: &Object) -> Amounts {
    let ports = || service.get(&["spec", "ports"]).and_then(Value::as_array).into_iter().flatten();
    let allocates = service.get(&["spec", "allocateLoadBalancerNodePorts"]) != Some(&Value::Bool(false));
    let chosen = || ports().filter(|port| port.get("nodePort").and_then(Value::as_i64).unwrap_or(0) != 0).count();
    let (balancers, node_ports) = match service.text(&["spec", "type"]) {
        "NodePort" => (0, ports().count()),
        "LoadBalancer" if allocates => (1, ports().count()),
        "LoadBalancer" => (1, chosen()),
        _ => (0, 0),
    };
    let counts = [1, 1, balancers, node_ports].map(number);
    SERVICES.iter().map(|name| (*name).to_owned()).zip(counts).collect()
}
