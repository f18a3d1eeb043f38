//! From which ranges Services are given addresses: those of the ServiceCIDRs (upstream: `ipallocator.MetaAllocator`;
//! KEP-1880).

use api::{ApiError, Object};
use facts::cidr::Cidr;
use facts::conditions;
use serde_json::Value;

use super::Allocator;

impl Allocator {
    /// The ranges of a family that have addresses to give, the configured one first. Without any ServiceCIDR of the
    /// family, as before the first one has been written, that one is all there is.
    pub(super) fn ranges_of(&self, family: &str) -> Result<Vec<Cidr>, ApiError> {
        let configured = self.ranges.iter().find(|range| range.family() == family).copied();
        if self.cidrs.is_none() {
            return Ok(configured.into_iter().collect());
        }
        let snapshot = self.resource(self.cidrs.as_ref())?.snapshot();
        let published = snapshot.objects.values().map(|cached| cached.object());
        Ok(open(published, family, configured))
    }
}

fn open(published: impl Iterator<Item = Object>, family: &str, configured: Option<Cidr>) -> Vec<Cidr> {
    let (mut known, mut open) = (false, Vec::new());
    for object in published {
        let ranges = ranges(&object).into_iter().filter(|range| range.family() == family);
        for range in ranges {
            known = true;
            if gives(&object) && !open.contains(&range) {
                open.push(range);
            }
        }
    }
    if !known {
        return configured.into_iter().collect();
    }
    open.sort_by_key(|range| Some(*range) != configured);
    open
}

fn ranges(object: &Object) -> Vec<Cidr> {
    let texts = object.get(&["spec", "cidrs"]).and_then(Value::as_array).into_iter().flatten();
    texts.filter_map(Value::as_str).filter_map(|text| text.parse().ok()).collect()
}

/// Whether a ServiceCIDR stays, and nobody says that it is not ready: perhaps there is no controller to say anything.
fn gives(object: &Object) -> bool {
    let ready = conditions::find(object.get(&["status"]), "Ready");
    object.get(&["metadata", "deletionTimestamp"]).is_none() && ready.is_none_or(|ready| ready["status"] == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(published: &[Value], expected: &[&str]) {
        let published = published.iter().map(|tree| Object::from_value(tree.clone()).unwrap());
        let open = open(published, "IPv4", Some("10.96.0.0/16".parse().unwrap()));
        assert_eq!(open.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    }

    fn published(cidrs: &[&str], ready: Option<&str>) -> Value {
        let conditions: Vec<_> = ready.iter().map(|ready| json!({"type": "Ready", "status": ready})).collect();
        json!({"metadata": {"name": "a"}, "spec": {"cidrs": cidrs}, "status": {"conditions": conditions}})
    }

    #[test]
    fn the_configured_range_is_used_until_ranges_are_published_and_comes_first() {
        check(&[], &["10.96.0.0/16"]);
        check(&[published(&["fd00::/112"], None)], &["10.96.0.0/16"]);
        check(&[published(&["10.7.0.0/24"], None)], &["10.7.0.0/24"]);
        let both = [published(&["10.7.0.0/24", "fd00::/112"], Some("True")), published(&["10.96.0.0/16"], None)];
        check(&both, &["10.96.0.0/16", "10.7.0.0/24"]);
    }

    #[test]
    fn ranges_that_go_or_are_not_ready_give_nothing() {
        let mut going = published(&["10.7.0.0/24"], Some("True"));
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        check(&[going.clone()], &[]);
        check(&[going, published(&["10.7.0.0/24"], None)], &["10.7.0.0/24"]);
        check(&[published(&["10.7.0.0/24"], Some("False"))], &[]);
        check(&[published(&["10.7.0.0/24", "nonsense"], Some("Unknown"))], &[]);
    }
}
