//! Which families of addresses a Service has: what it says, what its addresses say, and what the cluster has.

use api::field::{FieldError, Path};
use api::{Object, kinds};
use facts::cidr::Cidr;
use serde_json::{Value, json};

const POLICY: &str = "ipFamilyPolicy";
const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

/// Fills in `ipFamilyPolicy` and `ipFamilies`, or says why they cannot be as they are. `old` is the Service before,
/// unless it is new or had no addresses.
pub(super) fn fill_in(ranges: &[Cidr], new: &mut Object, old: Option<&Object>) -> Result<(), Vec<FieldError>> {
    if old.is_some_and(|old| stays_as_preferred(new, old)) {
        return Ok(());
    }
    default_policy(new, old);
    refuse(kinds::service_addresses(new))?;
    let mut errors = Vec::new();
    release_second(new, old, &mut errors);
    one_or_several(new, &mut errors);
    infer(ranges, new, &mut errors);
    refuse(errors)?;
    let mut families = texts(new, "ipFamilies");
    let policy = new.text(&["spec", POLICY]).to_owned();
    // Who has no selector says itself where it leads, on any cluster.
    if is_headless_without_selector(new) {
        if families.is_empty() {
            families.extend(ranges.first().map(|range| range.family().to_owned()));
        }
        if families.len() == 1 && policy != SINGLE {
            families.push(other(&families[0]).to_owned());
        }
        new.set(&["spec", "ipFamilies"], json!(families));
        return Ok(());
    }
    refuse(not_configured(ranges, new, &families))?;
    if families.is_empty() {
        families.extend(ranges.first().map(|range| range.family().to_owned()));
    }
    if policy != SINGLE && families.len() == 1 && ranges.len() == 2 {
        families.push(other(&families[0]).to_owned());
    }
    new.set(&["spec", "ipFamilies"], json!(families));
    Ok(())
}

/// The texts of a list in the spec.
pub(super) fn texts(object: &Object, list: &str) -> Vec<String> {
    let list = object.get(&["spec", list]).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn refuse(errors: Vec<FieldError>) -> Result<(), Vec<FieldError>> {
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn other(family: &str) -> &'static str {
    if family == "IPv4" { "IPv6" } else { "IPv4" }
}

fn family_of(address: &str) -> &'static str {
    if address.contains(':') { "IPv6" } else { "IPv4" }
}

fn is_headless_without_selector(service: &Object) -> bool {
    let selector = service.get(&["spec", "selector"]).and_then(Value::as_object);
    service.text(&["spec", "clusterIP"]) == "None" && selector.is_none_or(serde_json::Map::is_empty)
}

/// A Service that prefers two families keeps what it has when the cluster comes to have two, or one.
fn stays_as_preferred(new: &Object, old: &Object) -> bool {
    let same = |field: &str| texts(new, field) == texts(old, field);
    new.text(&["spec", POLICY]) == PREFER
        && matches!(old.text(&["spec", POLICY]), "" | PREFER)
        && new.text(&["spec", "type"]) == old.text(&["spec", "type"])
        && same("clusterIPs")
        && same("ipFamilies")
}

fn default_policy(new: &mut Object, old: Option<&Object>) {
    if !new.text(&["spec", POLICY]).is_empty() {
        return;
    }
    let before = old.map(|old| old.text(&["spec", POLICY])).filter(|policy| !policy.is_empty());
    let policy = match before {
        Some(policy) => policy.to_owned(),
        None if is_headless_without_selector(new) => REQUIRE.to_owned(),
        None => SINGLE.to_owned(),
    };
    new.set(&["spec", POLICY], policy);
}

fn policy_error(service: &Object, why: &str) -> FieldError {
    FieldError::invalid(&Path::new("spec").child(POLICY), service.text(&["spec", POLICY]), why)
}

/// Who says that there is one family releases the second one; who leaves it out has to say so.
fn release_second(new: &mut Object, old: Option<&Object>, errors: &mut Vec<FieldError>) {
    let Some(old) = old else { return };
    let single = new.text(&["spec", POLICY]) == SINGLE;
    for (field, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        let (mut now, had) = (texts(new, field), texts(old, field));
        if single && now == had && now.len() > 1 {
            now.truncate(1);
            new.set(&["spec", field], json!(now));
        } else if !single && !now.is_empty() && now.len() < had.len() {
            errors.push(policy_error(new, &format!("must be '{SINGLE}' to release the secondary {what}")));
        }
    }
}

fn one_or_several(service: &Object, errors: &mut Vec<FieldError>) {
    if service.text(&["spec", POLICY]) != SINGLE {
        return;
    }
    for (field, what) in [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")] {
        if texts(service, field).len() == 2 {
            let why = format!("must be '{REQUIRE}' or '{PREFER}' when multiple {what} are specified");
            errors.push(policy_error(service, &why));
        }
    }
}

/// Addresses say which families they are of.
fn infer(ranges: &[Cidr], service: &mut Object, errors: &mut Vec<FieldError>) {
    let (addresses, mut families) = (texts(service, "clusterIPs"), texts(service, "ipFamilies"));
    let shown = json!(addresses);
    for (at, address) in addresses.iter().enumerate().take_while(|(_, address)| *address != "None") {
        if at < families.len() {
            continue;
        }
        let family = family_of(address);
        if ranges.iter().any(|range| range.family() == family) {
            families.push(family.to_owned());
        } else {
            let path = Path::new("spec").child("clusterIPs").index(at);
            let why = format!("{family} is not configured on this cluster");
            errors.push(FieldError::invalid(&path, shown.clone(), &why));
        }
    }
    if !families.is_empty() {
        service.set(&["spec", "ipFamilies"], json!(families));
    }
}

