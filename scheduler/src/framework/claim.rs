//! What a pod says it may come to use at most, for the banker's check: read once for each pod.

use std::collections::BTreeMap;
use std::fmt;

use facts::amounts;
use facts::quantity::Quantity;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use crate::framework::Resources;
use crate::gangs::Membership;

/// The most that the pod will ever request, by growing in place: a JSON object of resources and quantities. What is not
/// named stays as it is requested.
pub const CLAIM: &str = "coracle.dev/claim";
/// The most that the pods of its gang will ever request together, those that are not there yet included.
pub const GROUP_CLAIM: &str = "coracle.dev/group-claim";
/// The most resources that one claim may name.
const MAX_RESOURCES: usize = 64;

/// What a pod claims.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Who finishes as one: a pod, or a gang.
    pub who: String,
    /// The most that the pod requests; never less than it does.
    pub own: Resources,
    /// The most that its gang requests.
    pub group: Option<Resources>,
}

/// Why what a pod claims cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("annotation {annotation}: {why}")]
pub struct WrongClaim {
    annotation: &'static str,
    why: String,
}

impl Claim {
    /// Reads the annotations of a pod that requests so much; `None` when there are none.
    pub(super) fn of(pod: &Pod, requests: &Resources) -> Option<Result<Self, WrongClaim>> {
        let annotations = pod.metadata.annotations.as_ref()?;
        let (own, group) = (annotations.get(CLAIM), annotations.get(GROUP_CLAIM));
        (own.is_some() || group.is_some()).then(|| Self::read(pod, requests, own, group))
    }

    fn read(pod: &Pod, requests: &Resources, own: Option<&String>, group: Option<&String>) -> Result<Self, WrongClaim> {
        let gang = Membership::of(pod);
        if group.is_some() && gang.is_none() {
            return Err(wrong(GROUP_CLAIM, "the pod belongs to no gang".to_owned()));
        }
        let who = match &gang {
            Some(gang) => format!("gang {}", gang.key),
            None => format!("pod {}", client::ObjectKey::of(pod)),
        };
        let own = own.map_or(Ok(requests.clone()), |text| grown(text, requests).map_err(|why| wrong(CLAIM, why)))?;
        let group = group.map(|text| grown(text, &own).map_err(|why| wrong(GROUP_CLAIM, why))).transpose()?;
        Ok(Self { who, own, group })
    }
}

fn wrong(annotation: &'static str, why: String) -> WrongClaim {
    WrongClaim { annotation, why }
}

/// What is claimed by `text`, and `least` of what it does not name. The error says that it claims less, or nothing that is
/// an amount.
fn grown(text: &str, least: &Resources) -> Result<Resources, String> {
    let named: BTreeMap<String, Value> =
        serde_json::from_str(text).map_err(|err| format!("not a JSON object of quantities: {err}"))?;
    if named.len() > MAX_RESOURCES {
        return Err(format!("names more than {MAX_RESOURCES} resources"));
    }
    let mut list = amounts::Amounts::new();
    for (name, value) in &named {
        let amount = Quantity::of_value(value).ok_or_else(|| format!("{name}: {value} is not a quantity"))?;
        if amount.signum() < 0 {
            return Err(format!("{name}: must not be negative"));
        }
        list.insert(name, amount);
    }
    let claimed = Resources::of(&list);
    let mut all = least.clone();
    for (name, amount) in claimed.amounts().filter(|(name, _)| named.contains_key(*name)) {
        let least = least.amount(name);
        if amount < least {
            return Err(format!(
                "claims {} {name}, less than the {} requested",
                Shown(name, amount),
                Shown(name, least)
            ));
        }
        all.set(name, amount);
    }
    Ok(all)
}

/// An amount as people write it.
pub struct Shown<'a>(pub &'a str, pub i64);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            ("cpu", milli) if milli % 1000 != 0 => write!(f, "{milli}m"),
            ("cpu", milli) => write!(f, "{}", milli / 1000),
            (_, amount) if amount != 0 && amount % (1 << 20) == 0 => write!(f, "{}Mi", amount >> 20),
            (_, amount) => write!(f, "{amount}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framework::PodInfo;
    use serde_json::json;
    use std::sync::Arc;

    fn claim(annotations: Value, labels: Value) -> Result<(String, i64, Option<i64>), String> {
        let resources = json!({"requests": {"cpu": "2", "memory": "1Gi"}});
        let spec = json!({"containers": [{"name": "c", "resources": resources}]});
        let metadata = json!({"name": "p", "namespace": "d", "annotations": annotations, "labels": labels});
        let pod = PodInfo::new(Arc::new(serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()));
        if let Some(wrong) = pod.wrong_claim() {
            return Err(wrong.to_string());
        }
        let claim = pod.claim().expect("a claim");
        assert_eq!(claim.own.memory, 1 << 30, "what is not named stays");
        Ok((claim.who.clone(), claim.own.milli_cpu, claim.group.as_ref().map(|group| group.milli_cpu)))
    }

    #[test]
    fn a_claim_is_read_once_and_stands_for_the_whole_gang() {
        let gang = json!({"scheduling.x-k8s.io/pod-group": "g", "scheduling.x-k8s.io/min-available": "2"});
        let own = claim(json!({CLAIM: r#"{"cpu": "3500m"}"#}), json!({}));
        assert_eq!(own, Ok(("pod d/p".to_owned(), 3500, None)));
        let both = claim(json!({CLAIM: r#"{"cpu": 3}"#, GROUP_CLAIM: r#"{"cpu": "20"}"#}), gang);
        assert_eq!(both, Ok(("gang d/g".to_owned(), 3000, Some(20_000))));
    }

    #[test]
    fn what_cannot_be_is_said() {
        for (text, why) in [
            ("", "not a JSON object"),
            ("[1]", "not a JSON object"),
            (r#"{"cpu": {}}"#, "is not a quantity"),
            (r#"{"cpu": "lots"}"#, "is not a quantity"),
            (r#"{"cpu": "-1"}"#, "must not be negative"),
            (r#"{"cpu": "1"}"#, "claims 1 cpu, less than the 2 requested"),
            (r#"{"memory": "1Mi"}"#, "claims 1Mi memory, less than the 1024Mi requested"),
        ] {
            let err = claim(json!({CLAIM: text}), json!({})).unwrap_err();
            assert!(err.starts_with("annotation coracle.dev/claim: ") && err.contains(why), "{text}: {err}");
        }
        let many: BTreeMap<String, i64> = (0..=MAX_RESOURCES).map(|number| (format!("r{number}"), 1)).collect();
        assert!(claim(json!({CLAIM: json!(many).to_string()}), json!({})).unwrap_err().contains("more than 64"));
        let lonely = claim(json!({GROUP_CLAIM: r#"{"cpu": "20"}"#}), json!({})).unwrap_err();
        assert!(lonely.contains("belongs to no gang"), "{lonely}");
        assert!(claim(json!({CLAIM: r#"{"cpu": "9e18"}"#}), json!({})).is_ok(), "absurd, but an amount");
    }
}
