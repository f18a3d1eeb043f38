//! Every workload has what it wants, and says so.

use serde_json::Value;

use crate::objects::{self, Objects, is_going, is_over, is_true, number, of, text};

pub(super) fn complaints(objects: &Objects) -> Vec<String> {
    let each = |kind, check: fn(&Value, &Objects) -> Result<(), String>| {
        let wrong =
            of(objects, kind).filter_map(move |(key, object)| Some(format!("{key} {}", check(object, objects).err()?)));
        wrong.collect::<Vec<_>>()
    };
    [
        each("pods", pod),
        each("replicasets", replica_set),
        each("deployments", deployment),
        each("statefulsets", stateful_set),
        each("daemonsets", daemon_set),
        each("jobs", job),
        each("minions", node),
    ]
    .concat()
}

/// Fails when one of these numbers is not as it should be; what is not there is zero.
fn expect(object: &Value, wanted: &[(&str, i64)]) -> Result<(), String> {
    let wrong = wanted.iter().find(|(path, wanted)| number(object, path).unwrap_or(0) != *wanted);
    let Some((path, wanted)) = wrong else { return Ok(()) };
    Err(format!("has {path} {}, not {wanted}", number(object, path).unwrap_or(0)))
}

fn observed(object: &Value) -> Result<(), String> {
    let generation = number(object, "/metadata/generation").unwrap_or(0);
    expect(object, &[("/status/observedGeneration", generation)])
}

fn pods_of<'a>(owner: &'a Value, all: &'a Objects) -> impl Iterator<Item = &'a Value> {
    let mine = move |pod: &&Value| objects::controller(pod) == Some(objects::uid(owner));
    let namespace = objects::namespace(owner);
    of(all, "pods").map(|(_, pod)| pod).filter(move |pod| objects::namespace(pod) == namespace).filter(mine)
}

fn active(owner: &Value, all: &Objects) -> i64 {
    pods_of(owner, all).filter(|pod| !is_over(pod) && !is_going(pod)).count() as i64
}

fn pod(pod: &Value, all: &Objects) -> Result<(), String> {
    let node = text(pod, "/spec/nodeName");
    if !node.is_empty() && !all.contains_key(&format!("minions/{node}")) {
        return Err(format!("is on {node}, which is gone"));
    }
    if is_over(pod) {
        return Ok(());
    }
    if node.is_empty() {
        return Err(format!("has no place: {}", pod["status"]["conditions"]));
    }
    match text(pod, "/status/phase") {
        "Running" if is_true(pod, "Ready") || text(pod, "/spec/restartPolicy") != "Always" => Ok(()),
        phase => Err(format!("is {phase} and not ready")),
    }
}

fn replica_set(set: &Value, all: &Objects) -> Result<(), String> {
    let wanted = number(set, "/spec/replicas").unwrap_or(1);
    observed(set)?;
    if active(set, all) != wanted {
        return Err(format!("has {} pods, not {wanted}", active(set, all)));
    }
    let counts = ["/status/replicas", "/status/readyReplicas", "/status/availableReplicas"];
    expect(set, &counts.map(|path| (path, wanted)))
}

fn deployment(deployment: &Value, all: &Objects) -> Result<(), String> {
    let wanted = number(deployment, "/spec/replicas").unwrap_or(1);
    observed(deployment)?;
    let counts = ["/status/replicas", "/status/updatedReplicas", "/status/readyReplicas", "/status/availableReplicas"];
    expect(deployment, &counts.map(|path| (path, wanted)))?;
    let sets = of(all, "replicasets").map(|(_, set)| set);
    let mine: Vec<_> = sets.filter(|set| objects::controller(set) == Some(objects::uid(deployment))).collect();
    let total: i64 = mine.iter().map(|set| number(set, "/spec/replicas").unwrap_or(1)).sum();
    if total != wanted {
        return Err(format!("has ReplicaSets of {total} pods, not {wanted}"));
    }
    let kept = number(deployment, "/spec/revisionHistoryLimit").unwrap_or(10);
    let old = mine.iter().filter(|set| number(set, "/spec/replicas") == Some(0)).count() as i64;
    if old > kept + 1 { Err(format!("keeps {old} old ReplicaSets, not {kept}")) } else { Ok(()) }
}

fn stateful_set(set: &Value, all: &Objects) -> Result<(), String> {
    let wanted = number(set, "/spec/replicas").unwrap_or(1);
    observed(set)?;
    let counts = ["/status/replicas", "/status/readyReplicas", "/status/availableReplicas", "/status/currentReplicas"];
    expect(set, &counts.map(|path| (path, wanted)))?;
    if text(set, "/status/currentRevision") != text(set, "/status/updateRevision") {
        return Err("is between two revisions".to_owned());
    }
    let names: Vec<_> = pods_of(set, all).map(objects::name).collect();
    let missing = (0..wanted).find(|ordinal| !names.iter().any(|name| name.ends_with(&format!("-{ordinal}"))));
    match missing {
        Some(ordinal) => Err(format!("lacks {ordinal} among {names:?}")),
        None if names.len() as i64 != wanted => Err(format!("has {names:?}, not {wanted}")),
        None => Ok(()),
    }
}

fn daemon_set(set: &Value, all: &Objects) -> Result<(), String> {
    let nodes = of(all, "minions").count() as i64;
    observed(set)?;
    expect(
        set,
        &["/status/desiredNumberScheduled", "/status/numberReady", "/status/numberAvailable"].map(|path| (path, nodes)),
    )?;
    expect(set, &[("/status/numberMisscheduled", 0)])?;
    if text(set, "/spec/updateStrategy/type") == "RollingUpdate" {
        expect(set, &[("/status/updatedNumberScheduled", nodes)])?;
    }
    for (_, node) in of(all, "minions") {
        let here = |pod: &&Value| text(pod, "/spec/nodeName") == objects::name(node) && !is_over(pod);
        let count = pods_of(set, all).filter(here).count();
        if count != 1 {
            return Err(format!("has {count} pods on {}", objects::name(node)));
        }
    }
    Ok(())
}

fn job(job: &Value, all: &Objects) -> Result<(), String> {
    if !is_true(job, "Complete") && !is_true(job, "Failed") {
        return Err(format!("has not ended: {}", job["status"]));
    }
    if job.pointer("/spec/ttlSecondsAfterFinished").is_some() {
        return Err("has outlived its time".to_owned());
    }
    if active(job, all) > 0 {
        return Err(format!("has ended with {} pods at work", active(job, all)));
    }
    let is_tracked = |pod: &&Value| pod["metadata"]["finalizers"].to_string().contains("job-tracking");
    let tracked = pods_of(job, all).find(is_tracked).map(objects::name);
    if let Some(pod) = tracked {
        return Err(format!("has ended and still holds {pod}"));
    }
    let completions = number(job, "/spec/completions");
    match (is_true(job, "Complete"), completions) {
        (true, Some(wanted)) if number(job, "/status/succeeded").unwrap_or(0) < wanted => {
            Err(format!("is complete with {} of {wanted} successes", job["status"]["succeeded"]))
        }
        _ => Ok(()),
    }
}

fn node(node: &Value, _: &Objects) -> Result<(), String> {
    let taints = node.pointer("/spec/taints").and_then(Value::as_array).map_or(0, Vec::len);
    match (is_true(node, "Ready"), taints) {
        (true, 0) => Ok(()),
        _ => Err(format!("is not ready for work: {}", node["spec"])),
    }
}