fn not_configured(ranges: &[Cidr], service: &Object, families: &[String]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if service.text(&["spec", POLICY]) == REQUIRE && ranges.len() < 2 {
        errors.push(policy_error(service, "this cluster is not configured for dual-stack services"));
    }
    for (at, family) in families.iter().enumerate() {
        if !ranges.iter().any(|range| range.family() == family) {
            let path = Path::new("spec").child("ipFamilies").index(at);
            errors.push(FieldError::invalid(&path, family.as_str(), "not configured on this cluster"));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(spec: &Value) -> Object {
        let mut spec = spec.clone();
        for (key, value) in [("type", json!("ClusterIP")), ("sessionAffinity", json!("None"))] {
            if spec.get(key).is_none() {
                spec[key] = value;
            }
        }
        let first = spec.pointer("/clusterIPs/0").cloned();
        if let Some(first) = first {
            spec["clusterIP"] = first;
        }
        Object::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).expect("an object")
    }

    /// `wanted` is the policy and families, or the errors.
    fn check(dual: bool, new: &Value, old: Option<&Value>, wanted: Result<(&str, &[&str]), &[&str]>) {
        let four: Cidr = "10.96.0.0/16".parse().expect("a range");
        let six: Cidr = "fd00::/108".parse().expect("a range");
        let ranges = if dual { vec![four, six] } else { vec![four] };
        let (mut new, old) = (service(new), old.map(service));
        let outcome = fill_in(&ranges, &mut new, old.as_ref());
        match (outcome, wanted) {
            (Ok(()), Ok((policy, families))) => {
                assert_eq!(
                    (new.text(&["spec", POLICY]), texts(&new, "ipFamilies")),
                    (policy, families.iter().map(|f| (*f).to_owned()).collect())
                );
            }
            (Err(errors), Err(want)) => {
                assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), want);
            }
            (outcome, wanted) => panic!("{outcome:?} where {wanted:?} was wanted"),
        }
    }

    #[test]
    fn a_new_service_has_the_families_of_the_cluster() {
        check(false, &json!({}), None, Ok((SINGLE, &["IPv4"])));
        check(true, &json!({}), None, Ok((SINGLE, &["IPv4"])));
        check(true, &json!({"ipFamilies": ["IPv6"]}), None, Ok((SINGLE, &["IPv6"])));
        check(true, &json!({"ipFamilyPolicy": PREFER}), None, Ok((PREFER, &["IPv4", "IPv6"])));
        check(false, &json!({"ipFamilyPolicy": PREFER}), None, Ok((PREFER, &["IPv4"])));
        check(
            true,
            &json!({"ipFamilyPolicy": REQUIRE, "ipFamilies": ["IPv6"]}),
            None,
            Ok((REQUIRE, &["IPv6", "IPv4"])),
        );
        check(true, &json!({"clusterIPs": ["fd00::5"]}), None, Ok((SINGLE, &["IPv6"])));
    }

    #[test]
    fn who_leads_where_it_says_itself_has_both_families() {
        check(false, &json!({"clusterIPs": ["None"]}), None, Ok((REQUIRE, &["IPv4", "IPv6"])));
        check(false, &json!({"clusterIPs": ["None"], "selector": {"a": "b"}}), None, Ok((SINGLE, &["IPv4"])));
        check(false, &json!({"clusterIPs": ["None"], "ipFamilyPolicy": SINGLE}), None, Ok((SINGLE, &["IPv4"])));
    }

    #[test]
    fn what_the_cluster_has_not_is_refused() {
        check(
            false,
            &json!({"ipFamilyPolicy": REQUIRE, "ipFamilies": ["IPv6"]}),
            None,
            Err(&[
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
                "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
            ]),
        );
        check(
            false,
            &json!({"clusterIPs": ["fd00::5"]}),
            None,
            Err(&["spec.clusterIPs[0]: Invalid value: [\"fd00::5\"]: IPv6 is not configured on this cluster"]),
        );
        check(
            true,
            &json!({"ipFamilies": ["IPv4", "IPv6"]}),
            None,
            Err(&[
                "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
            ]),
        );
        check(
            true,
            &json!({"clusterIPs": ["x"]}),
            None,
            Err(&[
                "spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ]),
        );
    }

    #[test]
    fn the_second_family_goes_when_it_is_said_so() {
        let two =
            json!({"clusterIPs": ["10.96.0.5", "fd00::5"], "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": PREFER});
        let mut one = two.clone();
        one[POLICY] = json!(SINGLE);
        check(true, &one, Some(&two), Ok((SINGLE, &["IPv4"])));
        check(
            true,
            &json!({"clusterIPs": ["10.96.0.5"], "ipFamilies": ["IPv4"]}),
            Some(&two),
            Err(&[
                "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to release the secondary cluster IP",
                "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to release the secondary IP family",
            ]),
        );
        let first = json!({"clusterIPs": ["10.96.0.5"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": PREFER});
        check(true, &first, Some(&first), Ok((PREFER, &["IPv4"])));
    }
}
