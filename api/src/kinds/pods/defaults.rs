//! Defaults of pods and pod templates.

use serde_json::Value;

use super::fields;
use super::volumes::defaults;
use crate::kinds::rules::fill::{default_pointer, default_zero, each, is_zero, object, object_at, text};
use crate::kinds::rules::tree::Fields;

/// Defaults of a pod template at `key` of a workload's spec.
pub(crate) fn template(spec: &mut Fields, key: &str) {
    let template = object(spec, key);
    object(template, "metadata");
    pod_spec(object(template, "spec"));
}

/// As [`template`], where the template may be left out.
pub(crate) fn optional_template(spec: &mut Fields, key: &str) {
    if object_at(spec, key).is_some() {
        template(spec, key);
    }
}

/// Defaults shared by pods and pod templates.
pub(crate) fn pod_spec(spec: &mut Fields) {
    default_zero(spec, "dnsPolicy", "ClusterFirst");
    default_zero(spec, "restartPolicy", "Always");
    default_pointer(spec, "securityContext", Value::Object(Fields::new()));
    default_pointer(spec, "terminationGracePeriodSeconds", 30);
    default_zero(spec, "schedulerName", "default-scheduler");
    mirror_service_account(spec);
    for list in ["containers", "initContainers"] {
        each(spec, list, container);
    }
    each(spec, "ephemeralContainers", container);
    each(spec, "volumes", defaults::volume);
}

/// `serviceAccount` is the deprecated spelling of `serviceAccountName`; both are kept equal.
fn mirror_service_account(spec: &mut Fields) {
    let name = match text(spec, "serviceAccountName") {
        "" => text(spec, "serviceAccount"),
        name => name,
    };
    if name.is_empty() {
        return;
    }
    let name = Value::from(name);
    spec.insert("serviceAccount".to_owned(), name.clone());
    spec.insert("serviceAccountName".to_owned(), name);
}

fn container(fields: &mut Fields) {
    object(fields, "resources");
    default_zero(fields, "terminationMessagePath", "/dev/termination-log");
    default_zero(fields, "terminationMessagePolicy", "File");
    let policy = fields::pull_policy(text(fields, "image"));
    default_zero(fields, "imagePullPolicy", policy);
    each(fields, "ports", |port| default_zero(port, "protocol", "TCP"));
    each(fields, "env", environment);
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = object_at(fields, key) {
            default_probe(probe);
        }
    }
    if let Some(lifecycle) = object_at(fields, "lifecycle") {
        for key in ["postStart", "preStop"] {
            if let Some(handler) = object_at(lifecycle, key) {
                http_get(handler);
            }
        }
    }
}

fn environment(variable: &mut Fields) {
    let Some(source) = object_at(variable, "valueFrom") else { return };
    fields::field_reference(source);
    if let Some(file) = object_at(source, "fileKeyRef") {
        default_pointer(file, "optional", false);
    }
}

fn default_probe(probe: &mut Fields) {
    default_zero(probe, "timeoutSeconds", 1);
    default_zero(probe, "periodSeconds", 10);
    default_zero(probe, "successThreshold", 1);
    default_zero(probe, "failureThreshold", 3);
    http_get(probe);
    if let Some(grpc) = object_at(probe, "grpc") {
        default_pointer(grpc, "service", "");
    }
}

fn http_get(handler: &mut Fields) {
    if let Some(get) = object_at(handler, "httpGet") {
        default_zero(get, "path", "/");
        default_zero(get, "scheme", "HTTP");
    }
}

pub(crate) fn host_port(port: &mut Fields) {
    if is_zero(port, "hostPort")
        && let Some(number) = port.get("containerPort").cloned()
    {
        port.insert("hostPort".to_owned(), number);
    }
}

pub(crate) fn requests_from_limits(container: &mut Fields) {
    let Some(resources) = object_at(container, "resources") else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
    if limits.is_empty() {
        return;
    }
    let requests = object(resources, "requests");
    for (name, quantity) in limits {
        requests.entry(name).or_insert(quantity);
    }
}
