//! Fields behind feature gates that are off, as upstream's defaults have it: they are dropped, unless the object
//! had them
//! before (upstream: `DropDisabledTemplateFields`).

use serde_json::Value;

use crate::kinds::rules::tree::Fields;
use crate::object::Object;

/// The places of one gate's fields. `*` stands for every element of a list.
type Gate = &'static [&'static [&'static str]];

/// What of a kind is behind gates.
#[derive(Clone, Copy)]
pub(crate) struct Gated {
    /// Where the part lies that the gates are about.
    part: &'static [&'static str],
    gates: &'static [Gate],
}

impl Gated {
    /// A kind with the spec of a pod at `part`.
    const fn pod_spec(part: &'static [&'static str]) -> Self {
        Self { part, gates: POD_SPEC }
    }

    /// Drops what is behind a gate and was not there before; groups of pods only where they are not served.
    pub(crate) fn drop(&self, new: &mut Object, old: Option<&Object>, has_groups: bool) {
        for gate in self.gates.iter().filter(|gate| !has_groups || **gate != GROUPS) {
            let used =
                old.and_then(|old| old.get(self.part)).is_some_and(|old| gate.iter().any(|path| is_set(old, path)));
            if let (false, Some(part)) = (used, new.get_mut(self.part)) {
                gate.iter().for_each(|path| remove(part, path));
            }
        }
    }
}

/// The gate of `PodGroup`s (`GenericWorkload`), which is open where the API server serves them.
const GROUPS: Gate = &[&["schedulingGroup"]];

/// Stop signals of containers, groups of pods that are scheduled together, and two sources of projected volumes.
const POD_SPEC: &[Gate] = &[
    &[
        &["containers", "*", "lifecycle", "stopSignal"],
        &["initContainers", "*", "lifecycle", "stopSignal"],
        &["ephemeralContainers", "*", "lifecycle", "stopSignal"],
    ],
    GROUPS,
    &[&["volumes", "*", "projected", "sources", "*", "clusterTrustBundle"]],
    &[&["volumes", "*", "projected", "sources", "*", "podCertificate"]],
];

/// A `Pod`.
pub(crate) const POD: &[Gated] = &[Gated::pod_spec(&["spec"])];
/// A `PodTemplate`.
pub(crate) const POD_TEMPLATE: &[Gated] = &[Gated::pod_spec(&["template", "spec"])];
/// A kind with a pod template at `spec.template`.
pub(crate) const WORKLOAD: &[Gated] = &[Gated::pod_spec(&["spec", "template", "spec"])];
/// A `StatefulSet`, which also has the number of pods that may be missing during an update.
pub(crate) const STATEFUL_SET: &[Gated] = &[
    Gated::pod_spec(&["spec", "template", "spec"]),
    Gated { part: &["spec"], gates: &[&[&["updateStrategy", "rollingUpdate", "maxUnavailable"]]] },
];
/// A `CronJob`.
pub(crate) const CRON_JOB: &[Gated] = &[Gated::pod_spec(&["spec", "jobTemplate", "spec", "template", "spec"])];

/// A `PodGroup`: topology, devices and priorities of whole groups. Its mode of disruption has a default, and is not dropped.
pub(crate) const POD_GROUP: &[Gated] = &[Gated {
    part: &["spec"],
    gates: &[&[&["schedulingConstraints"]], &[&["resourceClaims"]], &[&["priorityClassName"], &["priority"]]],
}];
/// The templates of a `Workload`, for the same.
pub(crate) const GROUP_TEMPLATES: &[Gated] = &[Gated {
    part: &["spec"],
    gates: &[
        &[&["podGroupTemplates", "*", "schedulingConstraints"]],
        &[&["podGroupTemplates", "*", "resourceClaims"]],
        &[
            &["podGroupTemplates", "*", "priorityClassName"],
            &["podGroupTemplates", "*", "priority"],
            &["podGroupTemplates", "*", "disruptionMode"],
        ],
    ],
}];

fn is_set(value: &Value, path: &[&str]) -> bool {
    match path {
        [] => !value.is_null(),
        ["*", rest @ ..] => value.as_array().is_some_and(|list| list.iter().any(|one| is_set(one, rest))),
        [name, rest @ ..] => value.get(name).is_some_and(|value| is_set(value, rest)),
    }
}

fn remove(value: &mut Value, path: &[&str]) {
    match path {
        [] => {}
        ["*", rest @ ..] => value.as_array_mut().into_iter().flatten().for_each(|one| remove(one, rest)),
        [name] => drop(value.as_object_mut().and_then(|fields| fields.remove(*name))),
        [name, rest @ ..] => {
            let Some(inner) = value.get_mut(*name) else { return };
            let had = is_set(inner, rest);
            remove(inner, rest);
            // A handler for nothing is none.
            if had
                && *name == "lifecycle"
                && inner.as_object().is_some_and(Fields::is_empty)
                && let Some(fields) = value.as_object_mut()
            {
                fields.remove(*name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(new: &Value, old: Option<&Value>, want: &Value) {
        check_where(false, new, old, want);
    }

    fn check_where(has_groups: bool, new: &Value, old: Option<&Value>, want: &Value) {
        let object = |spec: &Value| Object::from_value(json!({"spec": spec})).expect("an object");
        let mut new = object(new);
        Gated::pod_spec(&["spec"]).drop(&mut new, old.map(object).as_ref(), has_groups);
        assert_eq!(&new.root()["spec"], want);
    }

    #[test]
    fn what_is_behind_a_gate_is_dropped() {
        let signal = json!({"containers": [{"lifecycle": {"stopSignal": "SIGTERM"}}]});
        check(&signal, None, &json!({"containers": [{}]}));
        check(&signal, Some(&signal), &signal);
        check(&signal, Some(&json!({"containers": [{"lifecycle": {}}]})), &json!({"containers": [{}]}));
        let with_hook =
            json!({"containers": [{"lifecycle": {"stopSignal": "SIGTERM", "preStop": {}}}, {"lifecycle": {}}]});
        check(&with_hook, None, &json!({"containers": [{"lifecycle": {"preStop": {}}}, {"lifecycle": {}}]}));
        check(
            &json!({"volumes": [{"projected": {"sources": [{"clusterTrustBundle": {"path": "p"}}, {"secret": {}}]}}]}),
            None,
            &json!({"volumes": [{"projected": {"sources": [{}, {"secret": {}}]}}]}),
        );
        let group = json!({"schedulingGroup": {}, "volumes": null});
        check(&group, None, &json!({"volumes": null}));
        check_where(true, &group, None, &group);
        check_where(true, &signal, None, &json!({"containers": [{}]}));
    }
}
