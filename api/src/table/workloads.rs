//! Rows of workloads: apps, batch, autoscaling, policy.

use jiff::Timestamp;
use serde_json::Value;

use super::Printer;
use super::duration::{human_duration, whole_seconds};
use super::text::{
    NONE, UNSET, age, ago, containers, labels, list, number, or, plain, selector, selector_or_none, text, title,
};
use crate::catalog::convert::autoscaling::v1_to_v2;
use crate::object::Object;

const TEMPLATE: [&str; 3] = ["spec", "template", "spec"];

pub(super) fn printer(plural: &str) -> Option<Printer> {
    Some(match plural {
        "controllerrevisions" => revision,
        "cronjobs" => cron_job,
        "daemonsets" => daemon_set,
        "deployments" => deployment,
        "horizontalpodautoscalers" => autoscaler,
        "jobs" => job,
        "poddisruptionbudgets" => budget,
        "replicasets" => replica_set,
        "statefulsets" => stateful_set,
        _ => return None,
    })
}

fn ready_of_desired(object: &Object) -> String {
    format!("{}/{}", number(object, &["status", "readyReplicas"]), number(object, &["spec", "replicas"]))
}

fn deployment(deployment: &Object, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(deployment, &TEMPLATE);
    vec![
        deployment.name().into(),
        ready_of_desired(deployment).into(),
        number(deployment, &["status", "updatedReplicas"]).into(),
        number(deployment, &["status", "availableReplicas"]).into(),
        age(deployment, now).into(),
        names,
        images,
        selector(deployment.get(&["spec", "selector"])).into(),
    ]
}

fn replica_set(set: &Object, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(set, &TEMPLATE);
    vec![
        set.name().into(),
        number(set, &["spec", "replicas"]).into(),
        number(set, &["status", "replicas"]).into(),
        number(set, &["status", "readyReplicas"]).into(),
        age(set, now).into(),
        names,
        images,
        selector_or_none(set.get(&["spec", "selector"])).into(),
    ]
}

fn stateful_set(set: &Object, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(set, &TEMPLATE);
    vec![set.name().into(), ready_of_desired(set).into(), age(set, now).into(), names, images]
}

fn daemon_set(set: &Object, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(set, &TEMPLATE);
    let status = |field: &str| Value::from(number(set, &["status", field]));
    vec![
        set.name().into(),
        status("desiredNumberScheduled"),
        status("currentNumberScheduled"),
        status("numberReady"),
        status("updatedNumberScheduled"),
        status("numberAvailable"),
        labels(set.get(&["spec", "template", "spec", "nodeSelector"])).into(),
        age(set, now).into(),
        names,
        images,
        selector_or_none(set.get(&["spec", "selector"])).into(),
    ]
}

fn revision(revision: &Object, now: Timestamp) -> Vec<Value> {
    let owners = list(revision, &["metadata", "ownerReferences"]);
    let controller = owners.iter().find(|owner| owner.get("controller") == Some(&Value::Bool(true)));
    let controller = controller.map_or_else(
        || NONE.to_owned(),
        |owner| {
            let group = text(owner, "apiVersion").split_once('/').map_or("", |(group, _)| group);
            let kind = if group.is_empty() {
                text(owner, "kind").to_owned()
            } else {
                format!("{}.{group}", text(owner, "kind"))
            };
            format!("{}/{}", kind.to_lowercase(), text(owner, "name"))
        },
    );
    vec![revision.name().into(), controller.into(), number(revision, &["revision"]).into(), age(revision, now).into()]
}

fn job(job: &Object, now: Timestamp) -> Vec<Value> {
    let succeeded = number(job, &["status", "succeeded"]);
    let completions = match (job.integer(&["spec", "completions"]), number(job, &["spec", "parallelism"])) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let time = |field: &str| job.text(&["status", field]).parse::<Timestamp>().ok();
    let duration =
        time("startTime").map(|start| human_duration(whole_seconds(start, time("completionTime").unwrap_or(now))));
    let [names, images] = containers(job, &TEMPLATE);
    vec![
        job.name().into(),
        job_status(job).into(),
        completions.into(),
        duration.unwrap_or_default().into(),
        age(job, now).into(),
        names,
        images,
        selector_or_none(job.get(&["spec", "selector"])).into(),
    ]
}

