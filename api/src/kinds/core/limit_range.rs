//! LimitRanges (upstream: `pkg/registry/core/limitrange`).

use std::collections::{BTreeSet, HashSet};

use serde_json::Value;

use crate::kinds::kind::Kind;
use crate::kinds::pods::{requirements, resources};
use crate::kinds::rules::fill::{self, each, object, text};
use crate::kinds::rules::tree::{Errors, Fields, Node};
use crate::kinds::rules::{naming, quantities};
use crate::object::Object;
use crate::quantity::Quantity;

pub(crate) const KIND: Kind = Kind {
    short_names: &["limits"],
    default,
    validate,
    rechecks: (1, 0),
    create_on_update: true,
    ..Kind::namespaced("limitranges", "LimitRange")
};

/// Defaults of a `LimitRange`: what a container gets when it asks for nothing follows from the limits.
fn default(object: &mut Object) {
    let spec = fill::object(object.root_mut(), "spec");
    each(spec, "limits", |item| {
        if text(item, "type") != "Container" {
            return;
        }
        fill_limits(item, "default", &["max"]);
        fill_limits(item, "defaultRequest", &["default", "min"]);
    });
}

/// Copies quantities that `target` lacks from `sources`, first source first.
fn fill_limits(item: &mut Fields, target: &str, sources: &[&str]) {
    for source in sources {
        let Some(from) = item.get(*source).and_then(Value::as_object).filter(|f| !f.is_empty()).cloned() else {
            continue;
        };
        let into = object(item, target);
        for (name, quantity) in from {
            into.entry(name).or_insert(quantity);
        }
    }
}

fn validate(range: &Node<'_, '_>, errors: &mut Errors) {
    let mut types = HashSet::new();
    let spec = range.field("spec");
    for limit in spec.field("limits").items() {
        let kind = limit.field("type");
        for why in limit_type(kind.text()) {
            errors.invalid_value(&kind, kind.text(), &why);
        }
        if !types.insert(kind.text()) {
            errors.duplicate(&kind);
        }
        one_limit(&limit, kind.text(), errors);
    }
}

fn limit_type(kind: &str) -> Vec<String> {
    let mut wrong = naming::qualified_name(kind);
    if wrong.is_empty() && !kind.contains('/') && !matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim") {
        wrong.push("must be a standard limit type or fully qualified".to_owned());
    }
    wrong
}

fn one_limit(limit: &Node<'_, '_>, kind: &str, errors: &mut Errors) {
    let of_pod = kind == "Pod";
    for key in ["default", "defaultRequest"] {
        let field = limit.field(key);
        if of_pod && !field.is_empty() {
            errors.forbidden(&field, "may not be specified when `type` is 'Pod'");
        }
    }
    let lists: &[&str] = if of_pod {
        &["max", "min", "maxLimitRequestRatio"]
    } else {
        &["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"]
    };
    let mut names = BTreeSet::new();
    for list in lists {
        for (name, at) in limit.field(list).entries() {
            if of_pod || kind == "Container" {
                requirements::container_name(name, &at, errors);
            } else {
                requirements::name(name, &at, errors);
            }
            names.insert(name);
        }
    }
    let storage = |list: &str| limit.field(list).field("storage").is_set();
    if kind == "PersistentVolumeClaim" && !storage("min") && !storage("max") {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        errors.required(&limit.field("limits"), why);
    }
    for name in names {
        Bounds { limit, lists, name }.check(errors);
    }
}

/// The bounds of one resource.
struct Bounds<'a, 'p, 'v> {
    limit: &'a Node<'p, 'v>,
    lists: &'a [&'a str],
    name: &'v str,
}

impl Bounds<'_, '_, '_> {
    fn quantity(&self, list: &str) -> Option<Quantity> {
        if self.lists.contains(&list) { quantities::parse(&self.limit.field(list).field(self.name)) } else { None }
    }

    fn invalid(&self, list: &str, shown: Quantity, why: &str, errors: &mut Errors) {
        errors.invalid_value(&self.limit.field(list).key(self.name), shown.to_string(), why);
    }

    fn check(&self, errors: &mut Errors) {
        self.order(errors);
        self.ratio(errors);
        let (default, request) = (self.quantity("default"), self.quantity("defaultRequest"));
        let overcommit = resources::is_native(self.name) && !self.name.starts_with("hugepages-");
        if let (Some(default), Some(request), false) = (default, request, overcommit)
            && default != request
        {
            let why = format!("default value {default} must equal to defaultRequest value {request} in {}", self.name);
            self.invalid("defaultRequest", request, &why, errors);
        }
    }

    /// min <= default request <= default <= max, as far as they are given. Upstream shows the bound of a default.
    fn order(&self, errors: &mut Errors) {
        for (low, low_name, high, high_name, list, shown) in [
            ("min", "min", "max", "max", "min", "min"),
            ("min", "min", "defaultRequest", "default request", "defaultRequest", "defaultRequest"),
            ("defaultRequest", "default request", "max", "max", "defaultRequest", "defaultRequest"),
            ("defaultRequest", "default request", "default", "default limit", "defaultRequest", "defaultRequest"),
            ("min", "min", "default", "default", "default", "min"),
            ("default", "default", "max", "max", "default", "max"),
        ] {
            let (Some(low), Some(high), Some(shown)) = (self.quantity(low), self.quantity(high), self.quantity(shown))
            else {
                continue;
            };
            if low > high {
                let why = format!("{low_name} value {low} is greater than {high_name} value {high}");
                self.invalid(list, shown, &why, errors);
            }
        }
    }

    fn ratio(&self, errors: &mut Errors) {
        const LIST: &str = "maxLimitRequestRatio";
        let Some(ratio) = self.quantity(LIST) else { return };
        if ratio.milli_value() < 1000 {
            self.invalid(LIST, ratio, &format!("ratio {ratio} is less than 1"), errors);
        }
        if let (Some(min), Some(max)) = (self.quantity("min"), self.quantity("max")) {
            let most = max.to_f64() / min.to_f64();
            if ratio.to_f64() > most {
                let why = format!("ratio {ratio} is greater than max/min = {most:.6}");
                self.invalid(LIST, ratio, &why, errors);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::rules::checks::check_spec;
    use serde_json::json;

    #[test]
    fn limits_are_in_order() {
        check_spec(
            validate,
            json!({"limits": [{"type": "Container", "max": {"cpu": "2"}, "default": {"cpu": "1"}, "defaultRequest": {"cpu": "1500m"}}]}),
            &[
                "spec.limits[0].defaultRequest[cpu]: Invalid value: \"1500m\": default request value 1500m is greater than default limit value 1",
            ],
        );
        check_spec(
            validate,
            json!({"limits": [{"type": "Pod", "min": {"cpu": "1"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "3"}}]}),
            &[
                "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"3\": ratio 3 is greater than max/min = 2.000000",
            ],
        );
    }
}
