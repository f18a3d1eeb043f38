//! The default priority levels and flow schemas (upstream: `apis/flowcontrol/bootstrap`).

use serde_json::{Value, json};

const VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";
const AUTHENTICATED: &str = "group:system:authenticated";
const UNAUTHENTICATED: &str = "group:system:unauthenticated";
const MANAGER: &str = "user:system:kube-controller-manager";
const SCHEDULER: &str = "user:system:kube-scheduler";
const ALL_SYSTEM_ACCOUNTS: &str = "account:*";

/// Name, shares, percent that may be lent, number of queues and size of a hand.
const LIMITED: [(&str, u32, u32, u32, u32); 6] = [
    ("node-high", 40, 25, 64, 6),
    ("system", 30, 33, 64, 6),
    ("leader-election", 10, 0, 16, 4),
    ("workload-high", 40, 50, 128, 6),
    ("workload-low", 100, 90, 128, 6),
    ("global-default", 20, 50, 128, 6),
];

type Names = &'static [&'static str];
/// Verbs, group, resources and namespace (`""` for cluster-wide objects).
type Resources = (Names, &'static str, Names, &'static str);
/// Name, precedence, level and subjects, whether users are kept apart, and the requests.
type Flow = (&'static str, u32, &'static str, Names, bool, Requests);

/// Which requests of a flow's subjects belong to it.
#[derive(Clone, Copy)]
enum Requests {
    All,
    Paths(Names),
    Of(&'static [Resources]),
}

const CHANGES: &[&str] = &["get", "create", "update"];

const FLOWS: &[Flow] = &[
    (
        "probes",
        2,
        "exempt",
        &[UNAUTHENTICATED, AUTHENTICATED],
        false,
        Requests::Paths(&["/healthz", "/readyz", "/livez"]),
    ),
    (
        "system-leader-election",
        100,
        "leader-election",
        &[MANAGER, SCHEDULER, ALL_SYSTEM_ACCOUNTS],
        true,
        Requests::Of(&[(CHANGES, "coordination.k8s.io", &["leases"], "kube-system")]),
    ),
    (
        "endpoint-controller",
        150,
        "workload-high",
        &[MANAGER, "account:endpoint-controller", "account:endpointslicemirroring-controller"],
        true,
        Requests::Of(&[(CHANGES, "", &["endpoints"], "*")]),
    ),
    (
        "workload-leader-election",
        200,
        "leader-election",
        &[ALL_SYSTEM_ACCOUNTS],
        true,
        Requests::Of(&[(CHANGES, "coordination.k8s.io", &["leases"], "*")]),
    ),
    (
        "system-node-high",
        400,
        "node-high",
        &["group:system:nodes"],
        true,
        Requests::Of(&[
            (&["*"], "", &["nodes", "nodes/status"], ""),
            (&["*"], "coordination.k8s.io", &["leases"], "*"),
        ]),
    ),
    ("system-nodes", 500, "system", &["group:system:nodes"], true, Requests::All),
    ("kube-controller-manager", 800, "workload-high", &[MANAGER], true, Requests::All),
    ("kube-scheduler", 800, "workload-high", &[SCHEDULER], true, Requests::All),
    ("kube-system-service-accounts", 900, "workload-high", &[ALL_SYSTEM_ACCOUNTS], true, Requests::All),
    ("service-accounts", 9000, "workload-low", &["group:system:serviceaccounts"], true, Requests::All),
    ("global-default", 9900, "global-default", &[UNAUTHENTICATED, AUTHENTICATED], true, Requests::All),
];

/// All of them.
pub(super) fn objects() -> Vec<Value> {
    let level = |name: &str, spec: Value| {
        let metadata = metadata(name);
        json!({"apiVersion": VERSION, "kind": "PriorityLevelConfiguration", "metadata": metadata, "spec": spec})
    };
    let mut trees = mandatory();
    for (name, shares, lendable, queues, hand) in LIMITED {
        let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": 50});
        let response = json!({"type": "Queue", "queuing": queuing});
        let limited =
            json!({"nominalConcurrencyShares": shares, "limitResponse": response, "lendablePercent": lendable});
        trees.push(level(name, json!({"type": "Limited", "limited": limited})));
    }
    trees.extend(FLOWS.iter().map(|(name, precedence, level, subjects, apart, requests)| {
        let mut spec = json!({
            "priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": [rule(subjects, *requests)],
        });
        if *apart {
            spec["distinguisherMethod"] = json!({"type": "ByUser"});
        }
        json!({"apiVersion": VERSION, "kind": "FlowSchema", "metadata": metadata(name), "spec": spec})
    }));
    trees
}

/// Those that must always be as they are.
fn mandatory() -> Vec<Value> {
    let kinds = ["PriorityLevelConfiguration", "FlowSchema"];
    let names = kinds.iter().flat_map(|kind| ["exempt", "catch-all"].map(|name| (*kind, name)));
    let tree = |(kind, name)| {
        let spec = api::kinds::mandatory_spec(kind, name)?;
        Some(json!({"apiVersion": VERSION, "kind": kind, "metadata": metadata(name), "spec": spec}))
    };
    names.filter_map(tree).collect()
}

fn metadata(name: &str) -> Value {
    json!({"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}})
}

fn rule(subjects: &[&str], requests: Requests) -> Value {
    let subjects: Vec<Value> = subjects.iter().filter_map(|text| subject(text)).collect();
    let resources = |verbs: &[&str], groups: &[&str], resources: &[&str], cluster: bool, namespaces: &[&str]| {
        let mut tree = json!({"verbs": verbs, "apiGroups": groups, "resources": resources});
        if cluster {
            tree["clusterScope"] = true.into();
        }
        if !namespaces.is_empty() {
            tree["namespaces"] = namespaces.into();
        }
        tree
    };
    let mut rule = json!({"subjects": subjects});
    match requests {
        Requests::All => {
            rule["resourceRules"] = json!([resources(&["*"], &["*"], &["*"], true, &["*"])]);
            rule["nonResourceRules"] = json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]);
        }
        Requests::Paths(paths) => rule["nonResourceRules"] = json!([{"verbs": ["get"], "nonResourceURLs": paths}]),
        Requests::Of(list) => {
            let rules = list.iter().map(|(verbs, group, plurals, namespace)| {
                let namespaces = if namespace.is_empty() { &[][..] } else { std::slice::from_ref(namespace) };
                resources(verbs, &[*group], plurals, namespace.is_empty(), namespaces)
            });
            rule["resourceRules"] = rules.collect::<Vec<_>>().into();
        }
    }
    rule
}

fn subject(text: &str) -> Option<Value> {
    let (kind, name) = text.split_once(':')?;
    match kind {
        "user" => Some(json!({"kind": "User", "user": {"name": name}})),
        "group" => Some(json!({"kind": "Group", "group": {"name": name}})),
        "account" => {
            Some(json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}}))
        }
        _ => None,
    }
}