fn job_status(job: &Object) -> &'static str {
    let holds = |type_: &str| {
        list(job, &["status", "conditions"])
            .iter()
            .any(|condition| text(condition, "type") == type_ && text(condition, "status") == "True")
    };
    match () {
        () if holds("Complete") => "Complete",
        () if holds("Failed") => "Failed",
        () if job.is_being_deleted() => "Terminating",
        () if holds("Suspended") => "Suspended",
        () if holds("FailureTarget") => "FailureTarget",
        () if holds("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn cron_job(job: &Object, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(job, &["spec", "jobTemplate", "spec", "template", "spec"]);
    let suspend = job.get(&["spec", "suspend"]).and_then(Value::as_bool).map_or(UNSET, title);
    vec![
        job.name().into(),
        job.text(&["spec", "schedule"]).into(),
        or(job.text(&["spec", "timeZone"]), NONE).into(),
        suspend.into(),
        list(job, &["status", "active"]).len().into(),
        ago(job.get(&["status", "lastScheduleTime"]), now).unwrap_or_else(|| NONE.to_owned()).into(),
        age(job, now).into(),
        names,
        images,
        selector_or_none(job.get(&["spec", "jobTemplate", "spec", "selector"])).into(),
    ]
}

fn budget(budget: &Object, now: Timestamp) -> Vec<Value> {
    let limit = |field: &str| Value::from(or(&plain(budget.get(&["spec", field])), "N/A"));
    vec![
        budget.name().into(),
        limit("minAvailable"),
        limit("maxUnavailable"),
        number(budget, &["status", "disruptionsAllowed"]).into(),
        age(budget, now).into(),
    ]
}

fn autoscaler(autoscaler: &Object, now: Timestamp) -> Vec<Value> {
    let target = |field: &str| autoscaler.text(&["spec", "scaleTargetRef", field]);
    vec![
        autoscaler.name().into(),
        format!("{}/{}", target("kind"), target("name")).into(),
        metrics(autoscaler).into(),
        or(&plain(autoscaler.get(&["spec", "minReplicas"])), UNSET).into(),
        number(autoscaler, &["spec", "maxReplicas"]).into(),
        number(autoscaler, &["status", "currentReplicas"]).into(),
        age(autoscaler, now).into(),
    ]
}

/// Current and wanted values of the metrics, of two at most. Those that `autoscaling/v1` keeps in annotations count, too.
fn metrics(autoscaler: &Object) -> String {
    if autoscaler.api_version() == "autoscaling/v1" {
        let mut latest = autoscaler.clone();
        v1_to_v2(&mut latest);
        return metrics_of_v2(&latest);
    }
    metrics_of_v2(autoscaler)
}

fn metrics_of_v2(autoscaler: &Object) -> String {
    let current = list(autoscaler, &["status", "currentMetrics"]);
    let specs = list(autoscaler, &["spec", "metrics"]).iter().enumerate();
    let shown: Vec<String> = specs.map(|(at, spec)| metric(spec, current.get(at).unwrap_or(&Value::Null))).collect();
    match shown.get(..2) {
        Some(first) if shown.len() > 2 => format!("{} + {} more...", first.join(", "), shown.len() - 2),
        _ => or(&shown.join(", "), NONE).to_owned(),
    }
}

fn metric(spec: &Value, status: &Value) -> String {
    let (field, named) = match text(spec, "type") {
        "External" => ("external", false),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        _ => return "<unknown type>".to_owned(),
    };
    let target = |name: &str| spec.pointer(&format!("/{field}/target/{name}")).filter(|value| !value.is_null());
    let current = |name: &str| {
        let value = status.pointer(&format!("/{field}/current/{name}")).filter(|value| !value.is_null());
        value.map_or_else(|| "<unknown>".to_owned(), |value| plain(Some(value)))
    };
    let name = if named {
        format!("{}: ", spec.pointer(&format!("/{field}/name")).and_then(Value::as_str).unwrap_or(""))
    } else {
        String::new()
    };
    match target("averageValue") {
        Some(wanted) if named || field == "pods" => {
            format!("{name}{}/{}", current("averageValue"), plain(Some(wanted)))
        }
        Some(wanted) => format!("{}/{} (avg)", current("averageValue"), plain(Some(wanted))),
        None if named => {
            let percent = |text: String| if text.starts_with('<') { text } else { format!("{text}%") };
            let wanted = target("averageUtilization")
                .map_or_else(|| "<auto>".to_owned(), |wanted| format!("{}%", plain(Some(wanted))));
            format!("{name}{}/{wanted}", percent(current("averageUtilization")))
        }
        None => format!("{}/{}", current("value"), plain(target("value"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_autoscaler_shows_the_same_metrics_in_every_version() {
        const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
        let check = |others: Value, want: &str| {
            let annotations = json!({METRICS: others.to_string()});
            let old = json!({"apiVersion": "autoscaling/v1", "metadata": {"annotations": annotations},
                "spec": {"targetCPUUtilizationPercentage": 50}});
            let old = Object::from_value(old).expect("an object");
            let mut new = old.clone();
            v1_to_v2(&mut new);
            new.set(&["apiVersion"], "autoscaling/v2");
            assert_eq!((metrics(&old), metrics(&new)), (want.to_owned(), want.to_owned()));
        };
        let memory = json!({"type": "Resource", "resource": {"name": "memory", "targetAverageUtilization": 70}});
        let pods = json!({"type": "Pods", "pods": {"metricName": "packets", "targetAverageValue": "20"}});
        check(json!([]), "cpu: <unknown>/50%");
        check(json!([memory]), "memory: <unknown>/70%, cpu: <unknown>/50%");
        check(json!([memory, pods]), "memory: <unknown>/70%, <unknown>/20 + 1 more...");
    }
}
