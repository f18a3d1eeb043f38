//! A small valid object of every resource.

use api::Resource;
use serde_json::{Value, json};

/// A valid object of the resource, without a namespace.
pub(crate) fn sample(row: &Resource, name: &str) -> Value {
    let mut object = if row.plural == "events" { event(&row.group) } else { fields(&row.plural, &row.version) };
    let name = match row.plural.as_ref() {
        "customresourcedefinitions" => format!("{name}s.example.com"),
        "apiservices" => format!("v1.{name}.example.com"),
        "ipaddresses" => format!("10.96.200.{}", 10 + name.len()),
        _ => name.to_owned(),
    };
    if row.plural == "customresourcedefinitions" {
        let short = name.trim_end_matches("s.example.com").to_owned();
        object["spec"]["names"] = json!({"plural": format!("{short}s"), "kind": "Sample"});
    }
    if row.plural == "apiservices" {
        let group = name.trim_start_matches("v1.").to_owned();
        object["spec"] = json!({"group": group, "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 10,
            "service": {"namespace": "default", "name": "s"}});
    }
    object["apiVersion"] = row.api_version().into();
    object["kind"] = row.kind.as_ref().into();
    object["metadata"] = json!({"name": name, "labels": {"contract": "1"}});
    object
}

fn pod_template() -> Value {
    json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

fn selector() -> Value {
    json!({"matchLabels": {"a": "b"}})
}

fn fields(plural: &str, version: &str) -> Value {
    match plural {
        "pods" => json!({"spec": pod_template()["spec"]}),
        "podtemplates" => json!({"template": pod_template()}),
        "replicationcontrollers" => {
            json!({"spec": {"replicas": 1, "selector": {"a": "b"}, "template": pod_template()}})
        }
        "deployments" | "replicasets" => {
            json!({"spec": {"replicas": 1, "selector": selector(), "template": pod_template()}})
        }
        "statefulsets" => json!({"spec": {"serviceName": "s", "selector": selector(), "template": pod_template()}}),
        "daemonsets" => json!({"spec": {"selector": selector(), "template": pod_template()}}),
        "jobs" => json!({"spec": {"template": job_template()}}),
        "cronjobs" => json!({"spec": {"schedule": "0 0 * * *", "jobTemplate": {"spec": {"template": job_template()}}}}),
        "services" => json!({"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}}),
        "endpointslices" => json!({"addressType": "IPv4", "endpoints": [], "ports": []}),
        "persistentvolumes" => json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": "/x"}}}),
        "persistentvolumeclaims" => json!({"spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}),
        "limitranges" => json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}]}}),
        "resourcequotas" => json!({"spec": {"hard": {"pods": "5"}}}),
        "horizontalpodautoscalers" => {
            let mut spec = json!({"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}});
            if version == "v2" {
                spec["metrics"] = json!([{"type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]);
            }
            json!({"spec": spec})
        }
        "ingresses" => json!({"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}}),
        "ingressclasses" => json!({"spec": {"controller": "example.com/c"}}),
        "networkpolicies" => json!({"spec": {"podSelector": {}}}),
        "ipaddresses" => json!({"spec": {"parentRef": {"resource": "services", "name": "s", "namespace": "default"}}}),
        "servicecidrs" => json!({"spec": {"cidrs": ["10.97.0.0/24"]}}),
        "poddisruptionbudgets" => json!({"spec": {"minAvailable": 1, "selector": selector()}}),
        "roles" | "clusterroles" => json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}),
        "rolebindings" | "clusterrolebindings" => json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "u"}]}),
        "priorityclasses" => json!({"value": 5}),
        "storageclasses" => json!({"provisioner": "example.com/p"}),
        "volumeattributesclasses" => json!({"driverName": "example.com", "parameters": {"a": "b"}}),
        "csinodes" => json!({"spec": {"drivers": []}}),
        "csidrivers" => json!({"spec": {}}),
        "csistoragecapacities" => json!({"storageClassName": "s"}),
        "volumeattachments" => json!({"spec": {"attacher": "example.com", "nodeName": "n",
            "source": {"persistentVolumeName": "v"}}}),
        "runtimeclasses" => json!({"handler": "h"}),
        "leases" => json!({"spec": {}}),
        "certificatesigningrequests" => {
            json!({"spec": {"request": CSR, "signerName": "example.com/s", "usages": ["client auth"]}})
        }
        "flowschemas" => json!({"spec": {"priorityLevelConfiguration": {"name": "exempt"}, "matchingPrecedence": 500}}),
        "prioritylevelconfigurations" => json!({"spec": {"type": "Limited",
            "limited": {"nominalConcurrencyShares": 1, "limitResponse": {"type": "Reject"}}}}),
        "customresourcedefinitions" => json!({"spec": {"group": "example.com", "scope": "Namespaced",
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}}),
        "validatingadmissionpolicies" => json!({"spec": {"matchConstraints": {"resourceRules": [rule()]},
            "validations": [{"expression": "true"}]}}),
        "validatingadmissionpolicybindings" => json!({"spec": {"policyName": "p", "validationActions": ["Deny"]}}),
        "mutatingadmissionpolicies" => {
            json!({"spec": {"reinvocationPolicy": "Never", "matchConstraints": {"resourceRules": [rule()]},
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}]}})
        }
        "mutatingadmissionpolicybindings" => json!({"spec": {"policyName": "p"}}),
        "validatingwebhookconfigurations" | "mutatingwebhookconfigurations" => json!({"webhooks": []}),
        "deviceclasses" => json!({"spec": {}}),
        "resourceclaims" => json!({"spec": {}}),
        "resourceclaimtemplates" => json!({"spec": {"spec": {}}}),
        "resourceslices" => json!({"spec": {"driver": "example.com", "nodeName": "n",
            "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}}}),
        "controllerrevisions" => json!({"revision": 1, "data": {"a": 1}}),
        _ => json!({}),
    }
}

fn event(group: &str) -> Value {
    let pod = json!({"kind": "Pod", "namespace": "contract", "name": "p"});
    if group.is_empty() {
        return json!({"involvedObject": pod, "reason": "r", "type": "Normal"});
    }
    json!({"regarding": pod, "reason": "r", "action": "a", "reportingController": "example.com/c", "reportingInstance": "i",
        "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal"})
}

fn rule() -> Value {
    json!({"apiGroups": ["example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["things"]})
}

fn job_template() -> Value {
    json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}})
}

/// A certificate request for `CN=x` in PEM, in base64.
const CSR: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIRk1HMENBUUF3RERFS01BZ0dBMVVFQXd3QmVEQlpNQk1HQnlxR1NNNDlBZ0VHQ0NxR1NNNDlBd0VICkEwSUFCQT09Ci0tLS0tRU5EIENFUlRJRklDQVRFIFJFUVVFU1QtLS0tLQo=";
